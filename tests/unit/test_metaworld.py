"""Meta-World's environments: the two protocols, and a test for each known pitfall of the package."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrepro.benchmarks import Benchmark, SimulationError
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.metaworld_environment import RewardNormaliser, draw_goals

Array = NDArray[Any]


def meta_world(*tasks: str, protocol: str = "v3", seed: int = 0, **conditions: Any) -> Benchmark:
    return load_benchmark("metaworld", {"tasks": list(tasks), "protocol": protocol, **conditions}, seed)


def some_actions(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, 4)).astype(np.float32)


def stock(task: str, rand_vec: Array, reward_version: str) -> Any:
    """The package's own environment at one goal, without anything around it."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    simulator: Any = ALL_V3_ENVIRONMENTS[task](reward_function_version=reward_version)
    content = {"rand_vec": rand_vec, "env_cls": type(simulator), "partially_observable": False}
    simulator.set_task(Task(env_name=task, data=pickle.dumps(content)))
    return simulator


@functools.lru_cache
def goals_of(task: str, seed: int, *others: str) -> Array:
    return meta_world(*others, task, seed=seed).goals(len(others))  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("task", ["push-v3", "door-open-v3", "basketball-v3"])
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
def test_v3_gives_the_packages_own_observations_rewards_and_success(task: str, reward_version: str) -> None:
    benchmark = meta_world(task, reward_version=reward_version)
    environment = benchmark.make(0, "evaluation")
    simulator = stock(task, goals_of(task, 0)[7], reward_version)
    assert environment.reset(7).tobytes() == simulator.reset()[0].astype(np.float32).tobytes()
    for action in some_actions(25):
        step = environment.step(action)
        observation, reward, _, _, info = simulator.step(action)
        assert step.observation.tobytes() == observation.astype(np.float32).tobytes()
        assert (step.raw_reward, step.reward, step.success) == (reward, reward, bool(info["success"]))


def test_2020_observes_hand_both_objects_and_goal_and_nothing_else() -> None:
    environment = meta_world("stick-push-v3", protocol="2020").make(0, "training")
    environment.reset()
    step = environment.step(some_actions(1)[0])
    simulator = environment._simulator  # type: ignore[attr-defined]
    hand, objects, goal = simulator.get_endeff_pos(), simulator._get_pos_objects(), simulator._target_pos
    assert objects.shape == (6,)
    np.testing.assert_array_equal(step.observation, np.concatenate([hand, objects, goal]).astype(np.float32))


def test_the_goal_is_visible_under_both_protocols() -> None:
    for protocol in ("2020", "v3"):
        environment: Any = meta_world("reach-v3", protocol=protocol).make(0, "training")
        for observation in (environment.reset(), environment.step(some_actions(1)[0]).observation):
            np.testing.assert_array_equal(observation[-3:], environment._simulator._target_pos.astype(np.float32))
            assert np.abs(observation[-3:]).min() > 0


def test_observations_are_float32_and_hold_no_task_one_hot() -> None:
    for protocol, size in (("2020", 12), ("v3", 39)):
        benchmark = meta_world("reach-v3", "push-v3", protocol=protocol)
        environment = benchmark.make(1, "training")
        for observation in (environment.reset(), environment.step(np.zeros(4, np.float32)).observation):
            assert (observation.shape, observation.dtype) == ((size,), np.float32)
        assert (benchmark.observation_shape, benchmark.action_mask.all()) == ((size,), True)


def test_goals_are_drawn_as_the_package_draws_them() -> None:
    from metaworld import MT1

    # Stock resets twice for each goal and keeps the second draw.
    for task in ("push-v3", "shelf-place-v3"):
        theirs = [pickle.loads(goal.data)["rand_vec"] for goal in MT1(task, seed=5).train_tasks]
        ours = draw_goals(task, np.random.RandomState(5), 100)[1::2]  # type: ignore[arg-type]
        np.testing.assert_array_equal(ours, np.stack(theirs))


