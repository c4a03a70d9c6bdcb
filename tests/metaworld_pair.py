"""One task in both simulators, the faster layer's and the package's own, moved alike and compared in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import metaworld_state
from mtrepro.benchmarks.metaworld_environment import draw_goals
from mtrepro.benchmarks.metaworld_simulators import make_fast, make_stock, set_goal

Array = NDArray[Any]


class Pair:
    """Both simulators of a task, at the same goals and under the same actions."""

    def __init__(self, task: str, seed: int = 0) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self.task, self._rng = task, np.random.default_rng(seed)
        self.fast, self.stock = make_fast(task, "v2"), make_stock(task, "v2")
        self._expert, self._goals = ENV_POLICY_MAP[task](), draw_goals(task, np.random.default_rng(seed), 3)
        self.reached: set[str] = set()  # flags that were up at some step

    def version(self, reward_version: str) -> None:
        """Go on with the other reward functions."""
        self.fast.reward_function_version = self.stock.reward_function_version = reward_version

    def episode(self, goal: int, by: str, steps: int) -> None:
        """Play and compare: observation, reward, both flags and every value of `info`.

        Args:
            by: `expert`, the package's scripted policy with noise, or `random`.
        """
        for simulator in (self.fast, self.stock):
            set_goal(simulator, self.task, self._goals[goal])
        observation, theirs = self.fast.reset()[0], self.stock.reset()[0]
        assert observation.tobytes() == theirs.tobytes(), f"{self.task}: the reset differs"
        for count in range(steps):
            action = self._action(observation, by)
            ours, others = self.fast.step(action), self.stock.step(action)
            assert bits(ours) == bits(others), f"{self.task}: step {count} differs: {ours} is not {others}"
            observation = ours[0]
            self.reached |= {name for name in ("success", "grasp_success") if ours[4][name]}

    def model_fields(self) -> Iterator[tuple[str, Array]]:
        """The arrays of the fast one's model that a task could change."""
        yield from metaworld_state.model_fields(self.fast.model).items()

    def close(self) -> None:
        """Free both."""
        self.fast.close()
        self.stock.close()

    def _action(self, observation: Array, by: str) -> Array:
        if by == "random":
            return self._rng.uniform(-1.2, 1.2, 4).astype(np.float32)
        scripted = np.asarray(self._expert.get_action(observation)) + self._rng.normal(0.0, 0.05, 4)
        return np.clip(scripted, -1, 1).astype(np.float32)


def bits(step: Any) -> list[Any]:
    """Everything that a step gave, to be compared exactly; NaN equals NaN."""
    observation, reward, terminated, truncated, info = step
    values = [(name, np.float64(value).tobytes()) for name, value in info.items()]
    return [observation.dtype, observation.tobytes(), np.float64(reward).tobytes(), terminated, truncated, values]
