"""DeepMind Control: the visual tasks of the Dreamer papers, 64 x 64 pictures, from a camera of the task's own.

dm_control is an extra of its own: no image holds it. The two quadruped tasks are left out: in dm_control 1.0.28, the
release for MuJoCo 3.3.0, they call a function that numpy 2.4 no longer has.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mtrepro.benchmarks import Array, SimulationError, pixels_gl
from mtrepro.benchmarks.pixels_environment import Moved, PixelBenchmark
from mtrepro.benchmarks.pixels_mujoco import MujocoCamera
from mtrepro.benchmarks.pixels_settings import SIDE, NamedSettings, need
from mtrepro.engine.processes import changed_environment

PACKAGES = ("dm-control", "mujoco", "numpy")
# Task: domain and task of the suite, and how many actions there are.
TASKS: dict[str, tuple[str, str, int]] = {
    "acrobot-swingup": ("acrobot", "swingup", 1),
    "cartpole-balance": ("cartpole", "balance", 1),
    "cartpole-balance_sparse": ("cartpole", "balance_sparse", 1),
    "cartpole-swingup": ("cartpole", "swingup", 1),
    "cartpole-swingup_sparse": ("cartpole", "swingup_sparse", 1),
    "cheetah-run": ("cheetah", "run", 6),
    "cup-catch": ("ball_in_cup", "catch", 2),
    "finger-spin": ("finger", "spin", 2),
    "finger-turn_easy": ("finger", "turn_easy", 2),
    "finger-turn_hard": ("finger", "turn_hard", 2),
    "hopper-hop": ("hopper", "hop", 4),
    "hopper-stand": ("hopper", "stand", 4),
    "pendulum-swingup": ("pendulum", "swingup", 1),
    "reacher-easy": ("reacher", "easy", 2),
    "reacher-hard": ("reacher", "hard", 2),
    "walker-run": ("walker", "run", 6),
    "walker-stand": ("walker", "stand", 6),
    "walker-walk": ("walker", "walk", 6),
}
LIMIT = 1000  # steps of an episode in the suite
ADVICE = "`make setup` installs it, as the extra `dmc` does; no image holds it"


class Settings(NamedSettings):
    """Everything that decides what these tasks do. No task of the suite ends early."""

    KNOWN: ClassVar[tuple[str, ...]] = tuple(TASKS)

    @model_validator(mode="after")
    def _within_the_suites_limit(self) -> Self:
        if (steps := self.action_repeat * self.horizon) > LIMIT:
            raise ValueError(
                f"action_repeat x horizon = {steps} steps of the suite, which begins anew by itself after {LIMIT}"
            )
        return self


class Suite:
    """One task of the suite; see the protocol `Simulator`."""

    def __init__(self, task: str) -> None:
        self._domain, self._task, actions = TASKS[task]
        with changed_environment({"MUJOCO_GL": "disabled"}):  # it would look for GL, and maybe for a screen
            self._suite: Any = need("dm_control.suite", "dm-control", "dmc", ADVICE)
        self._environment: Any = None
        self._camera: MujocoCamera | None = None
        self.low: NDArray[np.float32] = np.full(actions, -1, np.float32)
        self.high: NDArray[np.float32] = np.full(actions, 1, np.float32)

    def reset(self, seed: int) -> None:
        """Begin an episode: MuJoCo's data is as new, and every random number comes from the seed."""
        if self._environment is None:
            self._environment = self._suite.load(self._domain, self._task)
        # Made anew, the model would be compiled and its textures loaded in each episode; tasks draw from here alone.
        self._environment.task._random = np.random.RandomState(seed)
        self._environment.reset()

    def step(self, action: Array) -> Moved:
        """One environment step.

        Raises:
            SimulationError: MuJoCo met numbers that are not finite.
        """
        try:
            given = self._environment.step(action)
        except Exception as error:
            if type(error).__name__ != "PhysicsError":
                raise
            raise SimulationError(f"the physics became unstable ({error})") from None
        return Moved(float(given.reward or 0.0), False)  # what ends at the suite's own limit is cut off, not over

    def picture(self) -> NDArray[np.uint8]:
        """What the task's camera sees."""
        physics = self._environment.physics
        if self._camera is None:
            self._camera = MujocoCamera(physics.model.ptr, 0)
        return self._camera.picture(physics.data.ptr)

    def numbers(self) -> Array:
        """Positions and velocities of the joints."""
        return np.asarray(self._environment.physics.get_state())

    def drawn_with(self) -> str:
        """The GL library and its driver."""
        return pixels_gl.renderer(SIDE)

    def close(self) -> None:
        """Free simulator and camera."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if self._environment is not None:
            self._environment.close()
            self._environment = None


class Benchmark(PixelBenchmark):
    """The suite's tasks; see the protocol in `benchmarks/__init__.py`."""

    family = "dmc"

    def actions(self, task: str) -> int:
        """How many actions a task takes."""
        return TASKS[task][2]

    def simulator(self, task: str) -> Suite:
        """A simulator of a task."""
        return Suite(task)
