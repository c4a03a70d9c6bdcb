"""A run in its own process, killed and started again: the files are those of a run that nothing disturbed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mtrepro.benchmarks.metaworld import Settings as MetaworldSettings
from tests.conftest import call, command, contents, write_run
from tests.contract.processes import Undisturbed, comes, longer, run_record, start, state_folder

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


def test_killed_with_its_frames_in_files_it_ends_with_the_same_files(tmp_path: Path, undisturbed: Undisturbed) -> None:
    specification = longer(900, method="dreamer", settings={"replay_frames": 300})
    path = write_run(tmp_path, specification)
    process = start(path)

    def some_frames() -> bool:
        held = (state_folder(path) / "frames").glob("*.records")
        return sum(file.stat().st_size for file in held) > 10 * 16 * 16 * 3

    assert comes(some_frames)
    process.kill()
    process.communicate()
    frames = list((state_folder(path) / "frames").glob("*.records"))
    assert frames, "the run was over before it could be killed: make it longer"
    assert max(file.stat().st_size for file in state_folder(path).glob("*.pt")) < 200_000, "no frame is in a checkpoint"
    again = call("train", path)
    assert again.returncode == 0 and "continuing at step" in again.stderr
    assert contents(path.parent) == undisturbed(specification)
    assert not frames[0].exists(), "a finished run keeps no frames"


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
    assert comes(lambda: (tmp_path / ".state").exists())
    parent.kill()
    assert comes(lambda: (path.parent / "run.json").exists())
    assert comes(lambda: bool(list((tmp_path / ".state").glob("*/source-*/*-*.pt"))))
    assert comes(lambda: not list((tmp_path / ".state").glob("*/lease.json"))), "it is still at work"
    for name in ("evaluation.csv", "training.csv", "timing.csv", "run.json"):
        (path.parent / name).unlink()  # as Snakemake does before it starts a job again
    again = call("train", path, "--wait")
    assert "continuing at step 1500" in again.stderr
    assert contents(path.parent) == undisturbed(specification)
    assert not list((tmp_path / ".state").glob("*/source-*"))
