"""A run in its own process, killed and started again: the files are those of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro import paths
from mtrepro.benchmarks.metaworld import Settings as MetaworldSettings
from mtrepro.engine import checkpoint
from mtrepro.errors import SpecificationError
from mtrepro.specification import Specification, load_specification
from tests.conftest import SAME_FILES, call, command, contents, toy_specification, write_run

Undisturbed = Callable[[Specification], dict[str, bytes]]
OFTEN = ("--checkpoint-seconds", "0")  # as often as the share of time allows


def longer(budget: int = 1500, **changed: Any) -> Specification:
    """A toy run of some seconds, so that there is time to kill it."""
    return toy_specification(budget=budget, evaluation={"every": 400, "episodes": 3}, metrics_every=100, **changed)


def start(path: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run and wait until it trains."""
    process = subprocess.Popen(command("train", path, *OFTEN, *words), stderr=subprocess.PIPE, text=True)
    state = path.parent.parent / ".state" / path.parent.name
    seen = {file.name for file in state.glob("source-*/*.pt")}
    deadline = time.monotonic() + 120
    while not {file.name for file in state.glob("source-*/*.pt")} - seen:
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        if process.poll() is not None:  # it was nearly over, and has finished
            break
        time.sleep(0.01)
    return process


def state_folder(path: Path) -> Path:
    """Where the run's checkpoints are."""
    return next((path.parent.parent / ".state" / path.parent.name).glob("source-*"))


def run_record(path: Path) -> dict[str, Any]:
    return dict(json.loads((path.parent / "run.json").read_text()))


# Killed and continued


def test_two_runs_of_one_specification_are_identical(tmp_path: Path, undisturbed: Undisturbed) -> None:
    specification = longer()
    path = write_run(tmp_path, specification)
    assert call("train", path, "--workers", "2").returncode == 0
    assert contents(path.parent) == undisturbed(specification)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 76), (signal.SIGKILL, -9)]
)
def test_ended_by_a_signal_it_continues_to_the_same_files(
    tmp_path: Path, undisturbed: Undisturbed, number: signal.Signals, status: int
) -> None:
    specification = longer()
    path = write_run(tmp_path, specification)
    process = start(path)
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert not any((path.parent / name).exists() for name in ("evaluation.csv", "run.json"))
    if status > 0:
        assert f"on {number.name}; the same command continues" in said
    again = call("train", path)
    assert again.returncode == 0 and "continuing at step" in again.stderr
    assert contents(path.parent) == undisturbed(specification)
    assert run_record(path)["resumes"] == 1 and run_record(path)["exact"] is True
    assert not list((path.parent.parent / ".state").glob("*/source-*")), "a finished run keeps no checkpoints"


