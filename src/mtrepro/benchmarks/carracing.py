"""CarRacing: Gymnasium's CarRacing-v3, seen as 64 x 64 pictures. The last step's picture alone is drawn.

An episode ends where the lap is complete, which is its success, or where the car has left the field, which costs 100.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtrepro.benchmarks import Array, SimulationError
from mtrepro.benchmarks.pixels_environment import Moved, PixelBenchmark
from mtrepro.benchmarks.pixels_settings import SIDE, NamedSettings, need

PACKAGES = ("box2d", "gymnasium", "numpy", "pygame")
TASK = "CarRacing-v3"


class Settings(NamedSettings):
    """Everything that decides what this task does."""

    KNOWN: ClassVar[tuple[str, ...]] = (TASK,)

    domain_randomize: bool = Field(description="whether road and grass have other colours in each episode")


class CarRacing:
    """Gymnasium's environment, made anew for each episode: contacts come in the order that Box2D's memory gives them.

    See the protocol `Simulator`.
    """

    def __init__(self, domain_randomize: bool) -> None:
        need("Box2D", "box2d", "carracing")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would greet on standard output
        self._pygame: Any = need("pygame", "pygame", "carracing")
        self._module: Any = need("gymnasium.envs.box2d.car_racing", "gymnasium", "carracing")
        self._domain_randomize = domain_randomize
        self._environment: Any = None
        self.low: NDArray[np.float32] = np.array([-1, 0, 0], np.float32)  # steer; gas; brake
        self.high: NDArray[np.float32] = np.ones(3, np.float32)

    def reset(self, seed: int) -> None:
        """Begin an episode on a track that the seed decides."""
        self.close()
        self._environment = self._module.CarRacing(domain_randomize=self._domain_randomize)
        self._environment._render = lambda mode: None  # each step would draw; `picture` does, when asked
        self._environment.reset(seed=seed)

    def step(self, action: Array) -> Moved:
        """One environment step.

        Raises:
            SimulationError: the reward is not finite.
        """
        _, reward, terminated, _, info = self._environment.step(action)
        if not np.isfinite(reward):
            raise SimulationError("the physics became unstable")
        return Moved(float(reward), bool(terminated), bool(info.get("lap_finished", False)))

    def picture(self) -> NDArray[np.uint8]:
        """What the environment observes, from its window of 1000 x 800 straight to SIDE x SIDE."""
        car = self._environment
        car._create_image_array = self._scaled
        picture: NDArray[np.uint8] = type(car)._render(car, "state_pixels")
        return picture

    def numbers(self) -> Array:
        """Place, angle and speeds of the car's hull, and how many tiles it has visited."""
        hull = self._environment.car.hull
        speeds = (*hull.linearVelocity, hull.angularVelocity)
        return np.array([*hull.position, hull.angle, *speeds, self._environment.tile_visited_count])

    def drawn_with(self) -> str:
        """pygame, and which instructions it scales pictures with."""
        return f"pygame: {self._pygame.transform.get_smoothscale_backend()}"

    def close(self) -> None:
        """Free the world."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _scaled(self, window: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
        """(SIDE, SIDE, 3) of pygame's window; the environment asks for 96 x 96 here."""
        small = self._pygame.transform.smoothscale(window, (SIDE, SIDE))
        return np.transpose(self._pygame.surfarray.array3d(small), (1, 0, 2)).copy()


class Benchmark(PixelBenchmark):
    """CarRacing; see the protocol in `benchmarks/__init__.py`."""

    family = "carracing"

    def actions(self, task: str) -> int:
        """How many actions the task takes."""
        return 3

    def simulator(self, task: str) -> CarRacing:
        """A simulator of the task."""
        return CarRacing(self.settings.domain_randomize)
