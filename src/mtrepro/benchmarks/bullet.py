"""PyBullet: the locomotion and pendulum tasks of the Dreamer transfer papers, seen as 64 x 64 pictures.

Results are not comparable across cameras, so there are two: `following` shows floor and torso of every robot,
`published` is that of the papers' code (arXiv 2108.06526), which looks along the floor and shows none of it under
Hopper and Walker2D.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mtrepro.benchmarks.bullet_simulator import TASKS, BulletSimulator
from mtrepro.benchmarks.pixels_environment import PixelBenchmark
from mtrepro.benchmarks.pixels_settings import EndingSettings, NamedSettings

PACKAGES = ("gymnasium", "numpy", "pybullet", "pybullet-envs-gymnasium")


class Settings(EndingSettings, NamedSettings):
    """Everything that decides what these tasks do."""

    KNOWN: ClassVar[tuple[str, ...]] = tuple(TASKS)

    camera: Literal["following", "published"] = Field(
        description="follow the torso and show the floor, or as the papers' code looks: along the floor, at link 0"
    )


class Benchmark(PixelBenchmark):
    """PyBullet's tasks; see the protocol in `benchmarks/__init__.py`."""

    family = "bullet"

    def actions(self, task: str) -> int:
        """How many actions a task takes."""
        return TASKS[task].actions

    def simulator(self, task: str) -> BulletSimulator:
        """A simulator of a task."""
        return BulletSimulator(task, self.settings.camera)
