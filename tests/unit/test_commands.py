"""The command line: one line of words for a slip, never a traceback, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mtrepro import accepting, documenting, paths, planning, releasing, source
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.results import RESULT_FILES
from mtrepro.study import load_study
from mtrepro.terminal import duration
from mtrepro.workflow import Study
from tests.conftest import call
from tests.unit.test_specification import STUDY


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own with the real configuration and a tiny study."""
    shutil.copytree(paths.root() / "config", tmp_path / "config")
    (tmp_path / "config" / "accepted.yaml").unlink(missing_ok=True)
    (tmp_path / "config" / "studies" / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    accepting._connected.cache_clear()
    return tmp_path


def test_every_command_has_a_help_line() -> None:
    said = call("--help", COLUMNS="200")
    assert said.returncode == 0
    for command in (
        "plan",
        "status",
        "profile",
        "clean",
        "specify",
        "train",
        "film",
        "pictures",
        "manifest",
        "aggregate",
        "tables",
        "figures",
        "show",
        "release",
        "doctor",
        "docs",
    ):
        line = next(line for line in said.stdout.splitlines() if f" {command} " in line)
        assert len(line.strip("│ ").split(maxsplit=1)[1]) > 20, line


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("plan", "config/studies/closng.yaml"), 2, "there is no such file (nearest: closing.yaml)"),
        (("specify", "config/demo.yaml", "mt_sac-s0-000000000000", "-o", "x.yaml"), 2, "unknown run 'mt_sac-s0-0000"),
        (("train", "nowhere/specification.yaml"), 2, "nowhere/specification.yaml: there is no such file"),
        (("profile", "nowhere"), 2, "nowhere: neither a folder nor the name of a run"),
        (("show", "nowhere"), 2, "no tables yet"),
        (("aggregate", "nowhere"), 2, "manifest.json"),
        (("figures", "nowhere", "-o", "x"), 2, "run `mtrepro aggregate` first"),
        (("release", "config/demo.yaml"), 2, "8 of 8 runs are missing"),
        (("accept", "config/demo.yaml", "--reason", " "), 2, "--reason must say why"),
        (("plan", "config/latin.yaml"), 2, "config/latin.yaml: not UTF-8 text (byte 10)"),
        (("plan", "config/keys.yaml"), 2, "config/keys.yaml:1:3: a key must be a word"),
        (("doctor", "--record", "toi"), 2, "unknown benchmark family 'toi'"),
        (("plann", "x"), 2, "No such command 'plann'"),
    ],
)
def test_a_slip_is_one_message_and_writes_nothing(
    checkout: Path, words: tuple[str, ...], status: int, part: str
) -> None:
    (checkout / "config/latin.yaml").write_bytes(b"title: caf\xe9\n")
    (checkout / "config/keys.yaml").write_text("? [1, 2]\n: 3\n")
    before = sorted(path for path in checkout.rglob("*") if path.is_file())
    said = call(*words)
    assert said.returncode == status and part in said.stderr, said.stderr
    assert "Traceback" not in said.stderr
    assert sorted(path for path in checkout.rglob("*") if path.is_file()) == before


def finish(checkout: Path, source_digest: str) -> list[Path]:
    """Give every run of the tiny study the record of a finished one."""
    files = []
    for run in load_study(checkout / "config/studies/tiny.yaml").runs:
        file = checkout / "results/runs" / run.name / "run.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"source_digest": source_digest}))
        files.append(file)
    return files


