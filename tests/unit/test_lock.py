"""Locks: pinned, hashed, without addresses, as pyproject.toml asks; and what is known of their versions."""

from __future__ import annotations

import http.server
import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mtrepro import paths
from mtrepro.errors import MtreproError
from mtrepro.lock import read_lock

ROOT = paths.PACKAGE.parents[1]
HASH = "--hash=sha256:" + "0" * 64


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the checks read, to be changed."""
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "requirements.lock", "tools/uv.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_locks_of_this_checkout_are_whole_and_fit(checkout: Path) -> None:
    assert list(tool("check_repository").lock_mistakes()) == []
    assert read_lock(ROOT / "requirements.lock").versions["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        (f"numpy>=2 {HASH}", ":1: 'numpy>=2' is not pinned; expected name==version with hashes"),
        (f"# a comment\n\nnumpy==2.* {HASH}", ":3: 'numpy==2.*' is not pinned"),
        ("numpy==2.0", ":1: numpy has no sha256 hash"),
        ("numpy==2.0 --hash=sha256:12", ":1: numpy has no sha256 hash"),
        ("numpy==2.0 --hash=md5:" + "0" * 64, ":1: numpy has no sha256 hash"),
        (f"numpy==2.0 {HASH}\nnumpy==2.1 {HASH}", ":2: numpy is pinned twice, to 2.0 and 2.1"),
        (f"numpy @ https://example.org/numpy.whl {HASH}", ":1: holds an address"),
        ("--index-url https://example.org/simple", ":1: holds an address"),
        ("-r other.txt", ":1: '-r' is not pinned"),
        ("-e .", ":1: '-e' is not pinned"),
        ("git+ssh://example.org/x.git", ":1: holds an address"),
    ],
)
def test_a_line_that_is_not_pinned_and_hashed_is_a_mistake(tmp_path: Path, lines: str, mistake: str) -> None:
    path = tmp_path / "some.lock"
    path.write_text(lines + "\n")
    assert read_lock(path).mistakes[0].startswith(f"{path}{mistake}")


def test_extras_markers_and_continued_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    path.write_text(f'A.b_C[x]==1.0 ; python_version > "3" \\\n    {HASH} \\\n    {HASH}\n')
    lock = read_lock(path)
    assert lock.versions == {"a-b-c": "1.0"} and lock.mistakes == ()
    with pytest.raises(MtreproError, match="there is no such lock file"):
        read_lock(tmp_path / "none.lock")


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ('"mujoco==3.3.0"', '"mujoco==3.4.0"', "requirements.lock: 3.3.0 is outside `mujoco==3.4.0` of pyproject.toml"),
        ('"rich>=14"', '"rich>=14", "leftpad"', "requirements.lock: nothing for `leftpad` of pyproject.toml"),
        ('"setuptools>=80"', '"setuptools>=999"', " is outside `setuptools>=999` of pyproject.toml"),
        ('["transformers==5.23.0"]', '["transformers>=5"]', "`transformers>=5` is not pinned"),
        ('["transformers==5.23.0"]', '["numpy==1.0"]', "`numpy==1.0`, but requirements.lock has"),
    ],
)
def test_a_lock_that_does_not_fit_the_project_is_named(checkout: Path, old: str, new: str, mistake: str) -> None:
    project = checkout / "pyproject.toml"
    assert old in project.read_text()
    project.write_text(project.read_text().replace(old, new))
    (said,) = tool("check_repository").lock_mistakes()
    assert mistake in said


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A service that answers like OSV, with the vulnerabilities of `known`; `raw` answers with other bytes."""
    state: dict[str, Any] = {"known": {}, "raw": None, "asked": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state["asked"] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            names = [query["package"]["name"] for query in state["asked"]]
            results = [{"vulns": [{"id": i} for i in state["known"][n]]} if n in state["known"] else {} for n in names]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state["raw"] or json.dumps({"results": results}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MTREPRO_AUDIT_SERVICE", f"http://127.0.0.1:{server.server_port}/v1/querybatch")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    server.shutdown()
    server.server_close()


def test_the_audit_asks_for_every_locked_version_and_names_what_is_known(
    checkout: Path, service: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    audit = tool("audit")
    assert audit.main() == 0
    asked = {(query["package"]["name"], query["version"]) for query in service["asked"]}
    assert asked >= set(read_lock(checkout / "requirements.lock").versions.items()) and "uv" in dict(asked)
    service["known"] = {"torch": ["GHSA-1", "PYSEC-2"]}
    assert audit.main() == 0
    assert audit.main(strict=True) == 1
    said = capsys.readouterr().out
    assert "torch 2.13.0: GHSA-1 (https://osv.dev/GHSA-1): not accepted" in said
    assert "2 vulnerabilities that nobody accepted" in said
    with (checkout / "pyproject.toml").open("a") as project:
        project.write('\n[tool.mtrepro.audit]\nGHSA-1 = "not our use"\nPYSEC-2 = "nor this"\nGHSA-0 = "old"\n')
    assert audit.main(strict=True) == 0
    said = capsys.readouterr().out
    assert "GHSA-1): accepted: not our use" in said
    assert "GHSA-0 is accepted in pyproject.toml, but nothing has it any more" in said


@pytest.mark.parametrize("answer", [b"<html>a gateway</html>", b'{"results": []}', b'{"code": 3}', b"[1]"])
def test_an_audit_without_a_service_is_skipped_and_says_so(
    checkout: Path, service: dict[str, Any], capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    service["raw"] = answer
    assert tool("audit").main() == 0
    assert capsys.readouterr().out.startswith("audit: skipped: http://127.0.0.1:")


def test_an_audit_without_a_network_is_skipped(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTREPRO_AUDIT_SERVICE", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert tool("audit").main() == 0
    assert "audit: skipped: http://127.0.0.1:9/ not reachable" in capsys.readouterr().out