def test_goals_depend_on_seed_and_task_and_not_on_the_other_tasks() -> None:
    np.testing.assert_array_equal(goals_of("push-v3", 0), goals_of("push-v3", 0, "reach-v3", "door-open-v3"))
    assert len(np.unique(goals_of("push-v3", 0), axis=0)) == 50
    first = {goals_of(task, seed)[:, 0].tobytes() for task in ("push-v3", "reach-v3") for seed in (0, 1)}
    assert len(first) == 4  # the package draws every task's goals from the same stream


def test_seed_zero_is_a_seed_like_any_other() -> None:
    first, second = (meta_world("reach-v3", seed=0).make(0, "training") for _ in range(2))
    for _ in range(3):
        assert first.reset().tobytes() == second.reset().tobytes()


def test_no_global_random_generator_is_read_or_moved() -> None:
    records = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = pickle.dumps(np.random.get_state())
        environment = meta_world("sweep-v3", protocol="v3").make(0, "training")
        parts = [environment.reset().tobytes() for _ in range(2)]
        parts += [environment.step(action).observation.tobytes() for action in some_actions(5)]
        assert pickle.dumps(np.random.get_state()) == before
        records.append(parts)
    assert records[0] == records[1]


def goal_indices(seed: int, task: str, purpose: str, resets: int) -> list[int]:
    """Which of the 50 goals a training environment takes, one after the other."""
    environment: Any = meta_world(task, seed=seed).make(0, purpose)  # type: ignore[arg-type]
    taken: list[int] = []
    environment._set_goal = taken.append
    environment._simulator.reset = lambda: (np.zeros(39), {})
    for _ in range(resets):
        environment.reset()
    return taken


def test_v3_draws_a_goal_at_each_reset_from_a_stream_of_each_task_seed_and_purpose() -> None:
    taken = goal_indices(0, "reach-v3", "training", 400)
    assert set(taken) == set(range(50))
    others = [(1, "reach-v3", "training"), (0, "push-v3", "training"), (0, "reach-v3", "evaluation")]
    assert all(goal_indices(*other, 20) != taken[:20] for other in others)


def test_v3_evaluates_goal_k_in_episode_k_whatever_went_before() -> None:
    environment = meta_world("push-v3").make(0, "evaluation")
    starts = [environment.reset(k).tobytes() for k in (0, 1, 2, 49)]
    assert len(set(starts)) == 4
    environment.step(np.ones(4, np.float32))
    assert [environment.reset(k).tobytes() for k in (49, 0, 50)] == [starts[3], starts[0], starts[0]]


def test_2020_has_one_goal_per_task_and_seed_in_training_and_evaluation_alike() -> None:
    benchmark = meta_world("push-v3", protocol="2020")
    starts = {benchmark.make(0, purpose).reset().tobytes() for purpose in ("training", "evaluation")}  # type: ignore[arg-type]
    environment = benchmark.make(0, "evaluation")
    starts |= {environment.reset(k).tobytes() for k in (None, 0, 3)}
    assert len(starts) == 1
    assert meta_world("push-v3", protocol="2020", seed=1).make(0, "training").reset().tobytes() not in starts


def test_tasks_get_different_actions_only_from_the_caller() -> None:
    """The package's action spaces all draw the same actions; ours has none to draw from."""
    benchmark = meta_world("reach-v3", "push-v3")
    assert not hasattr(benchmark, "action_space") and not hasattr(benchmark.make(0, "training"), "action_space")


def by_hand(rewards: Array, updates: int) -> list[float]:
    """mtenv's exponential normaliser, written out; `updates` per step, of which its own has one."""
    mean, variance, given = 0.0, 1.0, []
    for reward in rewards:
        for _ in range(updates):
            mean = 0.999 * mean + 0.001 * reward
            variance = 0.999 * variance + 0.001 * (reward - mean) ** 2
        given.append(reward / (variance**0.5 + 1e-8))
    return given


