"""The check of Dreamer on DeepMind Control: which curve each arm meets, where, and with which settings."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest
import yaml

from mtrepro import paths
from mtrepro.study import ResolvedStudy, load_study

CONFIG = paths.root() / "config"


@cache
def load(name: str) -> ResolvedStudy:
    return load_study(CONFIG / "studies" / f"{name}.yaml")


@pytest.mark.parametrize("task", ["cartpole-swingup", "cheetah-run", "walker-walk"])
def test_the_check_of_dreamer_meets_the_printed_curve_at_its_step(task: str) -> None:
    resolved = load(f"dreamer-dmc-{task}")
    assert resolved.tasks == (task,) and resolved.benchmark["family"] == "dmc"
    assert resolved.study.budget * resolved.benchmark["action_repeat"] == 1_005_000
    compared = {each.comparison.arm: each for each in resolved.published}
    assert {name: each.step for name, each in compared.items()} == {"v1": 502_500, "v2": 495_000}
    assert {each.comparison.cell for each in compared.values()} == {f"dreamer/{task}", f"dreamer_v2/{task}"}
    for each in compared.values():
        said = " ".join(each.differs)
        assert "MuJoCo 3.3.0" in said and "read at vector step" not in said


def test_the_arms_are_v1_s_defaults_and_the_settings_that_the_page_calls_v2() -> None:
    page = (paths.root() / "docs" / "methods" / "dreamer.md").read_text()
    listed = re.findall(
        r"`(\w+: [^`]+)`", page.partition("\n## v2\n")[2].partition(": its settings for visual control")[0]
    )
    page_says = {key: value for line in listed for key, value in yaml.safe_load(line).items()}
    depths = dict.fromkeys(("reward_depth", "actor_depth", "critic_depth"), 4)
    for task in ("cartpole-swingup", "cheetah-run", "walker-walk"):
        arms = load(f"dreamer-dmc-{task}").study.arms
        assert not arms["v1"].settings
        assert arms["v2"].settings == page_says | depths | {"random_steps": 1000}


def test_planning_the_check_imports_no_dm_control() -> None:
    study = CONFIG / "studies" / "dreamer-dmc-walker-walk.yaml"
    code = (
        "import sys; from pathlib import Path; from mtrepro.workflow import Study; "
        f"study = Study.load({str(study)!r}); [study.source_digest(run) for run in study.runs]; "
        "print([name for name in sys.modules if name.startswith(('dm_control', 'mujoco'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
