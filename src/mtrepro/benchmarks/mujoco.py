"""MuJoCo: Gymnasium's v5 locomotion tasks, seen as 64 x 64 pictures from the robot's tracking camera."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, SimulationError, pixels_gl
from mtrepro.benchmarks.pixels_environment import Moved, PixelBenchmark
from mtrepro.benchmarks.pixels_mujoco import MujocoCamera
from mtrepro.benchmarks.pixels_settings import SIDE, EndingSettings, NamedSettings, need

PACKAGES = ("gymnasium", "mujoco", "numpy")


class Robot(NamedTuple):
    """Where Gymnasium has a task, how many actions it takes, and what looks at it."""

    module: str
    environment: str
    actions: int
    camera: str | Mapping[str, Any] = "track"


_RAIL: dict[str, Any] = {"lookat": (0.0, 0.0, 0.2), "azimuth": 90.0, "elevation": -15.0}  # its cart moves a metre
ROBOTS = {
    "Ant-v5": Robot("ant_v5", "AntEnv", 8),
    "HalfCheetah-v5": Robot("half_cheetah_v5", "HalfCheetahEnv", 6),
    "Hopper-v5": Robot("hopper_v5", "HopperEnv", 3),
    "Humanoid-v5": Robot("humanoid_v5", "HumanoidEnv", 17),
    "HumanoidStandup-v5": Robot("humanoidstandup_v5", "HumanoidStandupEnv", 17),
    "InvertedDoublePendulum-v5": Robot(
        "inverted_double_pendulum_v5", "InvertedDoublePendulumEnv", 1, {**_RAIL, "distance": 4.0}
    ),
    "InvertedPendulum-v5": Robot("inverted_pendulum_v5", "InvertedPendulumEnv", 1, {**_RAIL, "distance": 3.4}),
    "Swimmer-v5": Robot("swimmer_v5", "SwimmerEnv", 2),
    "Walker2d-v5": Robot("walker2d_v5", "Walker2dEnv", 6),
}


class Settings(EndingSettings, NamedSettings):
    """Everything that decides what these tasks do."""

    KNOWN: ClassVar[tuple[str, ...]] = tuple(ROBOTS)


class GymnasiumMujoco:
    """One of Gymnasium's MuJoCo environments; see the protocol `Simulator`."""

    def __init__(self, task: str, family: str = "mujoco") -> None:
        robot = ROBOTS[task]
        need("mujoco", "mujoco", family)
        module = need(f"gymnasium.envs.mujoco.{robot.module}", "gymnasium", family)
        self.environment: Any = getattr(module, robot.environment)()
        self._camera_of = robot.camera
        self._camera: MujocoCamera | None = None
        self.low: NDArray[np.float32] = self.environment.action_space.low
        self.high: NDArray[np.float32] = self.environment.action_space.high
        warnings = importlib.import_module("mujoco").mjtWarning
        alarms = slice(int(warnings.mjWARN_BADQPOS), int(warnings.mjWARN_BADQACC) + 1)
        self._alarms = self.environment.data.warning.number[alarms]  # a view: MuJoCo counts here

    def reset(self, seed: int) -> None:
        """Begin an episode: MuJoCo's data is as new, and every random number comes from the seed."""
        self.environment.reset(seed=seed)

    def step(self, action: Array) -> Moved:
        """One environment step.

        Raises:
            SimulationError: MuJoCo met numbers that are not finite, and would start anew by itself.
        """
        _, reward, terminated, _, info = self.environment.step(action)
        if any(self._alarms.tolist()) or not np.isfinite(reward):
            raise SimulationError("the physics became unstable")
        return Moved(self.reward(float(reward), info), bool(terminated))

    def reward(self, reward: float, info: Mapping[str, Any]) -> float:
        """The reward of a step; the environment's own."""
        return reward

    def picture(self) -> NDArray[np.uint8]:
        """What the camera sees."""
        if self._camera is None:
            self._camera = MujocoCamera(self.environment.model, self._camera_of)
        return self._camera.picture(self.environment.data)

    def numbers(self) -> Array:
        """Positions and velocities of the joints."""
        data = self.environment.data
        return np.concatenate([data.qpos, data.qvel])

    def drawn_with(self) -> str:
        """The GL library and its driver."""
        return pixels_gl.renderer(SIDE)

    def close(self) -> None:
        """Free simulator and camera."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self.environment.close()


class Benchmark(PixelBenchmark):
    """Gymnasium's MuJoCo tasks; see the protocol in `benchmarks/__init__.py`."""

    family = "mujoco"

    def actions(self, task: str) -> int:
        """How many actions a task takes."""
        return ROBOTS[task].actions

    def simulator(self, task: str) -> GymnasiumMujoco:
        """A simulator of a task."""
        return GymnasiumMujoco(task)