def test_the_reward_normaliser_updates_once_a_step_and_the_packages_twice() -> None:
    import gymnasium
    from metaworld.wrappers import NormalizeRewardsExponential

    rewards = np.random.default_rng(0).normal(3.0, 5.0, size=400)
    normaliser = RewardNormaliser()
    ours = [normaliser(float(reward)) for reward in rewards]

    class Rewards(gymnasium.Env[Any, Any]):
        left = iter(rewards)

        def step(self, action: Any) -> Any:
            return None, next(self.left), False, False, {}

    wrapped = NormalizeRewardsExponential(0.001, Rewards())
    theirs = [wrapped.step(np.zeros(4))[1] for _ in rewards]
    np.testing.assert_allclose(ours, by_hand(rewards, updates=1), rtol=1e-12)
    np.testing.assert_allclose(theirs, by_hand(rewards, updates=2), rtol=1e-12)
    assert np.abs(np.array(ours) - np.array(theirs)).max() > 0.1


def test_2020_normalises_reward_v1_across_episodes_and_keeps_the_raw_one() -> None:
    environment = meta_world("push-v3", protocol="2020", horizon=4).make(0, "training")
    raw, shown = [], []
    for action in some_actions(12):
        if len(raw) % 4 == 0:
            environment.reset()
        step = environment.step(action)
        raw.append(step.raw_reward)
        shown.append(step.reward)
    np.testing.assert_allclose(shown, by_hand(np.array(raw), updates=1), rtol=1e-12)


@pytest.mark.parametrize(("conditions", "length"), [({"protocol": "2020"}, 150), ({"protocol": "v3"}, 500)])
def test_episodes_end_at_the_horizon_by_truncation_and_never_go_beyond(conditions: Any, length: int) -> None:
    environment = meta_world("reach-v3", **conditions).make(0, "training")
    for _ in range(2):
        environment.reset()
        steps = [environment.step(np.ones(4, np.float32)) for _ in range(length)]
        assert [step.truncated for step in steps] == [False] * (length - 1) + [True]
        assert not any(step.terminated for step in steps)
        with pytest.raises(RuntimeError, match=r"no episode is running; call reset\(\)"):
            environment.step(np.ones(4, np.float32))


@pytest.mark.filterwarnings("ignore:Constant")  # the package's policy, on its own actions
def test_success_is_the_flag_of_this_very_step_and_ends_nothing() -> None:
    from metaworld.policies import ENV_POLICY_MAP

    environment, policy = meta_world("reach-v3").make(0, "evaluation"), ENV_POLICY_MAP["reach-v3"]()
    observation, flags = environment.reset(0), []
    for count in range(120):
        action = policy.get_action(observation.astype(np.float64)) if count < 80 else np.ones(4)
        step = environment.step(np.asarray(action, np.float32))
        observation = step.observation
        flags.append(step.success)
        assert not step.terminated
    assert any(flags) and not flags[0] and not flags[-1]  # reached, then left again


def test_actions_are_clipped_by_the_environment() -> None:
    given = []
    for scale in (1.0, 7.0):
        environment = meta_world("push-v3").make(0, "evaluation")
        environment.reset(0)
        steps = [environment.step(scale * np.array([1, -1, 1, 1], np.float32)) for _ in range(5)]
        given.append([(step.observation.tobytes(), step.reward) for step in steps])
    assert given[0] == given[1]


@pytest.mark.parametrize("flag", ["package", "physics"])
def test_unstable_physics_is_an_error_and_not_a_reward_of_zero(flag: str) -> None:
    environment: Any = meta_world("push-v3").make(0, "training")
    environment.reset()
    environment.step(np.zeros(4, np.float32))
    if flag == "package":
        environment._simulator._did_see_sim_exception = True
    else:
        environment._simulator.data.qvel[:] = 1e12
    with pytest.raises(SimulationError, match=r"push-v3: the physics became unstable at step 2, action \[0.0, "):
        environment.step(np.zeros(4, np.float32))
