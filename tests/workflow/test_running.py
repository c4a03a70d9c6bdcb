"""Running for real: holes, failures, signals, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

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


def test_early_warning_reaches_the_trainer_alone_and_the_next_try_continues(chain: Checkout, tmp_path: Path) -> None:
    study = TOY.replace("study: toy", "study: warned").replace("results/toy", "results/warned")
    study = (
        study.replace("seeds: [0, 1]", "seeds: [7]")
        .replace("budget: 120", "budget: 4000")
        .replace("every: 40", "every: 1000")
    )
    study = study.replace("  random: {method: random_policy, reference: true, budget: 0}\n", "")
    (chain.path / "config/studies/warned.yaml").write_text(study)
    command = [
        "snakemake",
        "runs",
        "--profile",
        "workflow/profiles/local",
        "--configfile",
        "config/studies/warned.yaml",
    ]
    with subprocess.Popen(
        command, cwd=chain.path, env=chain.variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not list((chain.path / "results/warned/.state").glob("*/*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(process.pid, signal.SIGUSR1)  # Slurm's `--signal=USR1@120` goes to every process of the job's step
        output, _ = process.communicate(timeout=120)
    (chain.path / "config/studies/warned.yaml").unlink()
    assert process.returncode == 0, output
    assert "saved at step" in output
    (file,) = (chain.path / "results/warned").glob("*/run.json")
    run = json.loads(file.read_text())
    assert (run["status"], run["step"], run["resumes"]) == ("done", 4000, 1)


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
