"""One PyBullet task: a physics server of its own for each episode, and a camera on Bullet's software renderer.

A server that has run an episode goes on with other bits than a new one, even where its first state is restored: the
solver keeps a cache. So each episode has a new server; that costs 10 to 25 ms, and makes it a function of its seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, SimulationError
from mtrepro.benchmarks.pixels_environment import Moved
from mtrepro.benchmarks.pixels_settings import SIDE, need


class View(NamedTuple):
    """How the following camera looks."""

    distance: float
    pitch: float
    target: tuple[float, float, float] | None = None  # None: the torso


class Task(NamedTuple):
    """Where the package has a task, how many actions it takes, and how it is seen."""

    module: str
    environment: str
    actions: int
    view: View
    swing_up: bool = False  # ours: starts hanging, and is rewarded for height


_RAIL = View(2.6, -20.0, (0.0, 0.0, 0.15))
TASKS = {
    "AntBulletEnv-v0": Task("gym_locomotion_envs", "AntBulletEnv", 8, View(2.5, -20.0)),
    "HalfCheetahBulletEnv-v0": Task("gym_locomotion_envs", "HalfCheetahBulletEnv", 6, View(2.2, -20.0)),
    "HopperBulletEnv-v0": Task("gym_locomotion_envs", "HopperBulletEnv", 3, View(2.5, -20.0)),
    "HumanoidBulletEnv-v0": Task("gym_locomotion_envs", "HumanoidBulletEnv", 17, View(2.8, -20.0)),
    "InvertedDoublePendulumBulletEnv-v0": Task("gym_pendulum_envs", "InvertedDoublePendulumBulletEnv", 1, _RAIL),
    "InvertedDoublePendulumSwingup": Task(
        "gym_pendulum_envs", "InvertedDoublePendulumBulletEnv", 1, _RAIL, swing_up=True
    ),
    "InvertedPendulumBulletEnv-v0": Task("gym_pendulum_envs", "InvertedPendulumBulletEnv", 1, _RAIL),
    "InvertedPendulumSwingupBulletEnv-v0": Task("gym_pendulum_envs", "InvertedPendulumSwingupBulletEnv", 1, _RAIL),
    "Walker2DBulletEnv-v0": Task("gym_locomotion_envs", "Walker2DBulletEnv", 6, View(2.5, -20.0)),
}
UPRIGHT, LEVEL = (0.0, 0.0, 1.0), (0.0, 1.0, 1.0)


class BulletSimulator:
    """One of the package's environments, or the swing-up that is made of one; see the protocol `Simulator`."""

    def __init__(self, task: str, camera: str) -> None:
        self._task, self._published = TASKS[task], camera == "published"
        with _silenced():
            self._bullet: Any = need("pybullet", "pybullet", "bullet")
            module = need(f"pybullet_envs_gymnasium.{self._task.module}", "pybullet-envs-gymnasium", "bullet")
        self._make: Callable[[], Any] = getattr(module, self._task.environment)
        self._environment: Any = None
        self._observed: Array = np.zeros(0)
        self.low: NDArray[np.float32] = np.full(self._task.actions, -1, np.float32)
        self.high: NDArray[np.float32] = np.full(self._task.actions, 1, np.float32)

    def reset(self, seed: int) -> None:
        """Begin an episode in a new physics server."""
        self.close()
        with _silenced():
            self._environment = self._make()
            self._observed, _ = self._environment.reset(seed=seed)
        if self._task.swing_up:
            robot = self._environment.robot
            angle, _ = robot.j1.current_position()
            robot.j1.reset_current_position(np.pi + angle, 0)
            self._observed = robot.calc_state()

    def step(self, action: Array) -> Moved:
        """One environment step.

        Raises:
            SimulationError: a number is not finite.
        """
        if not np.isfinite(self._observed).all():
            raise SimulationError("the physics became unstable")
        try:
            self._observed, reward, terminated, _, _ = self._environment.step(action)
        except AssertionError:  # the pendulums' own check that their positions are finite
            raise SimulationError("the physics became unstable") from None
        if not (np.isfinite(reward) and np.isfinite(self._observed).all()):
            raise SimulationError("the physics became unstable")
        if self._task.swing_up:
            return Moved(self._height(), False)
        return Moved(float(reward), bool(terminated))

    def picture(self) -> NDArray[np.uint8]:
        """What the camera sees."""
        server = self._environment._p
        view, projection, light = self._published_view(server) if self._published else self._following_view(server)
        _, _, pixels, _, _ = server.getCameraImage(
            SIDE, SIDE, view, projection, shadow=int(self._published), lightDirection=light,
            renderer=self._bullet.ER_TINY_RENDERER, flags=self._bullet.ER_NO_SEGMENTATION_MASK,
        )  # fmt: skip
        colours = np.asarray(pixels, dtype=np.uint8).reshape(SIDE, SIDE, 4)[:, :, :3]
        return np.ascontiguousarray(colours)

    def numbers(self) -> Array:
        """What the package's own observation holds."""
        return np.asarray(self._observed, dtype=np.float64)

    def drawn_with(self) -> str:
        """Bullet's software renderer: part of the package."""
        return "pybullet: TinyRenderer"

    def close(self) -> None:
        """End the physics server."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _height(self) -> float:
        """The tip's height, from -1 (hanging) to 1 (upright): (cos a + cos(a + b)) / 2 of two poles of equal length."""
        robot = self._environment.robot
        (first, _), (second, _) = robot.j1.current_position(), robot.j2.current_position()
        return float(np.cos(first) + np.cos(first + second)) / 2

    def _following_view(self, server: Any) -> tuple[Any, Any, Any]:
        view = self._task.view
        target = view.target or tuple(self._environment.robot.robot_body.pose().xyz())
        return (
            server.computeViewMatrixFromYawPitchRoll(target, view.distance, 0.0, view.pitch, 0.0, 2),
            server.computeProjectionMatrixFOV(60.0, 1.0, 0.1, 100.0),
            UPRIGHT,
        )

    def _published_view(self, server: Any) -> tuple[Any, Any, Any]:
        body = 1  # the floor is 0; a pendulum is seen from its rail
        target = server.getLinkState(body, 0)[0] if self._task.view.target is None else (0.0, 0.0, 0.0)
        return (
            server.computeViewMatrixFromYawPitchRoll(target, 2.0, 0.0, 0.0, 0.0, 2),
            server.computeProjectionMatrixFOV(60.0, 1.0, 1.0, 25.0),
            LEVEL,
        )


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Bullet's library prints a line for itself and one for each server, past Python, to both standard streams."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, nowhere = {stream: os.dup(stream) for stream in (1, 2)}, os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in kept:
            os.dup2(nowhere, stream)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has printed and not yet written
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
