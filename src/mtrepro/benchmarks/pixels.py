"""Pixels: tasks of several pixel families as one multi-task benchmark, such as CarRacing beside Walker2d.

Each part is a family with its own settings. Every task keeps the streams that it has in its family alone; actions are
padded to the widest task's, and masked.
"""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtrepro.benchmarks import Purpose, bullet, carracing, mujoco, variants
from mtrepro.benchmarks.pixels_environment import PixelBenchmark, PixelEnvironment, padded_mask
from mtrepro.benchmarks.pixels_settings import SIDE

PACKAGES = ("box2d", "gymnasium", "mujoco", "numpy", "pybullet", "pybullet-envs-gymnasium", "pygame")
# Not dmc: what a benchmark can hold is part of what its results depend on, and no image has dm_control.
FAMILIES: dict[str, ModuleType] = {"bullet": bullet, "carracing": carracing, "mujoco": mujoco, "variants": variants}
_FROZEN = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class BulletPart(BaseModel):
    """Tasks of `bullet`."""

    model_config = _FROZEN
    family: Literal["bullet"]
    settings: bullet.Settings


class CarRacingPart(BaseModel):
    """The task of `carracing`."""

    model_config = _FROZEN
    family: Literal["carracing"]
    settings: carracing.Settings


class MujocoPart(BaseModel):
    """Tasks of `mujoco`."""

    model_config = _FROZEN
    family: Literal["mujoco"]
    settings: mujoco.Settings


class VariantsPart(BaseModel):
    """Tasks of `variants`."""

    model_config = _FROZEN
    family: Literal["variants"]
    settings: variants.Settings


Part = Annotated[BulletPart | CarRacingPart | MujocoPart | VariantsPart, Field(discriminator="family")]


class Settings(BaseModel):
    """The parts of the benchmark."""

    model_config = _FROZEN

    parts: tuple[Part, ...] = Field(description="list of families, each with its `family` and `settings`")

    @property
    def evaluation_episodes(self) -> int:
        """Episodes per task at each evaluation; the same in every part."""
        return self.parts[0].settings.evaluation_episodes

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(name for part in self.parts for name in part.settings.task_names())

    @field_validator("parts", mode="before", json_schema_input_type=list[Part])
    @classmethod
    def _known_families(cls, parts: Any) -> Any:
        if not isinstance(parts, list | tuple) or not parts:
            raise ValueError("no parts; give a list of families, each with `family` and `settings`")
        for part in parts:
            family = part.get("family") if isinstance(part, dict) else getattr(part, "family", None)
            if family not in FAMILIES:
                raise ValueError(
                    f"a benchmark cannot mix {family!r} with these: its tasks are not seen as pictures of "
                    f"{SIDE} x {SIDE}, and no agent here sees both states and pixels; known: {', '.join(FAMILIES)}"
                )
        return tuple(parts)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        names = self.task_names()
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"task {name!r} is given twice; a task counts once")
        for part in self.parts:
            held_out: tuple[str, ...] = getattr(part.settings, "held_out_tasks", tuple)()
            if held_out:
                raise ValueError(
                    f"{', '.join(held_out)} would be held out; give this part `split: training` or `split: held_out`"
                )
        episodes = sorted({part.settings.evaluation_episodes for part in self.parts})
        if len(episodes) > 1:
            raise ValueError(f"evaluation_episodes of the parts are {episodes}: an evaluation gives every task as many")
        return self


class Benchmark:
    """Parts of several families; see the protocol in `benchmarks/__init__.py`."""

    stock = False  # there is one simulator only

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks = settings.task_names()
        self.observation_shape: tuple[int, ...] = (SIDE, SIDE, 3)
        self.observation_dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._parts: list[PixelBenchmark] = [
            FAMILIES[part.family].Benchmark(part.settings, seed) for part in settings.parts
        ]
        counts = [part.actions(task) for part in self._parts for task in part.tasks]
        self.action_mask: NDArray[np.bool_] = padded_mask(counts)
        self.action_size: int = self.action_mask.shape[1]
        self.horizon = max(part.horizon for part in self._parts)
        self.evaluation_episodes = settings.evaluation_episodes

    def check(self) -> None:
        """See that what every part needs is there.

        Raises:
            MissingError: a package or a GL library is missing; says which, and how to get it.
        """
        for part in self._parts:
            part.check()

    def make(self, task: int, purpose: Purpose) -> PixelEnvironment:
        """The environment of one task."""
        for part in self._parts:
            if task < len(part.tasks):
                return part.make(task, purpose)
            task -= len(part.tasks)
        raise IndexError(f"there are {len(self.tasks)} tasks")
