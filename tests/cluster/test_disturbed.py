"""Whatever happens to runs on the cluster, they end with the files of runs that nothing disturbed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .moments import BUDGET, MOMENTS, RUNS, TIMES, disturb
from .slurm import LONG, Cluster, Study, slurm, wait_for

Scenario = Callable[
    [Cluster, float], Study
]  # what happens in a checkout; given how long a run trains, by the processor


def resumes(study: Study) -> list[int]:
    return [record["resumes"] for record in study.records()]


# Scenarios that do not get in each other's way, in the words of what they assert.


def a_signal_to_the_job_step_reaches_the_trainer_which_saves_and_is_submitted_again(
    cluster: Cluster, seconds: float
) -> Study:
    study = cluster.study(BUDGET, RUNS, tries=MOMENTS + 1)

    def send(seed: int) -> None:
        slurm("scancel", "--signal=USR1", f"{study.job(seed)}.0")

    with study.running() as head:
        disturb(study, seconds, send, ends=True)
        said = head.ends()
    saved = set(re.findall(r"\[mt-sac s(\d+)\] saved at step \d+ on SIGUSR1; the same command continues", said))
    assert saved == set(map(str, range(RUNS)))
    logs = [file.read_text() for file in (cluster.checkout.path / ".snakemake/slurm_logs").rglob("*.log")]
    statuses = {status for log in logs for status in re.findall(r"returned non-zero exit status (\d+)", log)}
    assert statuses <= {"75"}  # a log that is cut short says none
    assert resumes(study) == TIMES
    assert len(study.submitted()) == RUNS + MOMENTS  # again by the head: the job itself does not try again
    return study


def a_requeued_job_continues(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET, RUNS)

    def requeue(seed: int) -> None:
        slurm("scontrol", "requeue", study.job(seed))

    with study.running() as head:
        disturb(study, seconds, requeue, ends=True)
        head.ends()
    assert resumes(study) == TIMES
    assert len(study.submitted()) == RUNS  # the same job, from the queue again
    return study


def a_trainer_that_is_killed_is_tried_again(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET, RUNS, tries=MOMENTS + 1)

    def kill(seed: int) -> None:
        os.kill(study.trainer(seed), signal.SIGKILL)

    with study.running() as head:
        disturb(study, seconds, kill, ends=True)
        head.ends()
    assert len(study.submitted()) == RUNS + MOMENTS
    return study


def a_killed_head_is_started_again_finds_its_jobs_and_submits_nothing_twice(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET, RUNS)
    one_after_the_other, in_line = threading.Lock(), set[int]()
    stopped = set[int]()

    def stop_all() -> bool:
        """So that no run is over before the next head is there."""
        for seed in study.training():
            with contextlib.suppress(ValueError):  # it ended just now
                trainer = study.trainer(seed)
                os.kill(trainer, signal.SIGSTOP)
                stopped.add(trainer)
        return True

    def restart_head(seed: int) -> None:
        mine = study.trainer(seed)
        in_line.add(mine)
        os.kill(mine, signal.SIGSTOP)
        with one_after_the_other:
            stop_all()
            study.heads[-1].kill()
            assert study.jobs(), "the jobs go on without their head"
            head = study.head()
            wait_for(lambda: stop_all() and head.works(), "the next head")
            in_line.discard(mine)
            for trainer in {mine, *stopped} - in_line:
                os.kill(trainer, signal.SIGCONT)
            stopped.clear()

    with study.running():
        disturb(study, seconds, restart_head)
        study.heads[-1].ends()
    cleared = "The head process before this one is dead; its lock was cleared."
    assert [cleared in head.said() for head in study.heads] == [False] + [True] * MOMENTS
    assert len(study.submitted()) == RUNS
    assert resumes(study) == [0] * RUNS
    return study


def a_run_that_finished_while_no_head_watched_is_not_done_again(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET)
    with study.running() as head:
        study.job()
        head.kill()
        wait_for(lambda: study.records() and not study.jobs(), "the job's end")
        study.head().ends()
    assert len(study.submitted()) == 1
    return study


def of_two_heads_at_once_one_leaves_and_the_other_finishes(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET)
    with study.running(), study.running():
        for head in study.heads:
            head.process.wait(LONG)
    refused = [head for head in study.heads if head.process.returncode]
    assert len(refused) == 1, "\n\n".join(head.said() for head in study.heads)
    assert "LockException" in refused[0].said() or "cannot be locked" in refused[0].said()
    assert len(study.submitted()) == 1
    return study


def seeds_as_a_job_array_are_one_submission(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET // 5, runs=3)
    with study.running("--until", "specify") as head:  # an array is of jobs that are ready at the same time
        head.ends()
        study.variables["MTREPRO_SLURM_ARRAYS"] = "train"
        study.head().ends()
    (line,) = study.submitted()
    assert line.rpartition(" --array=")[2].startswith("1-3 ")
    assert resumes(study) == [0, 0, 0]
    return study


def a_full_disk_stops_the_run_with_its_message_and_freeing_it_lets_it_finish(cluster: Cluster, seconds: float) -> Study:
    study = cluster.study(BUDGET, tries=1)
    state = study.results / ".state"
    state.mkdir(parents=True)
    slurm("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state))
    try:
        with study.running() as head:
            study.wait_until(0.3 * seconds)
            job = study.job()
            fill(state / "ballast")
            slurm("scancel", "--signal=USR1", f"{job}.0")  # to save, now
            said = head.ends(status=1)
        # Of the checkpoint, or of a heartbeat just before it.
        assert re.search(
            r"cannot (write the checkpoint of step \d+|be written): (\[Errno 28\] )?No space left on device", said
        )
        assert not study.records()
        (state / "ballast").unlink()
        study.head().ends()
    finally:
        slurm("umount", "-l", str(state))
    return study


def fill(file: Path) -> None:
    """Take all room that is left on a file's disk."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


