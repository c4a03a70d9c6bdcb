"""Whatever happens to a run on the cluster, it ends with the files of a run that nothing disturbed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .slurm import Cluster, Head, Study, slurm, wait_for
from .test_runs import BUDGET, undisturbed

__all__ = ["undisturbed"]


def same(study: Study, undisturbed: Study) -> bool:
    """Whether a study has the finished run of the undisturbed one, byte for byte."""
    return study.contents() == undisturbed.contents() != {}


@contextlib.contextmanager
def in_the_middle(cluster: Cluster, undisturbed: Study, moment: float) -> Iterator[tuple[Study, Head]]:
    """A run at a moment of its training; what is done to it there must change nothing at its end."""
    study = cluster.study(BUDGET)
    with study.running() as head:
        study.wait_until(moment * undisturbed.seconds)
        yield study, head
        head.ends()
    assert same(study, undisturbed)


def test_a_signal_to_the_job_step_reaches_the_trainer_which_saves_and_is_submitted_again(
    cluster: Cluster, undisturbed: Study, moment: float
) -> None:
    with in_the_middle(cluster, undisturbed, moment) as (study, head):
        slurm("scancel", "--signal=USR1", f"{study.job()}.0")
    assert "on SIGUSR1; the same command continues" in head.said()
    assert study.records()[0]["resumes"] == 1
    assert len(study.submitted()) == 2  # once more, by the head: the job itself does not try again


def test_a_requeued_job_continues(cluster: Cluster, undisturbed: Study, moment: float) -> None:
    with in_the_middle(cluster, undisturbed, moment) as (study, _):
        slurm("scontrol", "requeue", study.job())
    assert study.records()[0]["resumes"] == 1
    assert len(study.submitted()) == 1  # the same job, from the queue again


def test_a_trainer_that_is_killed_is_tried_again(cluster: Cluster, undisturbed: Study, moment: float) -> None:
    with in_the_middle(cluster, undisturbed, moment) as (study, _):
        os.kill(study.trainer(), signal.SIGKILL)
    assert len(study.submitted()) == 2


def test_a_node_whose_slurmd_stops_and_starts_loses_nothing(
    cluster: Cluster, undisturbed: Study, moment: float
) -> None:
    with in_the_middle(cluster, undisturbed, moment):
        os.kill(int(Path("/run/slurmd.pid").read_text()), signal.SIGTERM)
        gone = ("pgrep", "-x", "slurmd")
        wait_for(lambda: subprocess.run(gone, capture_output=True, check=False).returncode, "no slurmd")
        slurm("slurmd")


def test_a_killed_head_is_started_again_finds_its_job_and_submits_nothing_twice(
    cluster: Cluster, undisturbed: Study, moment: float
) -> None:
    study = cluster.study(BUDGET)
    with study.running() as head:
        study.wait_until(moment * undisturbed.seconds)
        head.kill()
        assert study.jobs() or study.records(), "the job goes on without its head"
        again = study.head().ends()
    assert "The head process before this one is dead; its lock was cleared." in again
    assert len(study.submitted()) == 1
    assert study.records()[0]["resumes"] == 0
    assert same(study, undisturbed)


def test_a_run_that_finished_while_no_head_watched_is_not_done_again(cluster: Cluster, undisturbed: Study) -> None:
    study = cluster.study(BUDGET)
    with study.running() as head:
        study.job()
        head.kill()
        wait_for(lambda: study.records() and not study.jobs(), "the job's end")
        study.head().ends()
    assert len(study.submitted()) == 1
    assert same(study, undisturbed)


def fill(file: Path) -> None:
    """Take all room that is left on a file's disk."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def test_a_full_disk_stops_the_run_with_its_message_and_freeing_it_lets_it_finish(
    cluster: Cluster, undisturbed: Study
) -> None:
    study = cluster.study(BUDGET, tries=1)
    state = study.results / ".state"
    state.mkdir(parents=True)
    slurm("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state))
    try:
        with study.running() as head:
            study.wait_until(0.3 * undisturbed.seconds)
            fill(state / "ballast")
            slurm("scancel", "--signal=USR1", f"{study.job()}.0")  # to save, now
            said = head.ends(status=1)
        assert "cannot write the checkpoint of step" in said and "No space left on device" in said
        assert "free some space" in said
        assert not study.records()
        (state / "ballast").unlink()
        study.head().ends()
        assert same(study, undisturbed)
    finally:
        slurm("umount", "-l", str(state))


def test_of_two_heads_at_once_one_leaves_and_the_other_finishes(cluster: Cluster, undisturbed: Study) -> None:
    study = cluster.study(BUDGET)
    with study.running() as one, study.running() as other:
        heads: list[Head] = [one, other]
        for head in heads:
            head.process.wait(600)
    refused = [head for head in heads if head.process.returncode]
    assert len(refused) == 1, "\n\n".join(head.said() for head in heads)
    assert "LockException" in refused[0].said() or "cannot be locked" in refused[0].said()
    assert len(study.submitted()) == 1
    assert same(study, undisturbed)


@pytest.mark.slow
def test_twenty_runs_interrupted_five_times_are_finished_by_the_same_command(cluster: Cluster) -> None:
    study = cluster.study(600, seeds=str(list(range(20))), gpu=0)
    for interruption in range(5):
        with_results = len(study.records())
        head = study.head()
        wait_for(lambda seen=with_results: len(study.records()) > seen or study.jobs(), "a job")
        wait_for(lambda seen=with_results: len(study.records()) > seen or len(study.records()) == 20, "one more run")
        head.kill()
        if interruption % 2:  # a whole cluster that goes down takes the jobs with it
            for job in study.jobs():
                slurm("scancel", job)
    study.head().ends(seconds=1200)
    assert len(study.records()) == 20
    assert {record["status"] for record in study.records()} == {"done"}
