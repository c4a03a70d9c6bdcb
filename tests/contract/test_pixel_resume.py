"""A run on each pixel benchmark, killed within an episode: its files are those of a run that nothing disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtrepro.benchmarks.bullet_simulator import BulletSimulator
from mtrepro.benchmarks.loading import load_family
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import StateError
from mtrepro.options import Options
from mtrepro.process import train
from mtrepro.specification import Evaluation, Specification
from tests.conftest import contents, toy_specification, write_run
from tests.contract.processes import comes, run_record
from tests.unit.pixel_fixture import CASES

pytestmark = pytest.mark.slow

BUDGET, HORIZON = 60, 20
AT_EVERY_STEP = "from mtrepro import cli, running; running.COST_SHARE = 1e9; cli.main()"
LONGER: dict[str, Any] = {"horizon": HORIZON, "evaluation_episodes": 1}


def specification(family: str) -> Specification:
    """A tiny Dreamer on one task; random actions on the pair, because Dreamer learns one task."""
    values = {**CASES[family]}
    if family == "pixels":
        values["parts"] = [{**part, "settings": {**part["settings"], **LONGER}} for part in values["parts"]]
    else:
        values |= LONGER
    settings = load_family(family).Settings.model_validate(values).model_dump(mode="json")
    dreamer = {"random_steps": 10, "first_updates": 2, "learn_every": 5, "learn_updates": 1}
    return toy_specification(
        "random_policy" if family == "pixels" else "dreamer",
        budget=BUDGET,
        benchmark={"family": family, **settings},
        evaluation=Evaluation(every=30, episodes=1),
        metrics_every=30,
        settings={} if family == "pixels" else dreamer,
    )


def kill_midway(path: Path) -> None:
    """Start a run that saves at every step, and kill it within its second episode."""
    words = ("train", str(path), "--checkpoint-seconds", "0")
    process = subprocess.Popen((sys.executable, "-c", AT_EVERY_STEP, *words), stderr=subprocess.DEVNULL)
    try:
        assert comes(lambda: process.poll() is not None or newest(path) > HORIZON + 2, 120)
    finally:
        process.kill()
        process.communicate()
    assert not (path.parent / "run.json").exists(), "the run was over before it could be killed: make it longer"


def newest(path: Path) -> int:
    """The step of the run's newest checkpoint; -1 where there is none."""
    found = (path.parent.parent / ".state" / path.parent.name).glob("source-*/[0-9]*.pt")
    return max((int(file.name.split("-")[0]) for file in found), default=-1)


def finish(path: Path) -> None:
    """Train a run in this process, from its checkpoint where there is one."""
    with StopRequest() as stop:
        assert train(path, Options(device="cpu"), stop) == 0


def test_a_run_does_not_go_on_where_another_renderer_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = specification("bullet").model_dump(mode="json")
    content["benchmark"]["horizon"] = 2 * BUDGET  # whatever checkpoint there is, it was within an episode
    path = write_run(tmp_path, Specification.model_validate(content))
    kill_midway(path)
    monkeypatch.setattr(BulletSimulator, "drawn_with", lambda self: "pybullet: another")
    with pytest.raises(StateError, match="drew its pictures with pybullet: TinyRenderer; here it is pybullet: another"):
        finish(path)


@pytest.mark.parametrize("family", CASES)
def test_killed_within_an_episode_of_pictures_it_ends_with_the_same_files(family: str, tmp_path: Path) -> None:
    undisturbed = write_run(tmp_path / "undisturbed", specification(family))
    finish(undisturbed)
    path = write_run(tmp_path / "killed", specification(family))
    kill_midway(path)
    finish(path)
    assert contents(path.parent) == contents(undisturbed.parent)
    assert run_record(path)["resumes"] == 1 and run_record(path)["exact"] is True