SIDE_BY_SIDE: tuple[Scenario, ...] = (
    a_signal_to_the_job_step_reaches_the_trainer_which_saves_and_is_submitted_again,
    a_requeued_job_continues,
    a_trainer_that_is_killed_is_tried_again,
    a_killed_head_is_started_again_finds_its_jobs_and_submits_nothing_twice,
    a_run_that_finished_while_no_head_watched_is_not_done_again,
    of_two_heads_at_once_one_leaves_and_the_other_finishes,
    seeds_as_a_job_array_are_one_submission,
    a_full_disk_stops_the_run_with_its_message_and_freeing_it_lets_it_finish,
)


@pytest.fixture(scope="session")
def played(new_cluster: Callable[[], Cluster], undisturbed: Study) -> Iterator[dict[Scenario, Future[Study]]]:
    """All scenarios at once, each in a checkout of its own, because there is one head a checkout."""
    with ThreadPoolExecutor(len(SIDE_BY_SIDE)) as pool:
        yield {play: pool.submit(play, new_cluster(), undisturbed.seconds) for play in SIDE_BY_SIDE}


@pytest.mark.parametrize("play", SIDE_BY_SIDE, ids=lambda play: play.__name__)
def test_side_by_side(played: dict[Scenario, Future[Study]], undisturbed: Study, play: Scenario) -> None:
    assert played[play].result().matches(undisturbed)


# What concerns the whole cluster comes alone.


def test_a_node_whose_slurmd_stops_and_starts_loses_nothing(cluster: Cluster, undisturbed: Study) -> None:
    study = cluster.study(BUDGET, RUNS)
    one_after_the_other = threading.Lock()

    def restart_slurmd(seed: int) -> None:
        mine = study.trainer(seed)
        os.kill(mine, signal.SIGSTOP)  # in line, it would train on to its end
        with one_after_the_other:
            os.kill(mine, signal.SIGCONT)
            file = Path("/run/slurmd.pid")
            process = wait_for(lambda: file.exists() and file.read_text().strip(), "slurmd's number")
            os.kill(int(process), signal.SIGTERM)
            gone = ("pgrep", "-x", "slurmd")
            wait_for(lambda: subprocess.run(gone, capture_output=True, check=False).returncode, "no slurmd")
            slurm("slurmd")

    with study.running() as head:
        disturb(study, undisturbed.seconds, restart_slurmd)
        head.ends()
    assert study.matches(undisturbed)


def test_twenty_runs_interrupted_five_times_are_finished_by_the_same_command(cluster: Cluster) -> None:
    study = cluster.study(BUDGET // 5, runs=20)
    four_at_once = ("--jobs", "4")
    with study.running(*four_at_once) as head:
        for interruption in range(5):
            done = len(study.records())
            wait_for(lambda done=done: len(study.records()) > done, "one more run")
            head.kill()
            if interruption % 2:  # a whole cluster that goes down takes the jobs with it
                for job in study.jobs():
                    slurm("scancel", job)
            head = study.head(*four_at_once)
        head.ends()
    assert [record["status"] for record in study.records()] == ["done"] * 20
