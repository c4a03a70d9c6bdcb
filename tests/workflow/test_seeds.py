"""Training jobs of several seeds, in a study that mixes them with jobs of one."""

from __future__ import annotations

import json

import pytest

from .conftest import STUDY, TOY, Checkout

pytestmark = pytest.mark.slow

GROUPED = "config/studies/grouped.yaml"
ARM = "mt-sac: {method: mt_sac}"


def test_a_study_mixes_jobs_of_several_seeds_with_jobs_of_one(chain: Checkout) -> None:
    text = TOY.replace("study: toy", "study: grouped").replace("results/toy", "results/grouped")
    text = text.replace(ARM, ARM + "\n  blind: {method: mt_sac, seeds_per_job: 2, settings: {task_input: none}}")
    (chain.path / GROUPED).write_text(text)
    try:
        assert chain.run("mtrepro", "plan", GROUPED).count("seeds 0 1") == 2
        chain.snakemake("runs", study=GROUPED)
        folders = {file.parent: json.loads(file.read_text()) for file in chain.path.glob("results/grouped/*/run.json")}
        assert sorted(record["runs_in_process"] for record in folders.values()) == [1, 1, 1, 1, 2, 2]
        for folder, record in folders.items():  # the first arm is also an arm of the toy study, which trained it alone
            if record["run"].startswith("mt_sac") and record["runs_in_process"] == 1:
                twin = chain.path / "results/toy" / record["run"] / "training.csv"
                assert twin.read_bytes() == (folder / "training.csv").read_bytes()
        lost, kept = sorted(folder for folder, record in folders.items() if record["runs_in_process"] == 2)
        before = (kept / "run.json").read_bytes()
        for file in lost.iterdir():
            file.unlink()
        chain.snakemake("runs", study=GROUPED)
        assert (kept / "run.json").read_bytes() == before, "it was trained again"
        assert json.loads((lost / "run.json").read_text())["runs_in_process"] == 1
        assert (chain.path / "results/grouped/logs/train" / f"{lost.name}.log").read_text().count(
            "] done; results"
        ) == 1
    finally:
        (chain.path / GROUPED).unlink()


def test_how_many_seeds_share_a_job_changes_no_run(chain: Checkout) -> None:
    with chain.edited(STUDY, "seeds: [0, 1]", "seeds: [0, 1]\nseeds_per_job: 1"):
        assert chain.plan() == []
