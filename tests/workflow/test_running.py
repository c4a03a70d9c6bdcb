"""Running for real: holes, failures, signals, refusals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import STUDY, TOY, Checkout


@pytest.fixture
def holes(chain: Checkout, tmp_path: Path) -> Checkout:
    """The chain with one of two seeds lost, and nothing drawn yet."""
    shutil.copytree(chain.path, tmp_path / "checkout", symlinks=True)
    checkout = Checkout(tmp_path / "checkout")
    (run,) = (checkout.path / "results/toy").glob("mt_sac-s1-*")
    shutil.rmtree(run)
    return checkout


def test_partial_shows_the_hole_and_trains_nothing(holes: Checkout) -> None:
    output = holes.snakemake("partial")
    assert "Rule: train" not in output
    folder = holes.path / "results/toy/study-toy/partial"
    table = (folder / "tables/result_table.md").read_text()
    assert "1/2" in table
    assert (folder / "report.html").stat().st_size > 100_000
    assert "Nothing to be done" in holes.snakemake("partial")


def test_failed_run_leaves_the_others_and_says_what_to_do(holes: Checkout) -> None:
    study = holes.path / STUDY
    study.write_text(TOY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]").replace("tries: 3", "tries: 1"))
    (name,) = (word for word in holes.run("mtrepro", "plan", STUDY).split() if word.startswith("mt_sac-s2-"))
    (holes.path / "results/toy/.state").mkdir(exist_ok=True)
    (holes.path / "results/toy/.state" / name).write_text("a file where the run's state folder should be")
    output = holes.snakemake("all", status=1)
    assert f"snakemake partial --configfile {STUDY}" in output
    assert len(list((holes.path / "results/toy").glob("mt_sac-s1-*/run.json"))) == 1


@contextlib.contextmanager
def long_study(chain: Checkout, name: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A study of one run of some seconds, started, already training and stopped; and the command that started it.

    Stopped, all its processes live, and none of them gets on before `go_on`, however slow the machine is.
    """
    text = TOY.replace("study: toy", f"study: {name}").replace("results/toy", f"results/{name}")
    text = text.replace("[0, 1]", "[7]").replace("budget: 120", "budget: 4000").replace("every: 40", "every: 1000")
    text = text.replace("  random: {method: random_policy, reference: true, budget: 0}\n", "")
    study = chain.path / "config" / "studies" / f"{name}.yaml"
    study.write_text(text)
    command = [
        "snakemake",
        "runs",
        "--profile",
        "workflow/profiles/local",
        "--configfile",
        f"config/studies/{name}.yaml",
    ]
    with subprocess.Popen(
        command, cwd=chain.path, env=chain.variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((chain.path / f"results/{name}/.state").glob("*/lease.json")):
            assert time.monotonic() < deadline and process.poll() is None, "it does not train"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            yield process, command
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            study.unlink()


def go_on(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGCONT)


def finished_run(chain: Checkout, name: str) -> dict[str, Any]:
    (file,) = (chain.path / f"results/{name}").glob("*/run.json")
    return dict(json.loads(file.read_text()))


def test_early_warning_reaches_the_trainer_alone_and_the_next_try_continues(chain: Checkout) -> None:
    with long_study(chain, "warned") as (process, _):
        os.killpg(process.pid, signal.SIGUSR1)  # Slurm's `--signal=USR1@120` goes to every process of the job's step
        go_on(process)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "saved at step" in output
    run = finished_run(chain, "warned")
    assert (run["status"], run["step"], run["resumes"]) == ("done", 4000, 1)


@pytest.mark.parametrize("orphan", [True, False], ids=["its trainer lives on", "its trainer dies with it"])
def test_a_killed_head_needs_no_hand_the_same_command_goes_on(chain: Checkout, orphan: bool) -> None:
    name = f"killed-{orphan}".lower()
    with long_study(chain, name) as (process, command):
        if orphan:
            process.kill()
            go_on(process)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert list((chain.path / ".snakemake/locks").glob("*.lock")), "Snakemake left its lock"
        output = chain.run(*command)
    assert "The head process before this one is dead; its lock was cleared." in output
    run = finished_run(chain, name)
    assert (run["status"], run["step"]) == ("done", 4000)
    if orphan:  # it is waited for, or was quick enough to be over; its work is not done again
        known = ("waiting until it is over", "continuing at step 4000", "already done")
        assert any(words in output for words in known), output
    assert not list((chain.path / ".snakemake/locks").glob("*.lock"))


def test_a_living_heads_lock_is_respected(chain: Checkout) -> None:
    with long_study(chain, "alive") as (process, command):
        second = chain.run(*command, status=1)
        assert "LockException" in second or "cannot be locked" in second
        go_on(process)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_of_heads_that_start_at_the_same_moment_one_goes_on(chain: Checkout) -> None:
    with (chain.path / ".snakemake/mtrepro-head.lock").open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        said = chain.snakemake("all", "--forceall", study=STUDY, status=1)
        assert "this checkout cannot be locked: another snakemake works in it, and there is one a checkout" in said
        assert "rule train:" not in said and "Traceback" not in said
    assert "Nothing to be done" in chain.snakemake("all", study=STUDY)


@pytest.mark.slow
def test_a_head_of_another_study_leaves_too_and_lets_no_second_one_of_the_first_in(chain: Checkout) -> None:
    with long_study(chain, "only") as (process, command):
        for _ in range(2):  # Snakemake's own lock does not know the first: other files; and after that it is gone
            said = chain.snakemake("all", "--forceall", study=STUDY, status=1)
            assert "another snakemake works in it" in said and "rule train:" not in said
        assert "cannot be locked" in chain.run(*command, status=1)
        assert "Nothing to be done" in chain.snakemake("all", study=STUDY)  # who has nothing to do disturbs nobody
        assert "cannot be locked" in chain.run(*command, status=1)
        go_on(process)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_unknown_key_stops_before_any_job(chain: Checkout) -> None:
    bad = chain.path / "config/studies/bad.yaml"
    bad.write_text(TOY.replace("metrics_every", "metrics_evry"))
    try:
        output = chain.snakemake("all", study="config/studies/bad.yaml", status=1)
    finally:
        bad.unlink()
    assert "config/studies/bad.yaml: metrics_evry: unknown key 'metrics_evry'" in output
    assert "(nearest: metrics_every)" in output
    assert "Building DAG" not in output
    assert "Traceback" not in output


def test_study_is_changed_by_editing_its_file_alone(chain: Checkout) -> None:
    output = chain.snakemake("all", "--config", "budget=7", status=1)
    assert "--config budget=…: a study is changed by editing its file, config/studies/toy.yaml" in output
    output = chain.run("snakemake", "-n", "--configfile", STUDY, "config/demo.yaml", status=1)
    assert f"--configfile {STUDY}, config/demo.yaml: Snakemake would merge the files" in output


def test_no_configuration_means_the_demo_and_a_study_takes_nothing_from_it(chain: Checkout) -> None:
    assert "results/demo/study-demo/figures/learning_curves.svg" in chain.run("snakemake", "-n")
    assert "results/demo" not in chain.snakemake("-n", "--forceall")
