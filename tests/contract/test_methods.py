"""What every method must do. Methods are found by themselves: a new file in methods/ is tested without a line here."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from mtrepro import paths
from mtrepro.engine import checkpoint
from mtrepro.engine.clock import Part
from mtrepro.engine.replay import Transitions
from mtrepro.errors import SpecificationError
from mtrepro.methods._loading import class_name, load_method
from mtrepro.source import closure
from mtrepro.specification import method_names, refuse_conflicts, settings_model
from mtrepro.study import read_method_file
from mtrepro.training import Stopped, Trainer
from tests.conftest import (
    LEARNING,
    known_to,
    sees_pictures,
    takes_several_tasks,
    toy_for,
    toy_sources,
    toy_specification,
)

CPU = torch.device("cpu")
METHODS = method_names()

pytestmark = pytest.mark.parametrize("name", METHODS)


class Watcher:
    """A monitor that counts the beats and may stop the loop at one of them, or within an evaluation."""

    def __init__(self, stop_at: int | None = None, stop_in_evaluation: int | None = None) -> None:
        self.beats = self.inner = 0
        self.stop_at, self.stop_in_evaluation = stop_at, stop_in_evaluation

    def enter(self, part: Part) -> None: ...

    def beat(self, trainer: Trainer) -> None:
        self.beats += 1
        if self.beats == self.stop_at:
            raise Stopped

    def beat_within_evaluation(self) -> None:
        self.inner += 1
        if self.inner == self.stop_in_evaluation:
            raise Stopped


def trainer(name: str, workers: int = 0, **changed: Any) -> Trainer:
    specification = toy_specification(name, **changed)
    return Trainer(specification, CPU, workers, sources=toy_sources(specification))


class Finished(NamedTuple):
    """A run at its end, and everything it is and was: parameters, replay, streams, environments, every number."""

    run: Trainer
    fingerprint: dict[str, Any]


def finished(name: str, workers: int = 0, **changed: Any) -> Finished:
    run = trainer(name, workers, **changed)
    run.run(Watcher())
    result = Finished(run, fingerprint(run))
    run.close()
    return result


def fingerprint(run: Trainer) -> dict[str, Any]:
    """The state of a run in a form that can be compared."""
    return {key: _plain(value) for key, value in run.state().items()}


def _plain(value: Any) -> Any:
    match value:
        case torch.Tensor():
            return value.detach().numpy().tobytes()
        case np.ndarray():
            return (str(value.dtype), value.shape, value.tobytes())
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def observations(run: Trainer, *shape: int, stream: np.random.Generator) -> Any:
    """Random ones of the run's benchmark: (*shape, *observation_shape)."""
    shape += run.benchmark.observation_shape
    if run.benchmark.observation_dtype == np.uint8:
        return stream.integers(256, size=shape, dtype=np.uint8)
    return stream.normal(size=shape).astype(np.float32)


def feed(run: Trainer, steps: int) -> None:
    """Random transitions of the shapes of the run's benchmark."""
    stream, tasks = np.random.default_rng(0), len(run.tasks)
    for _ in range(steps):
        observation, following = observations(run, 2, tasks, stream=stream)
        action = stream.uniform(-1, 1, (tasks, 2)).astype(np.float32)
        reward, flags = stream.normal(size=tasks).astype(np.float32), np.zeros(tasks, np.bool_)
        run.method.observe(Transitions(observation, action, reward, following, flags, flags))


def test_its_files_are_in_place_and_every_setting_has_its_default_and_its_line(name: str) -> None:
    fields = settings_model(name).model_fields
    assert set(read_method_file(name).settings) == set(fields)
    assert all(field.description for field in fields.values())
    assert all(field.is_required() for field in fields.values()), "defaults stand in config/methods/ alone"
    page = (paths.root() / "docs" / "methods" / f"{name}.md").read_text()
    assert all(f"`{field}`" in page for field in fields)
    assert load_method(name).__name__ == class_name(name)


def test_it_imports_no_other_method(name: str) -> None:
    module = f"mtrepro.methods.{name}"
    others = [other for other in closure([module]) if other.startswith("mtrepro.methods.") and other != module]
    source = Path(paths.PACKAGE / "methods" / f"{name}.py").read_text()
    assert not others or others[0] in source.splitlines()[0], "or its first line says why"


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_actions_have_their_shape_and_range(name: str, explore: bool, rows: int) -> None:
    run = trainer(name)
    feed(run, 60)
    observation = observations(run, rows, stream=np.random.default_rng(0))
    actions = run.method.act(observation, np.arange(rows) % len(run.tasks), explore)
    assert actions.shape == (rows, 2) and actions.dtype == np.float32
    assert np.isfinite(actions).all() and np.abs(actions).max() <= 1


def test_acting_without_exploring_changes_nothing_and_repeats_itself(name: str) -> None:
    run = trainer(name)
    feed(run, 60)
    before = fingerprint(run)
    episode = observations(run, 3, len(run.tasks), stream=np.random.default_rng(0))

    def played() -> list[bytes]:
        memory: dict[str, Any] = {}
        chosen = [run.method.act(each, run.tasks, explore=False, moment=7, memory=memory) for each in episode]
        return [actions.tobytes() for actions in chosen]

    alone = run.method.act(episode[0], run.tasks, explore=False, moment=7)
    assert played() == played() and played()[0] == alone.tobytes()
    assert fingerprint(run) == before