def test_accept_records_today_as_the_same_as_then_and_leaves_the_runs_alone(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = finish(checkout, "older")
    before = [file.read_text() for file in files]
    study = checkout / "config/studies/tiny.yaml"
    accepting.accept_study(study, "a faster loop, same bits")
    today = source.run_source("mt_sac", "toy").digest()
    assert accepting.same_results(today, "older") and not accepting.same_results(today, "other")
    assert [file.read_text() for file in files] == before
    written = yaml.safe_load((checkout / "config/accepted.yaml").read_text())
    assert written["accepted"] == [{"source": today, "same_as": "older", "reason": "a faster loop, same bits"}]
    assert "recorded 1 accepted source digests in config/accepted.yaml" in capsys.readouterr().out
    with pytest.raises(SpecificationError, match="no finished run was made by other code than today's"):
        accepting.accept_study(study, "again")


def test_seeds_made_by_different_code_are_accepted_together_and_stay_so(checkout: Path) -> None:
    files = finish(checkout, "a")
    files[1].write_text(json.dumps({"source_digest": "b"}))
    study = checkout / "config/studies/tiny.yaml"
    today = source.run_source("mt_sac", "toy").digest()
    accepting.accept_study(study, "same bits")
    assert accepting.same_results(today, "a") and accepting.same_results("b", "a")
    names = [run.name for run in load_study(study).runs]
    answered = [Study.load(str(study)).source_digest(name) for name in names]
    assert answered == ["a", "b", "a", "a"], "each job's param stays what it was when the job ran"
    files[1].write_text(json.dumps({"source_digest": "of other code"}))
    assert Study.load(str(study)).source_digest(names[1]) == today
    files[1].write_text("not JSON")
    assert Study.load(str(study)).source_digest(names[1]) == today


@pytest.mark.parametrize("lost", ["run.json", "timing.csv"])
def test_release_is_whole_or_not_at_all(checkout: Path, lost: str) -> None:
    for file in finish(checkout, "x"):
        for name in ("specification.yaml", *RESULT_FILES):
            file.with_name(name).touch()
    file.with_name(lost).unlink()
    with pytest.raises(MtreproError, match=r"1 of 4 runs are missing, the first is mt_sac-s1-"):
        releasing.release(checkout / "config/studies/tiny.yaml")
    assert not (checkout / "results/released").exists()


def test_a_release_that_fails_half_way_leaves_nothing(checkout: Path) -> None:
    for file in finish(checkout, "x"):
        for name in ("specification.yaml", *RESULT_FILES):
            file.with_name(name).touch()
    with pytest.raises(MtreproError):
        releasing.release(checkout / "config/studies/tiny.yaml")  # the files are empty
    assert not list((checkout / "results/released").iterdir())


def test_the_plan_lists_every_run_and_what_is_finished(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(checkout, "x")[1].unlink()
    planning.print_plan(checkout / "config/studies/tiny.yaml")
    lines = [line for line in capsys.readouterr().out.splitlines() if "mt_sac-s" in line]
    assert [("finished" in line, "to train" in line) for line in lines] == [(True, False), (False, True)] + [
        (True, False)
    ] * 2
    assert all("300" in line and "900" in line for line in lines), "steps and transitions"


def test_documents_are_current_and_an_edited_one_is_named(checkout: Path) -> None:
    shutil.copytree(paths.PACKAGE.parents[1] / "docs", checkout / "docs")
    shutil.copy(paths.PACKAGE.parents[1] / "README.md", checkout)
    documenting.write_documents(check=False)
    documenting.write_documents(check=True)
    page = checkout / "docs/methods/mt_sac.md"
    page.write_text(page.read_text().replace("`width`", "`breadth`"))
    with pytest.raises(MtreproError, match=r"not current: docs/methods/mt_sac.md\n  run `mtrepro docs`"):
        documenting.write_documents(check=True)


def test_schemas_accept_the_shipped_files_and_refuse_what_the_types_refuse() -> None:
    import jsonschema

    schema = json.loads((paths.root() / "config/schemas/study.schema.json").read_text())
    for path in [paths.root() / "config/demo.yaml", *(paths.root() / "config/studies").glob("*.yaml")]:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError, match="'bugdet' was unexpected"):
        jsonschema.validate(STUDY | {"bugdet": 1}, schema)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (61, "1:01 min"), (3599, "59:59 min"), (7260, "2:01 h")]
)
def test_durations_read_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
