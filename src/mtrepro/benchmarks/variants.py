"""Variants: one MuJoCo robot as a family of tasks, with changed physics or target velocity; some are held out.

For meta-learning: what was learned on the training tasks is adapted to tasks that nothing was trained on. A change is a
factor on what the model holds: gravity, friction of every geom, mass and inertia of every body, gear of every actuator.
A target velocity v* replaces the reward for running forward, w v, by -w |v - v*|.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtrepro.benchmarks.mujoco import ROBOTS, GymnasiumMujoco
from mtrepro.benchmarks.pixels_environment import PixelBenchmark
from mtrepro.benchmarks.pixels_settings import EndingSettings, known_once

PACKAGES = ("gymnasium", "mujoco", "numpy")
RUNNERS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Walker2d-v5")  # they tell their forward velocity


class Changes(BaseModel):
    """What makes one variant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    gravity: float = Field(1.0, ge=0, description="factor on gravity")
    friction: float = Field(1.0, gt=0, description="factor on the friction of every geom")
    mass: float = Field(1.0, gt=0, description="factor on mass and inertia of every body")
    gear: float = Field(1.0, gt=0, description="factor on the gear of every actuator")
    target_velocity: float | None = Field(None, description="m/s that is rewarded; null: the faster the better")

    def words(self) -> str:
        """What is changed, such as 'gravity-0.5', or 'unchanged'."""
        changed = {name: value for name, value in self if value != type(self).model_fields[name].default}
        return "-".join(f"{name}-{value:g}" for name, value in changed.items()) or "unchanged"


class Settings(EndingSettings):
    """Everything that decides what these tasks do."""

    base: str = Field(description="the MuJoCo task that is varied, such as HalfCheetah-v5")
    training: tuple[Changes, ...] = Field(description="list of changes, one for each task to train on")
    held_out: tuple[Changes, ...] = Field(description="list of changes, one for each task to adapt to")
    split: Literal["training", "held_out", "both"] = Field(
        description="which tasks this benchmark has; of both, those held out come last"
    )

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks of `split`, in order."""
        return tuple(self.variants())

    def held_out_tasks(self) -> tuple[str, ...]:
        """The names of the tasks that nothing trains on; none where the benchmark has them alone."""
        return self.task_names()[len(self.training) :] if self.split == "both" else ()

    def variants(self) -> dict[str, Changes]:
        """The changes of each task of `split`, by its name."""
        parts = {"training": self.training, "held_out": self.held_out, "both": (*self.training, *self.held_out)}
        return {f"{self.base}-{changes.words()}": changes for changes in parts[self.split]}

    @field_validator("training", "held_out", mode="before", json_schema_input_type=list[Changes])
    @classmethod
    def _several(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given

    @field_validator("base")
    @classmethod
    def _known_base(cls, base: str) -> str:
        return known_once([base], tuple(ROBOTS))[0]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        given = [changes.words() for changes in (*self.training, *self.held_out)]
        if not self.training or not self.held_out:
            raise ValueError("training and held_out each need a variant at least")
        for words in given:
            if given.count(words) > 1:
                raise ValueError(f"the variant {words} is given twice; one that is trained on cannot be held out")
        runs = any(changes.target_velocity is not None for changes in (*self.training, *self.held_out))
        if runs and self.base not in RUNNERS:
            raise ValueError(f"{self.base} has no forward velocity to reward; known: {', '.join(RUNNERS)}")
        return self


class Variant(GymnasiumMujoco):
    """A MuJoCo task whose model, or reward, is changed."""

    def __init__(self, base: str, changes: Changes) -> None:
        super().__init__(base, "variants")
        self._target = changes.target_velocity
        import mujoco  # type: ignore[import-untyped]

        model, data = self.environment.model, self.environment.data
        model.opt.gravity[:] *= changes.gravity
        model.geom_friction[:] *= changes.friction
        model.body_mass[:] *= changes.mass
        model.body_inertia[:] *= changes.mass
        model.actuator_gear[:] *= changes.gear
        mujoco.mj_setConst(model, data)  # what MuJoCo derives from masses when it compiles a model

    def reward(self, reward: float, info: Mapping[str, Any]) -> float:
        """The environment's own, or with a target velocity -w |v - v*| in the place of w v."""
        if self._target is None:
            return reward
        weight = float(self.environment._forward_reward_weight)
        return reward - float(info["reward_forward"]) - weight * abs(float(info["x_velocity"]) - self._target)


class Benchmark(PixelBenchmark):
    """Variants of one robot; see the protocol in `benchmarks/__init__.py`.

    `held_out` names the tasks that nothing may train on. Alone (`split: held_out`) they are tasks like any others, to
    begin from scratch on or to go on from what another run left.
    """

    family = "variants"

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__(settings, seed)
        self.held_out = settings.held_out_tasks()

    def actions(self, task: str) -> int:
        """How many actions a task takes."""
        return ROBOTS[self.settings.base].actions

    def simulator(self, task: str) -> Variant:
        """A simulator of a task."""
        return Variant(self.settings.base, self.settings.variants()[task])
