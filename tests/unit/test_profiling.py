"""Where a run's time went: the clock's parts, kept across kills and resumes, and the command that shows them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mtrepro import paths, running, terminal
from mtrepro.engine import checkpoint
from mtrepro.engine.clock import MEANING, Clock, worked
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import MtreproError
from mtrepro.history import History
from mtrepro.options import Options
from mtrepro.process import train
from mtrepro.profiling import find_run, keeping_share, print_profile, read_profile
from tests.conftest import call, contents, toy_specification, write_run
from tests.contract.processes import run_record, state_folder

SAVES_OFTEN = Options(device="cpu", checkpoint_seconds=0.0)


class Time:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class StopAfter(StopRequest):
    """A request to stop that comes at the nth look, as if a signal had; or the process dies there."""

    def __init__(self, looks: int, dies: bool = False) -> None:
        super().__init__()
        self.looks, self.dies = looks, dies

    def __bool__(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            if self.dies:
                raise KeyboardInterrupt
            self.status, self.name = 75, "SIGTERM"
        return super().__bool__()


# The clock


def test_every_moment_is_in_one_part_and_the_parts_add_up() -> None:
    time = Time()
    clock = Clock("start-up", begun=97.0, now=time)
    for part, seconds in (("update", 2.0), ("policy", 3.0), ("update", 5.0), ("waiting", 7.0)):
        clock.enter(part)  # type: ignore[arg-type]
        time.now += seconds
    parts = clock.parts()
    assert parts == dict.fromkeys(MEANING, 0.0) | {"start-up": 3.0, "update": 7.0, "policy": 3.0, "waiting": 7.0}
    assert sum(parts.values()) == time.now - 97.0 and worked(parts) == 13.0
    time.now += 1.0
    assert clock.parts()["waiting"] == 8.0, "the part under way goes on"


def test_a_resumed_history_goes_on_where_the_checkpoint_was_and_forgets_what_came_after() -> None:
    time = Time()
    first = History(Clock("update", now=time))
    time.now += 10.0
    saved = json.loads(json.dumps(first.account(5)))
    time.now += 1000.0  # lost with the process
    second = History(Clock("start-up", now=time))
    time.now += 2.0
    second.resume(saved, 5)
    second.clock.enter("update")
    time.now += 8.0
    second.account(9)
    record = second.record()
    assert record["parts"] == dict.fromkeys(MEANING, 0.0) | {"start-up": 2.0, "update": 18.0}
    assert (record["seconds"], record["resumes"], record["exact"]) == (20.0, 1, True)
    assert [row[:3] for row in second.timing] == [[5, 10.0, 0.5], [9, 20.0, 0.4]]


# A run


@pytest.mark.parametrize("dies", [False, True], ids=["saved at a signal", "died"])
def test_stopped_and_continued_the_parts_go_on_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    monkeypatch.setattr(running, "COST_SHARE", 1e9)  # save at every moment, whatever it costs
    path = write_run(tmp_path, toy_specification())
    stop = StopAfter(150, dies)
    if dies:
        with pytest.raises(KeyboardInterrupt):
            train(path, SAVES_OFTEN, stop)
    else:
        assert train(path, SAVES_OFTEN, stop) == 75
    state = checkpoint.load(state_folder(path), print)
    assert state is not None and 0 < state["trainer"]["step"] < 120
    before = state["history"]["parts"]
    assert before["update"] > 0 and before["policy"] > 0 and before["environment"] > 0
    assert train(path, SAVES_OFTEN, StopRequest()) == 0
    record = run_record(path)
    assert record["resumes"] == 1
    assert all(record["parts"][part] >= seconds for part, seconds in before.items())
    assert all(record["parts"][part] > before[part] for part in ("start-up", "update", "checkpoint", "evaluation"))
    assert record["seconds"] == pytest.approx(sum(record["parts"].values()) - record["parts"]["waiting"])
    last = (path.parent / "timing.csv").read_text().splitlines()[-1]
    assert float(last.split(",")[1]) == record["seconds"]


def test_looking_at_the_time_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path / "with", toy_specification())
    assert train(path, Options(device="cpu"), StopRequest()) == 0
    monkeypatch.setattr(Clock, "enter", lambda clock, part: None)
    other = write_run(tmp_path / "without", toy_specification())
    assert train(other, Options(device="cpu"), StopRequest()) == 0
    assert sum(run_record(other)["parts"].values()) == 0 < sum(run_record(path)["parts"].values())
    assert contents(path.parent) == contents(other.parent)


# The command


def a_run(tmp_path: Path, **record: Any) -> Path:
    """The folder of a run with this run.json, or without one."""
    folder = write_run(tmp_path / "results" / "runs", toy_specification()).parent
    if record:
        (folder / "run.json").write_text(json.dumps({"status": "done", "step": 100, "budget": 100, **record}))
    return folder


PARTS = {"update": 30.0, "policy": 6.0, "waiting": 60.0, "metrics": 1.0, "progress": 1.0, "checkpoint": 2.0}


def test_the_table_has_seconds_share_and_milliseconds_of_each_part_and_their_sum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_profile(str(a_run(tmp_path, parts=PARTS)), as_json=False)
    said = capsys.readouterr().out
    cells = {
        words[0]: words[1:4]
        for line in said.splitlines()
        if len(words := [word.strip() for word in line.strip("│").split("│")]) == 5
    }
    assert cells["update"] == ["30.0", "30.0 %", "300.000"] and cells["waiting"] == ["60.0", "60.0 %", "600.000"]
    assert cells["together"] == ["100.0", "100.0 %", "1000.000"]
    assert "done, 100/100 steps" in said
    assert "metrics, progress, checkpoint together: 10.0 % of the time without waiting" in said
    assert "GPU" not in said.rpartition("together")[2]


def test_json_is_the_same_for_programs_and_a_gpu_gets_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(tmp_path, parts=PARTS, device="NVIDIA H100")
    print_profile(str(folder), as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["parts"] == PARTS and content["seconds"] == 100.0 and content["run"] == folder.name
    assert content["keeping_share"] == pytest.approx(0.1) and (content["step"], content["status"]) == (100, "done")
    print_profile(str(folder / "specification.yaml"), as_json=False)
    assert "on a GPU an update ends in the part that waits for its result" in capsys.readouterr().out


def test_a_run_is_found_by_its_name_and_a_slip_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_run(tmp_path)
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    assert paths.root() == tmp_path and find_run(folder.name) == folder == find_run(str(folder))
    with pytest.raises(MtreproError, match=rf"nor the name of a run in results/ \(nearest: {folder.name}\)"):
        find_run(folder.name[:-1])
    for other in ("../x", "", "[a", "no such"):
        with pytest.raises(MtreproError, match=r"neither a folder nor the name of a run|not the folder of a run"):
            find_run(other)
    with pytest.raises(MtreproError, match=r"not the folder of a run: it has no specification\.yaml"):
        find_run(str(folder.parent))
    study = tmp_path / "study.yaml"
    study.touch()
    with pytest.raises(MtreproError, match=r"a file, not a run\n  .*`mtrepro status STUDY`"):
        find_run(str(study))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, r"the run has told nothing yet.*\n.*mtrepro train .*specification.yaml"),
        ({"seconds": 5.0}, "an older version trained this run"),
        ({"parts": {"update": -1}}, r"run.json: parts.update: .*\n  the file is damaged"),
        ({"parts": PARTS, "step": "x"}, "run.json: step: "),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    with pytest.raises(MtreproError, match=message):
        print_profile(str(a_run(tmp_path, **record)), as_json=False)


def test_a_run_in_progress_tells_what_its_trainer_told_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "PROGRESS_SECONDS", -1.0)  # tell it at every moment
    path = write_run(tmp_path, toy_specification())
    assert train(path, Options(device="cpu"), StopAfter(80)) == 75
    profile, told = read_profile(path.parent)
    assert told is not None and profile.parts and profile.step > 0 and profile.status == "not over"
    assert set(profile.parts) == set(MEANING) and 0 < (keeping_share(profile.parts) or 0) < 1
    capsys.readouterr()
    print_profile(str(path.parent), as_json=False)
    assert f"{profile.step}/120 steps, as told " in capsys.readouterr().out
    (path.parent / "run.json").write_text(json.dumps({"status": "done", "step": 120, "budget": 120, "parts": PARTS}))
    os.utime(path.parent / "run.json", (5, 5))
    assert read_profile(path.parent)[1] is not None, "an older result, and the run is made again"
    os.utime(path.parent / "run.json")
    assert read_profile(path.parent)[0].parts == PARTS


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    said = call("profile", a_run(tmp_path, parts=PARTS))
    assert said.returncode == 0 and all(part in said.stdout for part in PARTS), said.stderr


def test_no_time_is_no_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_profile(str(a_run(tmp_path, parts={"update": 0.0}, step=0)), as_json=False)
    assert "%" not in capsys.readouterr().out
