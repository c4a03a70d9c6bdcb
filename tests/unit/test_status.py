"""How the runs of a study stand, from their files alone: real runs, and files that were aged or damaged by hand."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mtrepro.engine import holder
from mtrepro.engine.lease import STALE_SECONDS
from mtrepro.engine.processes import started
from mtrepro.status import _last_success, counts, read_rows
from mtrepro.study import load_study
from tests.conftest import call
from tests.unit.study_fixture import LivedStudy

pytestmark = pytest.mark.xdist_group("lived")  # its runs are trained once


def lease(study: LivedStudy, arm: str, host: str = "another-machine", age: float = 0.0, heartbeat: float = 5.0) -> None:
    """A lease as another machine would have written it `age` seconds ago, its own clock at `heartbeat`."""
    file = study.state(arm) / "lease.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"schema_version": 1, "host": host, "process": 7, "heartbeat": heartbeat}))
    os.utime(file, (time.time() - age,) * 2)


# What real runs say


def test_every_run_says_how_it_stands(lived: LivedStudy) -> None:
    rows = {row.arm: row for row in read_rows(load_study(lived.study))}
    assert {arm: row.state for arm, row in rows.items()} == {
        "short": "done", "exploding": "diverged", "long": "saved", "longer": "failed", "never": "waiting",
    }  # fmt: skip
    assert rows["short"].step == rows["short"].budget == 300 and rows["short"].note == ""
    assert rows["short"].seconds is not None and rows["short"].steps_per_second == 300 / rows["short"].seconds
    assert re.fullmatch(r"the critic loss reached \S+, above 1e-06", rows["exploding"].note)
    assert rows["long"].note == "on SIGTERM, waits for its next try" and rows["longer"].note.startswith("process ")
    assert rows["never"].step is None and rows["never"].note == ""
    assert counts(list(rows.values())) == {"done": 1, "diverged": 1, "saved": 1, "failed": 1, "waiting": 1}


def test_a_saved_run_continues_from_its_newest_checkpoint(lived: LivedStudy) -> None:
    steps = [int(file.name[:12]) for file in lived.state("long").glob("source-*/*.pt")]
    assert lived.row("long").step == max(steps) > 0


def test_the_success_of_a_finished_run_is_that_of_its_last_evaluation(lived: LivedStudy) -> None:
    import pandas as pd

    table = pd.read_csv(lived.folder("short") / "evaluation.csv")
    last = table[(table.step == table.step.max()) & (table.metric == "success")]
    assert lived.row("short").success == last.value.mean() and len(last) < len(table)


def test_a_run_in_training_tells_step_speed_time_left_and_success(lived: LivedStudy) -> None:
    row = lived.in_training
    assert row is not None and row.state == "running" and row.note == f"on {socket.gethostname()}"
    assert row.step and row.steps_per_second and row.seconds_left and row.success is not None
    assert row.seconds_left == pytest.approx((row.budget - row.step) / row.steps_per_second)
    assert row.heartbeat_age is not None and 0 <= row.heartbeat_age <= STALE_SECONDS


def test_a_killed_process_of_this_machine_has_failed_at_once_with_its_last_line(lived: LivedStudy) -> None:
    process = json.loads((lived.state("longer") / "lease.json").read_text())["process"]
    last = lived.log("longer").read_text().splitlines()[-1].removeprefix("[longer s0] ")
    assert lived.row("longer").note == f"process {process} is gone; last line: {last}"
    lived.log("longer").unlink()
    assert lived.row("longer").note == f"process {process} is gone; no log"


# A heart that stopped


def test_a_heartbeat_that_stopped_on_another_machine_is_called_stalled(lived: LivedStudy) -> None:
    lease(lived, "long", age=200)
    row = lived.row("long")
    assert (row.state, row.note) == ("stalled", "process 7 on another-machine gave no heartbeat for 3:20 min")
    assert row.step and row.success is not None and row.steps_per_second is None


def test_a_process_of_this_machine_that_lives_but_does_not_beat_is_stalled_too(lived: LivedStudy) -> None:
    lease(lived, "long", age=200)
    file = lived.state("long") / "lease.json"
    written = file.stat().st_mtime
    file.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "heartbeat": 5.0}))
    os.utime(file, (written, written))
    assert lived.row("long").state == "stalled"


def test_a_process_number_that_is_used_again_is_not_the_trainer(lived: LivedStudy) -> None:
    lease(lived, "long", age=10)
    mine = {"host": socket.gethostname(), "process": os.getpid(), "heartbeat": 5.0}
    for begun, state in ((started(os.getpid()), "running"), ("1", "failed")):
        (lived.state("long") / "lease.json").write_text(json.dumps(mine | {"started": begun}))
        assert lived.row("long").state == state


@pytest.mark.parametrize("heartbeat", [5.0, 4e9], ids=["its clock is slow", "its clock is fast"])
def test_the_other_machines_clock_does_not_count(lived: LivedStudy, heartbeat: float) -> None:
    lease(lived, "long", age=1, heartbeat=heartbeat)
    assert lived.row("long").state == "running"
    lease(lived, "long", age=200, heartbeat=heartbeat)
    assert lived.row("long").state == "stalled"


def test_this_machines_clock_does_not_count_either(lived: LivedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    lease(lived, "long", age=1)
    hours_ahead = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: hours_ahead)
    assert lived.row("long").state == "running", "the file system's clock says when now is"
    monkeypatch.setattr(holder.tempfile, "TemporaryFile", read_only)
    assert lived.row("long").state == "stalled", "nothing can be written there: this machine's clock is all there is"


def read_only(**options: object) -> None:
    raise PermissionError


def test_a_new_try_is_not_credited_with_the_speed_of_the_one_before(lived: LivedStudy) -> None:
    lease(lived, "long", age=1)
    progress = lived.state("long") / "progress.json"
    os.utime(progress, (time.time() - 1000,) * 2)
    row = lived.row("long")
    assert (row.state, row.note) == ("running", "on another-machine, starting again")
    assert row.step and row.steps_per_second is None and row.seconds_left is None
    progress.unlink()
    assert lived.row("long").note == "on another-machine, starting"


# How a try ended


@pytest.mark.parametrize(
    ("log", "state", "note"),
    [
        ("[a] OutputError: x: cannot be written\n  free some space\n", "failed", "OutputError: x: cannot be written"),
        ("[a] KeyboardInterrupt: \n", "failed", "KeyboardInterrupt:"),
        ("$ mtrepro train x\n", "failed", "ended without a word after: $ mtrepro train x"),
        ("[a] step 5/9 | 1 steps/s\n", "failed", "ended without a word after: step 5/9 | 1 steps/s"),
        ("", "failed", "ended without a word after: an empty log"),
        ("[a] saved at step 5 on SIGUSR1; the same command continues\n", "saved", "on SIGUSR1, waits for its next try"),
        ("[a] done; results in results/runs/x\n", "waiting", ""),
        ("[a] diverged at step 5: a loss is not finite; results in x\n", "waiting", ""),
        (None, "saved", "no log says how its last try ended"),
    ],
)
def test_the_log_says_how_the_last_try_ended(lived: LivedStudy, log: str | None, state: str, note: str) -> None:
    lived.log("long").unlink()
    if log is not None:
        lived.log("long").write_text(log)
    row = lived.row("long")
    assert (row.state, row.note) == (state, note)


def test_state_of_other_code_is_nothing_to_continue_from(lived: LivedStudy) -> None:
    (folder,) = lived.state("long").glob("source-*")
    folder.rename(folder.with_name("source-0123456789abcdef"))
    row = lived.row("long")
    assert row.step is None
    assert row.note == "on SIGTERM by other code than today's: its next try starts afresh"


def test_a_finished_run_of_other_code_says_so(lived: LivedStudy) -> None:
    record = lived.folder("short") / "run.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"source_digest": "of other code"}))
    row = lived.row("short")
    assert (row.state, row.note) == ("done", "made by other code than today's")
    lease(lived, "short", age=1)
    assert lived.row("short").state == "running", "it is being made again"


# Damaged files


@pytest.mark.parametrize(
    ("arm", "file", "text", "state", "note"),
    [
        ("short", "run.json", '{"status": "do', "damaged", "run.json: Invalid JSON: EOF while parsing"),
        ("short", "run.json", "{}", "damaged", "run.json: status: Field required"),
        ("short", "evaluation.csv", None, "damaged", "evaluation.csv: missing beside run.json"),
        ("long", "lease.json", "\0\0", "damaged", "lease.json: not what a trainer writes"),
        ("long", "progress.json", "[", "damaged", "progress.json: Invalid JSON"),
    ],
)
def test_a_damaged_file_is_named_in_its_runs_row_and_the_others_are_shown(
    lived: LivedStudy, arm: str, file: str, text: str | None, state: str, note: str
) -> None:
    before = {row.arm: row for row in read_rows(load_study(lived.study))}
    path = (lived.state(arm) if file in ("lease.json", "progress.json") else lived.folder(arm)) / file
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    after = {row.arm: row for row in read_rows(load_study(lived.study))}
    assert after[arm].state == state and after[arm].note.startswith(note)
    assert {name for name in after if after[name] != before[name]} == {arm}


def test_damaged_progress_hides_no_living_trainer(lived: LivedStudy) -> None:
    lease(lived, "long", age=1)
    (lived.state("long") / "progress.json").write_text("[")
    row = lived.row("long")
    assert row.state == "running" and row.note.startswith("on another-machine; progress.json: Invalid JSON")


def test_a_record_of_another_run_is_not_this_runs_result(lived: LivedStudy) -> None:
    (lived.folder("short") / "run.json").write_bytes((lived.folder("exploding") / "run.json").read_bytes())
    assert lived.row("short").note == "run.json: of another specification"


@pytest.mark.parametrize(
    ("text", "success"),
    [
        ("step,task,episode,metric,value\n0,a,0,success,1\n10,a,0,success,0\n10,a,1,success,1\n", 0.5),
        ("step,task,episode,metric,value\n1,a,0,success,1\n11,a,0,success,0\n", 0.0),
        ("step,task,episode,metric,value\n", None),
        ("", None),
        ("step,task\n" + "0,a,0,success,1\n" * 9000 + "7,a,0,success,0\n" * 30_000, 0.0),
        ("7,a,0,success,0\n" * 30_000, 0.0),
    ],
    ids=["two evaluations", "steps with one head", "no rows", "empty", "longer than what is read at once", "no end"],
)
def test_the_last_evaluation_is_found_at_the_end_of_a_table(tmp_path: Path, text: str, success: float | None) -> None:
    (tmp_path / "evaluation.csv").write_text(text)
    assert _last_success(tmp_path / "evaluation.csv") == success


# The command


def test_the_command_prints_a_table_without_colours_and_the_counts(lived: LivedStudy) -> None:
    lived.log("longer").write_text("[bold]not markup[/bold]\n[longer s0] OutputError: [red]the disk is full\n")
    (lived.state("longer") / "lease.json").unlink()
    said = call("status", lived.study)
    assert said.returncode == 0 and "\x1b" not in said.stdout
    *_, line, logs = said.stdout.splitlines()
    assert line == "1 done, 1 diverged, 1 saved, 1 failed, 1 waiting"
    assert logs == "logs: results/runs/logs/train/<run>.log"
    (failed,) = (text for text in said.stdout.splitlines() if "longer" in text)
    assert "failed" in failed and "OutputError: [red]the disk is full" in failed and lived.name("longer") in failed
    (done,) = (text for text in said.stdout.splitlines() if " done " in text)
    assert "300/300" in done and "took " in done


def test_json_holds_every_row(lived: LivedStudy) -> None:
    said = json.loads(call("status", lived.study, "--json").stdout)
    rows = read_rows(load_study(lived.study))
    assert (said["schema_version"], said["study"]) == (1, "lived")
    assert said["counts"] == counts(rows) and [run["state"] for run in said["runs"]] == [row.state for row in rows]
    assert said["runs"][0] == json.loads(json.dumps(rows[0].as_dict()))


def test_watch_ends_when_all_runs_are_over_and_goes_with_no_json(lived: LivedStudy) -> None:
    study = yaml.safe_load(lived.study.read_text())
    study["arms"] = {arm: study["arms"][arm] for arm in ("short", "exploding")}
    lived.study.write_text(yaml.safe_dump(study))
    said = call("status", lived.study, "--watch")
    assert said.returncode == 0 and said.stdout.splitlines()[-1] == "1 done, 1 diverged", said.stderr
    refused = call("status", lived.study, "--watch", "--json")
    assert refused.returncode == 2 and refused.stderr.startswith("mtrepro: --watch and --json exclude each other")


def test_status_needs_no_torch_and_writes_nothing(lived: LivedStudy) -> None:
    before = sorted(lived.root.rglob("*"))
    code = "import sys; from mtrepro import cli; sys.argv[1:] = ['status', 'config/studies/lived.yaml']\n"
    code += "try: cli.main()\nfinally: print(sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]" and sorted(lived.root.rglob("*")) == before


def test_a_study_of_176_runs_is_read_in_well_under_a_second(lived: LivedStudy) -> None:
    resolved = load_study(lived.study)
    read_rows(resolved)  # the digests of today's code are read once
    many = type(resolved)(**vars(resolved) | {"runs": resolved.runs * 36})
    begun = time.process_time()
    assert len(read_rows(many)) == 180
    assert time.process_time() - begun < 0.5
