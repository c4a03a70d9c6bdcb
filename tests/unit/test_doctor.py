"""`mtrepro doctor`: each check says what it finds, a failing one stops no other, only problems change the status."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtrepro import doctor, paths
from mtrepro.benchmarks import pixels_gl
from mtrepro.doctor import Finding, graphics, installation, machine
from mtrepro.errors import PROBLEMS_FOUND, SpecificationError

HASH = "--hash=sha256:" + "0" * 64


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "some.lock"
    path.write_text("".join(f"{line} \\\n    {HASH}\n" for line in lines))
    return path


def states(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def test_the_status_says_whether_there_is_a_problem_and_a_failing_check_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def well() -> Iterator[Finding]:
        yield Finding("first", "ok", "fine")
        yield Finding("second", "note", "not there\nnor there", "get one")

    def broken() -> Iterator[Finding]:
        raise RuntimeError("no [such] thing")

    def refused() -> Iterator[Finding]:
        raise SpecificationError("a.yaml: wrong\n  mend it")

    checks = {"well": well}
    monkeypatch.setattr(doctor, "_checks", lambda lock, quick: checks)
    assert doctor.examine(None, False) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "first", "fine"],
        ["note", "second", "not", "there"],
        ["nor", "there"],
        ["->", "get", "one"],
        ["1", "ok,", "1", "notes,", "0", "problems"],
    ]
    checks = {"broken": broken, "refused": refused, "well": well}
    assert doctor.examine(None, False) == PROBLEMS_FOUND == 4
    said = capsys.readouterr().out
    assert "the check itself failed: RuntimeError: no [such] thing" in said
    assert "a.yaml: wrong" in said and "-> mend it" in said and "1 ok, 1 notes, 2 problems" in said


def test_python_is_the_one_that_the_project_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((paths.PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]
    major, minor = installation.PYTHON
    assert project["requires-python"] == f">={major}.{minor},<{major}.{minor + 1}"
    assert states(installation.python()) == {"Python": "ok"}
    monkeypatch.setattr(installation, "PYTHON", (3, 99))
    (finding,) = installation.python()
    assert finding.state == "problem" and "use Python 3.99" in finding.advice


def test_versions_are_compared_with_the_lock_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = importlib.metadata.version("numpy")
    path = lock(tmp_path, f"NumPy=={numpy}", "PyYAML==0.1", "not-there==1.0")
    findings = list(installation.packages(path))
    assert [finding.state for finding in findings] == ["problem", "note"]
    assert findings[0].found == f"1 have another version: pyyaml {importlib.metadata.version('pyyaml')} (lock: 0.1)"
    assert "make setup" in findings[0].advice and "not installed: not-there" in findings[1].found
    monkeypatch.setenv("MTREPRO_LOCK", str(lock(tmp_path, f"numpy=={numpy}")))
    (finding,) = installation.packages(None)
    assert finding.state == "ok" and finding.found.startswith("1 of 1 packages of ")
    monkeypatch.setenv("MTREPRO_LOCK", str(tmp_path / "none.lock"))
    (finding,) = installation.packages(None)
    assert finding.state == "problem" and "none.lock: there is no such lock file" in finding.found
    assert "--lock or MTREPRO_LOCK" in finding.advice


def test_a_package_that_results_depend_on_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", list)
    monkeypatch.setattr(installation, "_other", lambda name, version: False)
    (finding,) = installation.packages(lock(tmp_path, "mujoco==3.3.0", "rich==14.0"))
    assert finding.state == "problem" and finding.found.endswith("not there: mujoco")


def test_a_machine_without_gpu_gl_git_or_containers_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(pixels_gl, "outcome", lambda process: (process.kill(), process.communicate(), "no library")[-1])
    monkeypatch.delenv("DISPLAY", raising=False)
    found = states(machine.tools()) | states(graphics.gl())
    assert found == {"containers": "note", "Slurm": "note", "history": "note", "GL": "note"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert states(graphics.gl()) | states(graphics.torch_and_gpu()) == {"GL": "note", "torch": "note"}


def test_an_environment_without_torch_can_be_examined() -> None:
    script = "import sys, mtrepro.doctor as d; d._checks(None, True); from mtrepro.doctor import machine\n"
    script += "list(machine.cores()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_driver_that_torch_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(graphics, "_driver", lambda: "470.1")
    found = {finding.check: finding for finding in graphics.torch_and_gpu()}
    assert found["GPU"].state == "problem" and "driver 470.1" in found["GPU"].found


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('rendered'); raise SystemExit(1)", None),
        ("import os; os.abort()", "ended by signal 6"),
        (
            "raise AttributeError(\"'NoneType' object has no attribute 'x'\")",
            "its library is not there (AttributeError",
        ),
        ("import time; time.sleep(60)", "did not answer within 2 s"),
    ],
)
def test_a_gl_backend_may_fail_in_any_way(monkeypatch: pytest.MonkeyPatch, script: str, reason: str | None) -> None:
    monkeypatch.setattr(pixels_gl, "RENDER", script)
    monkeypatch.setattr(pixels_gl, "SECONDS", 2.0 if reason and "answer" in reason else 60.0)
    said = pixels_gl.outcome(pixels_gl.start("egl"))
    assert said is None if reason is None else said is not None and said.startswith(reason)


@pytest.mark.parametrize(
    ("behaviour", "state", "words"),
    [
        ("sound", "ok", "file locks work"),
        ("no locks", "note", r"no file locks at .* \(No locks available\): heartbeats alone"),
        ("ignored", "problem", "hold nobody back"),
    ],
)
def test_file_locks_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, state: str, words: str
) -> None:
    def flock(*_: Any) -> None:
        if behaviour == "no locks":
            raise OSError(37, "No locks available")

    (tmp_path / "results").mkdir()
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    if behaviour != "sound":
        monkeypatch.setattr(fcntl, "flock", flock)
    (finding,) = machine.locks()
    assert finding.state == state and re.search(words, finding.found)
    assert not list((tmp_path / "results").iterdir()), "nothing is left behind"


def test_the_limits_of_a_control_group_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2 * machine.GIB}\n")
    assert machine.usable_cores() == 1
    (cores,), (memory,) = machine.cores(), machine.memory()
    assert "the control group allows 1.5" in cores.found
    assert memory.state == "note" and "allows 2.0 GiB" in memory.found and "mem_mb" in memory.advice
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.usable_cores() >= 1


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((100 * machine.GIB, "ok"), (machine.GIB, "note"), (0, "problem")):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: shutil._ntuple_diskusage(1, 1, free))
        assert states(machine.disk()) == {"disk": state}
