"""The state of Meta-World's simulators: taken anywhere and loaded elsewhere, it continues with the same bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrepro.benchmarks import Environment, metaworld_state
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.metaworld_tasks import MT50

Array = NDArray[Any]
V1 = ("push-v3", "pick-place-v3", "hammer-v3", "basketball-v3", "bin-picking-v3", "faucet-open-v3", "lever-pull-v3")


class Player:
    """Plays the package's scripted policy with noise: it reaches contact, as random actions rarely do."""

    def __init__(self, task: str) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._policy, self._rng = ENV_POLICY_MAP[task](), np.random.default_rng(0)

    def action(self, observation: Array, count: int) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the policies say that their own actions will be clipped
            scripted = np.asarray(self._policy.get_action(observation.astype(np.float64)))
        noisy = scripted + self._rng.normal(0.0, 0.1, 4)
        return (noisy if count % 4 else self._rng.uniform(-1.2, 1.2, 4)).astype(np.float32)

    def play(self, environments: list[Environment], observation: Array, steps: int) -> Array:
        """Step all environments by the same actions, compare all that they give, return the last observation."""
        for count in range(steps):
            action = self.action(observation, count)
            given = [environment.step(action) for environment in environments]
            assert len({(step.observation.tobytes(), *step[1:]) for step in given}) == 1
            observation = given[0].observation
        return observation


def only_plain(state: Any) -> bool:
    """Whether a state is nested dicts and lists of numbers, strings, None and arrays of numbers."""
    if isinstance(state, dict):
        return all(type(key) is str and only_plain(item) for key, item in state.items())
    if isinstance(state, list):
        return all(map(only_plain, state))
    if isinstance(state, np.ndarray):
        return state.dtype.kind in "fiub"
    return state is None or type(state) in (bool, int, float, str)


@pytest.mark.parametrize(
    ("task", "reward_version"), [(task, "v2") for task in MT50] + [(task, "v1") for task in V1], ids=str
)
def test_a_state_continues_with_the_same_bits(task: str, reward_version: str) -> None:
    benchmark = load_benchmark("metaworld", {"tasks": [task], "protocol": "v3", "reward_version": reward_version}, 0)
    one, other, player = benchmark.make(0, "training"), benchmark.make(0, "training"), Player(task)
    one.reset()
    start = one.reset()
    other.reset(7)  # the other one has been elsewhere: nothing of that may stay
    other.load_state(one.state())  # right at a start, where MuJoCo's positions lag one substep behind
    middle = player.play([one, other], start, 40)
    state = one.state()
    assert only_plain(state)
    other.reset(9)
    other.load_state(state)  # in the middle of an episode
    player.play([one, other], middle, 20)
    starts = [environment.reset() for environment in (one, other)]
    assert starts[0].tobytes() == starts[1].tobytes()
    player.play([one, other], starts[0], 10)
    one.close()
    other.close()


def test_the_normaliser_the_stream_and_the_step_count_belong_to_the_state() -> None:
    values = {"tasks": ["push-v3"], "protocol": "2020", "goals": "random", "horizon": 8}
    benchmark = load_benchmark("metaworld", values, 0)
    one, other = benchmark.make(0, "training"), benchmark.make(0, "training")
    one.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, size=(29, 4)).astype(np.float32)
    for action in actions[:5]:
        one.step(action)
    other.load_state(one.state())
    ends = []
    for count, action in enumerate(actions[5:]):
        first, second = one.step(action), other.step(action)
        assert (first.observation.tobytes(), *first[1:]) == (second.observation.tobytes(), *second[1:])
        if first.truncated:
            ends.append(count)
            assert one.reset().tobytes() == other.reset().tobytes()
    assert ends == [2, 10, 18]


def test_views_into_the_simulator_stay_views_and_shared_memory_stays_shared() -> None:
    benchmark = load_benchmark("metaworld", {"tasks": ["basketball-v3"], "protocol": "v3"}, 0)
    one: Any = benchmark.make(0, "training")
    other: Any = benchmark.make(0, "training")
    one.reset()
    one._simulator.twin = one._simulator.obj_init_pos[:2]
    other.load_state(one.state())
    simulator = other._simulator
    for name in ("init_left_pad", "init_right_pad", "_target_pos"):
        view, memory = getattr(simulator, name), simulator.data
        owner = memory.xpos if name.startswith("init") else memory.site_xpos
        assert np.shares_memory(view, owner), name
        assert not np.shares_memory(view, one._simulator.data.xpos), name
    simulator.twin[0] = 123.0
    assert simulator.obj_init_pos[0] == 123.0


def test_an_attribute_that_cannot_be_stored_is_named() -> None:
    environment: Any = load_benchmark("metaworld", {"tasks": ["reach-v3"], "protocol": "v3"}, 0).make(0, "training")
    environment._simulator.strange = object()
    with pytest.raises(TypeError, match="attribute 'strange' of a Meta-World environment"):
        environment.state()


def test_no_task_changes_the_parts_of_the_model_that_are_not_stored() -> None:
    for task in ("door-open-v3", "shelf-place-v3", "lever-pull-v3", "disassemble-v3"):
        environment: Any = load_benchmark("metaworld", {"tasks": [task], "protocol": "v3"}, 0).make(0, "training")
        model = environment._simulator.model
        stored = metaworld_state.model_fields(model)
        left_out = {name: field for name, field in metaworld_state._fields(model) if name not in stored}
        before = {name: field.tobytes() for name, field in left_out.items()}
        environment.reset()
        environment.step(np.ones(4, np.float32))
        assert {name: field.tobytes() for name, field in left_out.items()} == before


@pytest.mark.parametrize("purpose", ["training", "evaluation"])
def test_a_state_survives_the_checkpoint_file(purpose: Any, tmp_path: Path) -> None:
    from mtrepro.engine import checkpoint

    benchmark = load_benchmark("metaworld", {"tasks": ["basketball-v3"], "protocol": "2020"}, 0)
    one, other = benchmark.make(0, purpose), benchmark.make(0, purpose)
    actions = np.random.default_rng(0).uniform(-1, 1, size=(12, 4)).astype(np.float32)
    one.reset()
    for action in actions[:6]:
        one.step(action)
    checkpoint.save(tmp_path, 6, {"environment": one.state()})
    loaded = checkpoint.load(tmp_path, warn=pytest.fail)
    assert loaded is not None
    other.load_state(loaded["environment"])
    for action in actions[6:]:
        first, second = one.step(action), other.step(action)
        assert (first.observation.tobytes(), *first[1:]) == (second.observation.tobytes(), *second[1:])
