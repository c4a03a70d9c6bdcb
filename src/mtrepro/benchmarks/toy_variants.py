"""Variants of the toy: a point whose actions are turned, and whose steps are shortened, by each task's own amount.

The pictures look alike in all of them; how the point moves does not, so a world model of some variants is wrong about
the others until it has adapted. Some variants are held out of training for that.

    position' = clip(position + speed R_turn action),  reward = 1 - |position' - goal| - toll

How a point moves shows in an episode's first pictures, so a model with a memory needs no adapting to know it. Two
things show in no picture, and only rewards tell of them: what every step costs, and a goal of the variant's own, which
stays where it is and is not drawn (as in the navigation in two dimensions of Finn, Abbeel, Levine, ICML 2017,
1703.03400, section 5.3).
"""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtrepro.benchmarks import Array, Purpose, Step, toy

PACKAGES = ("numpy",)
Coordinate = Annotated[float, Field(ge=-1, le=1)]  # of a place in the square


class Variant(BaseModel):
    """How the point of one task moves."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    turn: float = Field(ge=-180, le=180, description="degrees by which the task turns every action")
    speed: float = Field(gt=0, le=1, description="length of one step in the square")
    goal: tuple[Coordinate, Coordinate] | None = Field(
        None, description="the task's only goal, in no picture; null: another in each episode, shown"
    )
    toll: float = Field(0.0, ge=-10, le=10, description="what every step costs: taken from each reward")

    @field_validator("goal", mode="before", json_schema_input_type=list[Coordinate] | None)
    @classmethod
    def _pair(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given


class Settings(BaseModel):
    """Everything that decides what the variants do."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    variants: dict[str, Variant] = Field(
        min_length=1, description="the tasks by name: `turn` (degrees), `speed`, `goal`, `toll`"
    )
    held_out: list[str] = Field([], description="names of variants that are evaluated and never trained on")
    horizon: int = Field(20, ge=1, description="steps of an episode at most")
    evaluation_episodes: int = Field(5, ge=1, description="episodes per task at each evaluation")

    @model_validator(mode="after")
    def _some_held_out(self) -> Self:
        for name in self.held_out:
            if name not in self.variants:
                raise ValueError(f"held_out: {name!r} is no variant; known: {', '.join(self.variants)}")
        if len(set(self.held_out)) < len(self.held_out):
            raise ValueError("held_out: a variant is named twice")
        if len(self.held_out) == len(self.variants):
            raise ValueError("held_out: every variant is held out, so there is none to train on")
        return self

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks: those that are trained on, then those that are held out."""
        return (*(name for name in self.variants if name not in self.held_out), *self.held_out)

    def held_out_tasks(self) -> tuple[str, ...]:
        """The names of those that nothing trains on."""
        return tuple(self.held_out)


class Benchmark:
    """The toy's variants; see the protocol in `benchmarks/__init__.py`."""

    stock = False  # there is one simulator only

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks = settings.task_names()
        self.held_out = settings.held_out_tasks()
        self.observation_shape: tuple[int, ...] = (toy.PIXELS, toy.PIXELS, 3)
        self.observation_dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.action_size = 2
        self.action_mask = np.ones((len(self.tasks), 2), dtype=np.bool_)
        self.horizon = settings.horizon
        self.evaluation_episodes = settings.evaluation_episodes

    def check(self) -> None:
        """Nothing to compare."""

    def make(self, task: int, purpose: Purpose) -> toy.PointMass:
        """The environment of one task."""
        name = self.tasks[task]
        variant = self.settings.variants[name]
        shown = {} if variant.goal is None else {"goals": "fixed", "goal_visible": False}
        like_toy = toy.Settings.model_validate({"kind": "pixels", "horizon": self.horizon, **shown})
        return Turned(like_toy, self.seed, name, variant, purpose)


class Turned(toy.PointMass):
    """One variant; see the protocol `Environment`."""

    def __init__(self, settings: toy.Settings, seed: int, name: str, variant: Variant, purpose: Purpose) -> None:
        super().__init__(settings, seed, name, float(np.deg2rad(variant.turn)), False, purpose)
        self._axes, self._toll = self._axes * (variant.speed / toy.SPEED), variant.toll
        if variant.goal is not None:
            self._fixed_goal = np.array(variant.goal)
            self._goal = self._fixed_goal

    def step(self, action: Array) -> Step:
        """Move the point, and pay for it."""
        moved = super().step(action)
        return moved._replace(reward=moved.reward - self._toll, raw_reward=moved.raw_reward - self._toll)