def test_every_parameter_that_should_learn_moves(name: str) -> None:
    run = trainer(name)
    method = run.method
    feed(run, 60)
    before = {group: [p.detach().clone() for p in these] for group, these in method.parameter_groups().items()}
    while method.owed:
        method.learn()
    for group, parameters in method.parameter_groups().items():
        still = [i for i, (old, new) in enumerate(zip(before[group], parameters, strict=True)) if torch.equal(old, new)]
        assert not still, f"parameters {still} of group {group!r} never move"


def test_it_learns_the_toy_benchmark(name: str) -> None:
    if not trainer(name).method.parameter_groups():
        pytest.skip("nothing to learn")
    if sees_pictures(name):
        pytest.skip("behaviour from pictures takes minutes, and some seeds; its world model: the next test")
    settings = known_to(name, LEARNING)
    run = trainer(name, budget=2000, evaluation={"every": 400, "episodes": 20}, settings=settings)

    def gained() -> float:
        first, *_, last = (float(each.success.mean()) for each in run.evaluations[:1] + run.evaluations)
        return last - first

    class UntilLearned(Watcher):
        def beat(self, trainer: Trainer) -> None:
            if gained() > 0.4:  # chance is below 0.1, a blind agent stays below 0.6
                raise Stopped

    with contextlib.suppress(Stopped):
        run.run(UntilLearned())
    run.close()
    assert gained() > 0.4, [round(float(each.success.mean()), 2) for each in run.evaluations]


def test_its_world_model_learns_the_toy_pictures(name: str) -> None:
    if not sees_pictures(name):
        pytest.skip("it has no world model")
    run = trainer(
        name, budget=300, evaluation={"every": 300, "episodes": 1}, metrics_every=50, settings=known_to(name, LEARNING),
        benchmark=toy_for(name, padded_action=True, goals="fixed"),
    )  # fmt: skip
    run.run(Watcher())
    run.close()
    losses = [row.value for row in run.rows if row.metric == "model_loss"]
    assert losses[-1] < 0.1 * losses[0], losses  # of the first 50 steps' updates, and of the last


def test_the_same_seed_gives_the_same_bits_and_another_does_not(name: str) -> None:
    one, two, other = finished(name), finished(name), finished(name, seed=1)
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("workers", [2])  # one worker against none: tests/unit/test_vector.py
def test_worker_processes_or_none_give_the_same_bits(name: str, workers: int) -> None:
    assert finished(name, workers).fingerprint == finished(name).fingerprint


def test_stopped_anywhere_and_continued_it_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    expected = finished(name)
    beats = Watcher()
    trainer(name).run(beats)
    stream = random.Random(name)
    stops = sorted(stream.sample(range(1, beats.beats + 1), min(8, beats.beats)))
    run = trainer(name)
    done = 0
    for number, stop in enumerate(stops):
        within = number % 3 == 2  # now and then in the middle of an evaluation, which is then repeated
        watcher = Watcher(None if within else stop - done, 1 if within else None)
        try:
            run.run(watcher)
        except Stopped:
            done += watcher.beats
        checkpoint.save(tmp_path, number, run.state())
        run.close()
        run = trainer(name)
        state = checkpoint.load(tmp_path, print)
        assert state is not None
        run.load_state(state)
    run.run(Watcher())
    assert fingerprint(run) == expected.fingerprint


def test_evaluating_twice_as_often_leaves_training_alone(name: str) -> None:
    seldom = finished(name, evaluation={"every": 40, "episodes": 2})
    often = finished(name, evaluation={"every": 20, "episodes": 2})
    for key, value in seldom.fingerprint.items():
        assert key == "evaluations" or value == often.fingerprint[key], key
    shared = {evaluation.step: evaluation.returns.tobytes() for evaluation in often.run.evaluations}
    assert all(shared[evaluation.step] == evaluation.returns.tobytes() for evaluation in seldom.run.evaluations)


def test_more_episodes_leave_the_first_ones_alone(name: str) -> None:
    few, many = (finished(name, evaluation={"every": 60, "episodes": count}) for count in (2, 5))
    for short, long in zip(few.run.evaluations, many.run.evaluations, strict=True):
        assert short.returns.tobytes() == np.ascontiguousarray(long.returns[:, :2]).tobytes()


@pytest.mark.parametrize(
    "benchmark",
    [{"tasks": 1}, {"terminates": True}, {"padded_action": True}, {"tasks": 4}],
    ids=["one task", "episodes that end", "a padded action", "four tasks"],
)
def test_it_runs_on_benchmarks_of_every_shape(name: str, benchmark: dict[str, Any]) -> None:
    if benchmark.get("tasks", 1) > 1 and not takes_several_tasks(name):
        with pytest.raises(SpecificationError, match="one task, not 4"):
            refuse_conflicts(name, trainer(name).method.settings, 60, ("a", "b", "c", "d"), "settings")  # type: ignore[attr-defined]
        return
    run = finished(name, benchmark=toy_for(name, **benchmark), budget=60).run
    assert run.diverged is None and run.evaluations[-1].step == 60
    assert np.isfinite(run.evaluations[-1].returns).all()
