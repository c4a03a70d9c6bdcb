"""A run on each pixel benchmark, killed within an episode: its files are those of a run that nothing disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtrepro.benchmarks.loading import load_family
from mtrepro.engine.signals import StopRequest
from mtrepro.running import Options, train
from mtrepro.specification import Evaluation, Specification
from tests.conftest import contents, toy_specification, write_run
from tests.contract.processes import run_record, start
from tests.unit.pixel_fixture import CASES

# Long against what a checkpoint costs, so that a kill hits: some thirty steps of learning stand between two of them.
BUDGET, HORIZON = 90, 35
LONGER: dict[str, Any] = {"horizon": HORIZON, "evaluation_episodes": 1}


def specification(family: str) -> Specification:
    """A tiny Dreamer on one task; random actions on the pair, because Dreamer learns one task."""
    values = {**CASES[family]}
    if family == "pixels":
        values["parts"] = [{**part, "settings": {**part["settings"], **LONGER}} for part in values["parts"]]
    else:
        values |= LONGER
    settings = load_family(family).Settings.model_validate(values).model_dump(mode="json")
    dreamer = {"random_steps": 20, "first_updates": 2, "learn_every": 5, "learn_updates": 1}
    return toy_specification(
        "random_policy" if family == "pixels" else "dreamer",
        budget=BUDGET,
        benchmark={"family": family, **settings},
        evaluation=Evaluation(every=60, episodes=1),
        metrics_every=30,
        settings={} if family == "pixels" else dreamer,
    )


def finish(path: Path) -> None:
    """Train a run in this process, from its checkpoint where there is one."""
    with StopRequest() as stop:
        assert train(path, Options(device="cpu"), stop) == 0


@pytest.mark.parametrize("family", CASES)
def test_killed_within_an_episode_of_pictures_it_ends_with_the_same_files(family: str, tmp_path: Path) -> None:
    undisturbed = write_run(tmp_path / "undisturbed", specification(family))
    finish(undisturbed)
    path = write_run(tmp_path / "killed", specification(family))
    process = start(path)
    process.kill()
    process.communicate()
    assert not (path.parent / "run.json").exists(), "the run was over before it could be killed: make it longer"
    finish(path)
    assert contents(path.parent) == contents(undisturbed.parent)
    assert run_record(path)["resumes"] == 1 and run_record(path)["exact"] is True