def test_killed_at_ten_random_moments_on_real_meta_world_it_ends_with_the_same_files(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    conditions = {"tasks": ["door-close-v3", "window-close-v3"], "protocol": "v3", "horizon": 60}
    settings = MetaworldSettings.model_validate(conditions).model_dump(mode="json")
    specification = longer(benchmark={"family": "metaworld", **settings})
    path = write_run(tmp_path, specification)
    moments = random.Random(0)
    kills = 0
    for _ in range(10):
        process = start(path)
        time.sleep(moments.uniform(0, 0.6))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= 8, "the run was over before it could be killed: make it longer"
    assert call("train", path).returncode == 0
    assert contents(path.parent) == undisturbed(specification)
    assert run_record(path)["resumes"] >= 8


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, undisturbed: Undisturbed) -> None:
    specification = longer()
    path = write_run(tmp_path, specification)
    process = start(path)
    while len(list(state_folder(path).glob("*.pt"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    newest = max(state_folder(path).glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    again = call("train", path)
    assert f"{newest}: damaged" in again.stderr and "continuing at step" in again.stderr
    assert contents(path.parent) == undisturbed(specification)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, full_disk: Path, undisturbed: Undisturbed) -> None:
    settings = {"replay_transitions": 60_000}
    specification = longer(settings=settings)
    path = write_run(full_disk, specification)
    ballast = full_disk / "ballast"
    process = start(path)
    ballast.write_bytes(b"0" * max(0, shutil.disk_usage(full_disk).free - 100_000))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 74, said
    assert "cannot write the checkpoint of step" in said or "cannot be written" in said
    assert "Traceback" not in said
    ballast.unlink()
    again = call("train", path)
    assert again.returncode == 0 and "continuing at step" in again.stderr
    assert contents(path.parent) == undisturbed(specification)


def test_an_orphan_keeps_its_last_checkpoint_so_that_its_work_is_not_done_again(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    specification = longer()
    path = write_run(tmp_path, specification)
    words = " ".join(command("train", path))
    parent = subprocess.Popen(["bash", "-c", f"{words} & wait"], stderr=subprocess.DEVNULL, start_new_session=True)
    while not (path.parent.parent / ".state").exists():
        time.sleep(0.05)
    parent.kill()
    while not (path.parent / "run.json").exists() or not list((tmp_path / ".state").glob("*/source-*/*.pt")):
        time.sleep(0.05)
    time.sleep(1)
    for name in ("evaluation.csv", "training.csv", "timing.csv", "run.json"):
        (path.parent / name).unlink()  # as Snakemake does before it starts a job again
    again = call("train", path, "--wait")
    assert "continuing at step 1500" in again.stderr
    assert contents(path.parent) == undisturbed(specification)
    assert not list((tmp_path / ".state").glob("*/source-*"))


# What is never resumed


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its configuration that can be edited."""
    for name in ("src", "config"):
        shutil.copytree(paths.root() / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("old", "new", "resumes"),
    [
        ("# eq. 7", "# equation seven: only a comment", True),
        ("- least).mean()", "- 0.5 * least).mean()", False),
    ],
    ids=["a comment", "an equation"],
)
def test_edited_code_starts_fresh_and_says_so_and_an_edited_comment_resumes(
    tmp_path: Path, copy: Path, old: str, new: str, resumes: bool
) -> None:
    path = write_run(tmp_path, longer())
    environment = {"PYTHONPATH": str(copy / "src"), "MTREPRO_ROOT": str(copy)}
    process = subprocess.Popen(command("train", path, *OFTEN), env=os.environ | environment, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".state/*/source-*/*.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    method = copy / "src" / "mtrepro" / "methods" / "mt_sac.py"
    assert old in method.read_text()
    method.write_text(method.read_text().replace(old, new))
    said = call("train", path, **environment).stderr
    assert ("continuing at step" in said) == resumes
    assert ("the code changed since step" in said and "(mtrepro.methods.mt_sac): starting afresh" in said) != resumes


def test_a_checkpoint_of_another_specification_is_refused(tmp_path: Path) -> None:
    path, other = (write_run(tmp_path, longer(seed=seed)) for seed in (0, 1))
    for each in (path, other):
        start(each).kill()
    time.sleep(0.2)
    for file in state_folder(path).glob("*.pt"):
        file.unlink()
    for file in state_folder(other).glob("*.pt"):
        shutil.copy(file, state_folder(path))
    refused = call("train", path)
    assert refused.returncode == 3
    assert "the checkpoint is of another specification\n  found:    " in refused.stderr
    assert "remove the folder to start this run afresh" in refused.stderr and "Traceback" not in refused.stderr


def test_other_threads_are_refused_or_marked_as_not_exact(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(budget=300))
    start(path).kill()
    time.sleep(0.2)
    refused = call("train", path, "--threads", "2")
    assert refused.returncode == 3
    assert "begun with other settings of the machine: threads 1 -> 2" in refused.stderr
    assert call("train", path, "--threads", "2", "--other-machine").returncode == 0
    assert run_record(path)["exact"] is False and run_record(path)["threads"] == 2


def test_a_second_trainer_leaves_and_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    process = start(path)
    second = call("train", path)
    assert second.returncode == 73 and "is training this run" in second.stderr
    assert process.wait(120) == 0
    before = (path.parent / "run.json").stat().st_mtime_ns
    third = call("train", path)
    assert third.returncode == 0 and "already done" in third.stderr
    assert (path.parent / "run.json").stat().st_mtime_ns == before


# Outcomes


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(settings={"critic_loss_limit": 1e-6}))
    finished = call("train", path)
    assert finished.returncode == 0, finished.stderr
    record = run_record(path)
    assert record["status"] == "diverged" and record["reason"].startswith("the critic loss reached ")
    assert record["step"] == 100 and "diverged at step 100: the critic loss reached" in finished.stderr
    assert all((path.parent / name).exists() for name in SAME_FILES)


def test_a_bad_specification_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    path.write_text(path.read_text().replace("width: 16", "widht: 16"))
    refused = call("train", path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("mtrepro: ") and "unknown key 'widht'" in refused.stderr
    assert "(nearest: width)" in refused.stderr and "Traceback" not in refused.stderr
    assert sorted(file.name for file in tmp_path.rglob("*")) == [path.parent.name, "specification.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: mt_sac", "method: mtsac", "method: unknown method 'mtsac'\n  known: "),
        ("random_steps: 40", "random_steps: 9999", "settings.random_steps: 9999 random steps leave nothing to learn"),
        ("  horizon: 20\n", "", "benchmark.horizon: not resolved, expected 20"),
        ("discount: 0.99", "discount: .inf", "settings.discount: input should be a finite number"),
        ("width: 16", "width: '16'", "settings.width: input should be a valid integer, found '16'"),
    ],
)
def test_a_specification_is_checked_like_a_study(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_run(tmp_path, longer())
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpecificationError, match=re.escape(message)):
        load_specification(path)


def test_a_run_has_one_state_folder_from_wherever_it_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(budget=60))
    assert (
        subprocess.run(command("train", path.name), cwd=path.parent, capture_output=True, check=False).returncode == 0
    )
    assert (tmp_path / ".state" / path.parent.name / "lease.lock").exists()
    assert not (path.parent / ".state").exists()


def test_a_terminal_that_went_away_ends_no_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(budget=60))
    log = tmp_path / "run.log"
    with open("/dev/full", "w") as full:
        words = command("train", path, "--log", log)
        assert subprocess.run(words, stderr=full, stdout=full, check=False).returncode == 0
    first, *_, last = log.read_text().splitlines()
    assert first == f"$ mtrepro train {path} --log {log}", "the command that can be pasted"
    assert "done; results in" in last


def test_an_unknown_device_is_named(tmp_path: Path) -> None:
    refused = call("train", write_run(tmp_path, longer()), "--device", "gpu")
    assert refused.returncode == 2
    assert refused.stderr == "mtrepro: --device gpu: unknown device\n  known: auto, cpu, cuda\n"


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    (tmp_path / ".state").write_text("a file in the way")
    refused = call("train", path)
    assert refused.returncode == 74
    assert f"{tmp_path}/.state/{path.parent.name}: cannot be written: Not a directory" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_checkpoint_holds_data_alone(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    start(path).kill()
    time.sleep(0.2)
    state = checkpoint.load(state_folder(path), print)
    assert state is not None and torch.load(max(state_folder(path).glob("*.pt")), weights_only=True)
