"""The toy benchmark: deterministic, learnable only with the task known, exact to resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtrepro.benchmarks import Environment
from mtrepro.benchmarks.loading import load_benchmark

Array = NDArray[Any]
SETTINGS = st.fixed_dictionaries(
    {
        "tasks": st.integers(1, 4),
        "kind": st.sampled_from(["state", "pixels"]),
        "horizon": st.integers(1, 6),
        "goals": st.sampled_from(["fixed", "random"]),
        "goal_visible": st.booleans(),
        "padded_action": st.booleans(),
        "terminates": st.booleans(),
    }
)


def play(environment: Environment, actions: Array, restart: bool = True) -> list[bytes]:
    """What an environment gives for a sequence of actions, each number as its bytes."""
    given: list[bytes] = []
    for action in actions:
        step = environment.step(action)
        given.append(step.observation.tobytes() + np.array(step[1:], dtype=np.float64).tobytes())
        if restart and (step.terminated or step.truncated):
            given.append(environment.reset().tobytes())
    return given


def some_actions(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, size=(count, 2)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(SETTINGS, st.integers(0, 5), st.integers(0, 12))
def test_a_state_loaded_into_another_environment_continues_with_the_same_bits(
    values: dict[str, Any], seed: int, before: int
) -> None:
    benchmark = load_benchmark("toy", values, seed)
    one, other = benchmark.make(0, "training"), benchmark.make(0, "training")
    one.reset()
    play(one, some_actions(before))
    other.load_state(one.state())
    assert play(one, some_actions(15, 1)) == play(other, some_actions(15, 1))


@settings(max_examples=20, deadline=None)
@given(SETTINGS, st.integers(0, 5))
def test_equal_settings_and_seed_give_equal_bits(values: dict[str, Any], seed: int) -> None:
    one, other = (load_benchmark("toy", values, seed).make(0, "training") for _ in range(2))
    assert one.reset().tobytes() == other.reset().tobytes()
    assert play(one, some_actions(15)) == play(other, some_actions(15))


@settings(max_examples=20, deadline=None)
@given(SETTINGS)
def test_observations_have_the_shape_and_type_that_the_benchmark_says(values: dict[str, Any]) -> None:
    benchmark = load_benchmark("toy", values, 0)
    environment = benchmark.make(0, "training")
    for observation in (environment.reset(), environment.step(np.ones(2, np.float32)).observation):
        assert observation.shape == benchmark.observation_shape
        assert observation.dtype == benchmark.observation_dtype


def steer(observation: Array, angle: float) -> Array:
    """The action that takes the point to its goal if the task turns actions by `angle`."""
    away = (observation[2:] - observation[:2]).astype(np.float64) / 0.2
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ away
    return (turned / max(1.0, float(np.abs(turned).max()))).astype(np.float32)


def success_rate(angle_of_task: Any) -> float:
    benchmark = load_benchmark("toy", {"tasks": 3, "evaluation_episodes": 10}, 0)
    reached = []
    for task in range(3):
        environment = benchmark.make(task, "evaluation")
        for episode in range(10):
            observation, flags = environment.reset(episode), []
            for _ in range(benchmark.horizon):
                step = environment.step(steer(observation, angle_of_task(task)))
                observation = step.observation
                flags.append(step.success)
            reached.append(any(flags))
    return float(np.mean(reached))


def test_an_agent_that_knows_its_task_reaches_every_goal_and_one_that_does_not_fails() -> None:
    assert success_rate(lambda task: 2 * np.pi * task / 3) == 1.0
    assert success_rate(lambda task: 0.0) < 0.6


def test_reward_falls_with_the_distance_to_the_goal() -> None:
    environment = load_benchmark("toy", {}, 3).make(0, "training")
    observation = environment.reset()
    for _ in range(5):
        step = environment.step(steer(observation, 0.0))
        position, goal = step.observation[:2], step.observation[2:]
        assert step.reward == step.raw_reward == pytest.approx(1 - np.linalg.norm(position - goal), abs=1e-6)
        observation = step.observation


def test_the_padded_action_changes_nothing_and_is_masked() -> None:
    benchmark = load_benchmark("toy", {"tasks": 2, "padded_action": True}, 0)
    assert benchmark.action_mask.tolist() == [[True, True], [True, False]]
    outcomes = []
    for second in (-1.0, 1.0):
        environment = benchmark.make(1, "training")
        environment.reset()
        outcomes.append(play(environment, np.array([[0.5, second]] * 4, np.float32)))
    assert outcomes[0] == outcomes[1]


def test_a_hidden_goal_is_in_no_observation() -> None:
    for kind in ("state", "pixels"):
        pictures = []
        for seed in (0, 1):  # two seeds, two goals
            environment = load_benchmark("toy", {"goal_visible": False, "goals": "fixed", "kind": kind}, seed).make(
                0, "training"
            )
            environment.reset()
            state = dict(environment.state())
            state["position"] = np.zeros(2)
            environment.load_state(state)
            pictures.append(environment.step(np.zeros(2, np.float32)).observation.tobytes())
        assert pictures[0] == pictures[1]


def test_terminates_ends_the_episode_at_success_and_not_by_time() -> None:
    environment = load_benchmark("toy", {"terminates": True}, 0).make(0, "training")
    observation = environment.reset()
    while True:
        step = environment.step(steer(observation, 0.0))
        observation = step.observation
        if step.terminated or step.truncated:
            break
    assert step.success and step.terminated and not step.truncated


def test_fixed_goals_stay_and_random_goals_move() -> None:
    for goals, distinct in (("fixed", 1), ("random", 5)):
        environment = load_benchmark("toy", {"goals": goals}, 0).make(0, "training")
        assert len({environment.reset()[2:].tobytes() for _ in range(5)}) == distinct


def test_start_k_is_the_same_each_time_and_draws_nothing_from_the_training_stream() -> None:
    benchmark = load_benchmark("toy", {}, 0)
    plain, asked = benchmark.make(1, "training"), benchmark.make(1, "training")
    assert asked.reset(3).tobytes() == asked.reset(3).tobytes() != asked.reset(4).tobytes()
    assert plain.reset().tobytes() == asked.reset().tobytes()


def test_tasks_seeds_and_purposes_draw_different_starts() -> None:
    starts = {
        load_benchmark("toy", {}, seed).make(task, purpose).reset().tobytes()
        for seed in (0, 1)
        for task in (0, 1)
        for purpose in ("training", "evaluation")
    }
    assert len(starts) == 8


def test_stepping_past_the_end_is_an_error_that_says_what_to_do() -> None:
    environment = load_benchmark("toy", {"horizon": 1}, 0).make(0, "training")
    with pytest.raises(RuntimeError, match=r"toy-0: no episode is running; call reset\(\) before step\(\)"):
        environment.step(np.zeros(2, np.float32))
    environment.reset()
    assert environment.step(np.zeros(2, np.float32)).truncated
    with pytest.raises(RuntimeError, match="no episode is running"):
        environment.step(np.zeros(2, np.float32))
