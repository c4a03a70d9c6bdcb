"""The shipped studies of transfer: which source each target begins with, and that each is trained once."""

from __future__ import annotations

from functools import cache

import pytest

from mtrepro import paths
from mtrepro.study import ResolvedStudy, Run, load_study

OMEGAS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
ACTIONS = {"Hopper": 3, "Walker2D": 6, "HalfCheetah": 6, "Ant": 8}  # the pendulums have one
RUNS = {"double-pendulum": 114, "halfcheetah": 105, "hopper": 108, "walker2d": 105, "pendulum": 114, "ant": 105}
COUNTS = (2, 3, 4)


@cache
def load(name: str) -> ResolvedStudy:
    return load_study(paths.root() / "config" / "studies" / f"transfer-{name}.yaml")


def actions(task: str) -> int:
    return next((count for name, count in ACTIONS.items() if task.startswith(name)), 1)


def fractional(name: str, count: int) -> list[Run]:
    return [run for run in load(name).arm_runs if run.arm.startswith(f"sources-{count}.") and run.seed == 0]


def source_of(name: str, count: int) -> Run:
    """The run on several tasks that all fractional arms of so many sources begin with."""
    (source,) = {run.specification.sources["source"].run for run in fractional(name, count)}
    return next(run for run in load(name).runs if run.name == source)


@pytest.mark.parametrize("name", RUNS)
def test_transfer_studies_have_every_omega_and_each_source_once(name: str) -> None:
    resolved, runs = load(name), RUNS[name]
    text = (paths.root() / "docs" / "studies.md").read_text()
    assert len(resolved.runs) == runs and f"`transfer-{name}` ({runs} runs)" in text
    assert resolved.study.pooled == ["overall", "final_tenth"]
    for count in COUNTS:
        assert [run.specification.settings["omega"] for run in fractional(name, count)] == OMEGAS
        many = source_of(name, count)
        assert len(many.tasks) == count and many.specification.settings["sharing"] == "shared"
        assert abs(many.specification.settings["sequences"] * count - 50) <= 2, "as many sequences as published"
        assert abs(many.specification.budget * count - 1_000_000) <= 1, "two million steps at action repeat 2"
        meta = next(run for run in resolved.arm_runs if run.arm == f"meta-{count}" and run.seed == 0)
        asked = {role: source.run for role, source in meta.specification.sources.items()}
        assert asked.pop("encoder") == many.name and len(asked) == count
        heads = [run for run in resolved.runs if run.name in asked.values()]
        assert {run.tasks for run in heads} == {(task,) for task in many.tasks}
        for run in heads:
            assert run.specification.sources["source"].run == many.name
            assert run.specification.settings["groups"]["encoder"] == "frozen"


@pytest.mark.parametrize("name", RUNS)
def test_a_source_set_never_holds_the_target_and_has_its_actions_or_begins_that_layer_fresh(name: str) -> None:
    (target,) = load(name).tasks
    for count in COUNTS:
        tasks = source_of(name, count).tasks
        assert target not in tasks
        enough = max(map(actions, tasks)) >= actions(target)
        treatments = {run.specification.settings["groups"]["dynamics_enter"] for run in fractional(name, count)}
        assert treatments == {"rows" if enough else "fresh"}
        assert enough == (name != "ant")
        # Meta-models whose sources see their own features: a source's own model must know every action of the target
        own = f"meta-{count}.own-features" in load(name).study.arms
        assert own == all(actions(task) >= actions(target) for task in tasks)


def test_a_source_of_two_studies_is_one_run() -> None:
    """Wherever two studies learn from the same tasks, or from one of them with the same eyes, the digests are equal."""
    trained: dict[tuple[object, ...], set[str]] = {}
    studies: dict[str, set[str]] = {}
    for name in RUNS:
        for run in load(name).runs:
            if run.name in load(name).sources:
                eyes = [source.run for source in run.specification.sources.values()]
                eyes_tasks = next((other.tasks for other in load(name).runs if other.name in eyes), ())
                trained.setdefault((run.tasks, eyes_tasks, run.seed), set()).add(run.specification.digest())
                studies.setdefault(run.name, set()).add(name)
    assert all(len(digests) == 1 for digests in trained.values())
    shared = {name: where for name, where in studies.items() if len(where) > 1}
    # {Hopper, pendulum} of the pendulum's double and Ant; {Hopper, Ant} of HalfCheetah and Walker2D; the three and
    # the four of the plotting script: each a source and one run of every task, for three seeds.
    assert len(shared) == 3 * ((1 + 2) + (1 + 2) + (1 + 3) + (1 + 4))
    assert {"double-pendulum", "halfcheetah", "ant"} in shared.values()
    assert {"halfcheetah", "walker2d"} in shared.values()
