"""The loop's own outcomes: what it stores, and how it ends when something breaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.benchmarks import SimulationError, toy
from mtrepro.training import Trainer
from tests.conftest import toy_benchmark, toy_specification
from tests.contract.test_methods import Watcher

CPU = torch.device("cpu")


def trainer(**changed: Any) -> Trainer:
    return Trainer(toy_specification(**changed), CPU)


def break_policy(run: Trainer, at: int) -> None:
    """From step `at` on every action is not a number."""
    act = run.method.act
    run.method.act = lambda *given, **named: act(*given, **named) * (np.nan if run.step >= at else 1)  # type: ignore


def test_the_replay_holds_the_true_next_observation_also_where_an_episode_ended() -> None:
    run = trainer(budget=45, benchmark=toy_benchmark(horizon=7))
    run.run(Watcher())
    replay: Any = run.method.replay  # type: ignore[attr-defined]
    moved = np.abs(replay.next_observation[:45, :, :2] - replay.observation[:45, :, :2])
    assert moved.max() <= toy.SPEED * np.sqrt(2) + 1e-6, "a point never jumps, so no reset was stored as a step"
    starts = replay.observation[1:45, :, :2] != replay.next_observation[:44, :, :2]
    assert [step + 1 for step in range(44) if starts[step].any()] == [7, 14, 21, 28, 35, 42]
    assert not replay.terminated[:45].any(), "a time limit bootstraps"


def test_an_episode_that_ends_is_stored_as_terminated() -> None:
    run = trainer(budget=400, benchmark=toy_benchmark(terminates=True))
    run.run(Watcher())
    replay: Any = run.method.replay  # type: ignore[attr-defined]
    reached = np.linalg.norm(replay.next_observation[:300, :, :2] - replay.next_observation[:300, :, 2:], axis=2)
    clear = np.abs(reached - toy.NEAR) > 1e-5  # float32 observations cannot tell on the very edge
    assert (replay.terminated[:300][clear] == (reached < toy.NEAR)[clear]).all() and replay.terminated.any()


def test_steps_evaluations_and_metrics_are_where_they_are_due() -> None:
    run = trainer(budget=110, evaluation={"every": 40, "episodes": 2}, metrics_every=25)
    run.run(Watcher())
    assert [evaluation.step for evaluation in run.evaluations] == [0, 40, 80, 110]
    assert sorted({row.step for row in run.rows}) == [25, 50, 75, 100]
    transitions = {row.step: row.value for row in run.rows if row.metric == "transitions"}
    assert transitions == {25: 75.0, 50: 150.0, 75: 225.0, 100: 300.0}
    assert {row.metric for row in run.rows if row.step == 100 and not row.task} >= {"critic_loss", "actor_loss"}
    assert {row.metric for row in run.rows if row.task == "toy-1"} == {"return", "success"}


def test_returns_and_success_are_those_of_the_episodes_by_hand() -> None:
    run = trainer(budget=60, evaluation={"every": 60, "episodes": 3})
    run.run(Watcher())
    settings = toy.Settings.model_validate({k: v for k, v in toy_benchmark().items() if k != "family"})
    for task in range(3):
        environment = toy.Benchmark(settings, 0).make(task, "evaluation")
        for episode in range(3):
            observation, total, success = environment.reset(episode), 0.0, False
            for _ in range(settings.horizon):
                others = np.zeros((3, 4), np.float32)
                others[task] = observation
                step = environment.step(run.method.act(others, np.arange(3), explore=False)[task])
                observation, total, success = step.observation, total + step.raw_reward, success or step.success
            assert run.evaluations[-1].returns[task, episode] == pytest.approx(total, rel=1e-4)
            assert run.evaluations[-1].success[task, episode] == success


def test_actions_that_are_not_finite_are_divergence_and_reach_no_environment() -> None:
    run = trainer()
    break_policy(run, at=33)
    run.run(Watcher())
    assert run.diverged == "the policy's actions are not finite" and run.step == 33
    assert np.isfinite(run.training.state()["tasks"][0]["observation"]).all()  # type: ignore[union-attr]


def test_a_broken_policy_is_found_at_the_same_step_however_often_it_is_evaluated() -> None:
    for every in (40, 10):
        run = trainer(evaluation={"every": every, "episodes": 1})
        break_policy(run, at=30)
        run.run(Watcher())
        assert run.step == 30 and run.diverged == "the policy's actions are not finite"


def test_unstable_physics_is_divergence_and_names_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()
    step = toy.PointMass.step

    def unstable(self: Any, action: Any) -> Any:
        if run.step == 21 and self._name == "toy-1":
            raise SimulationError("toy-1: the physics became unstable")
        return step(self, action)

    monkeypatch.setattr(toy.PointMass, "step", unstable)
    run.run(Watcher())
    assert run.step == 21
    assert run.diverged == "task 'toy-1' (training environment): toy-1: the physics became unstable"


def test_trouble_is_looked_for_every_hundred_steps() -> None:
    run = trainer(budget=350, metrics_every=1000)
    run.method.trouble = lambda: "exploded" if run.step > 150 else None  # type: ignore[method-assign]
    run.run(Watcher())
    assert (run.step, run.diverged) == (200, "exploded")
