"""Meta-World 3.1.1: any list of its 50 tasks, under the conditions of 2020 (mtrl, CARE, PTSL) or its own of v3.

A protocol is a name for a set of conditions. Every condition can also be given by itself and then goes before the
protocol's; the resolved settings hold each one, so that a written specification hides nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtrepro.benchmarks import Purpose
from mtrepro.benchmarks.metaworld_environment import Sawyer, draw_goals
from mtrepro.benchmarks.metaworld_starts import Starts
from mtrepro.benchmarks.metaworld_tasks import COSTS, MT50, SETS
from mtrepro.engine.streams import numpy_stream

PACKAGES = ("gymnasium", "metaworld", "mujoco", "numpy", "scipy")
LONGEST = 500  # Meta-World's max_path_length: its environments raise an error beyond it

PROTOCOLS: dict[str, dict[str, Any]] = {
    # mtrl and PTSL, as near as v3 allows: its physics, tasks' details and reward v1 are not those of the 2020 code.
    "2020": {
        "observation_size": 12,
        "horizon": 150,
        "goals": "fixed",
        "reward_version": "v1",
        "reward_normaliser": "exponential",
        "normaliser_rate": 0.001,
        "goal_count": 50,
        "evaluation_episodes": 1,
    },
    # Meta-World's own: one evaluation episode for each of the 50 goals.
    "v3": {
        "observation_size": 39,
        "horizon": 500,
        "goals": "random",
        "reward_version": "v2",
        "reward_normaliser": "none",
        "normaliser_rate": 0.001,
        "goal_count": 50,
        "evaluation_episodes": 50,
    },
}
_BY_PROTOCOL: Any = None  # stands for what the protocol says; never seen in settings that were validated


def _or_null(schema: dict[str, Any]) -> None:
    """Let a JSON Schema accept null, which means what the protocol says."""
    kind = {key: schema.pop(key) for key in list(schema) if key not in {"title", "description", "default"}}
    schema["anyOf"] = [kind, {"type": "null"}]


def _condition(description: str, **limits: Any) -> Any:
    """A field that the protocol fills where it is not given."""
    return Field(
        _BY_PROTOCOL, description=f"{description}; null: as the protocol says", json_schema_extra=_or_null, **limits
    )


class Settings(BaseModel):
    """Everything that decides what Meta-World does. Validation fills in the protocol's conditions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    tasks: tuple[str, ...] = Field(description="MT10, MT25, MT50, or a list of task names such as reach-v3")
    protocol: Literal["2020", "v3"] = Field(description="conditions of mtrl, CARE and PTSL, or Meta-World's own of v3")
    observation_size: Literal[12, 39] = _condition(
        "12: places of hand, two objects, goal; 39: all that Meta-World gives"
    )
    horizon: int = _condition("steps of an episode; at most 500", ge=1)
    goals: Literal["fixed", "random"] = _condition("one goal per task and seed, or one of 50 at each reset")
    reward_version: Literal["v1", "v2"] = _condition(
        "Meta-World's reward functions of 2020, or those of its paper's v2"
    )
    reward_normaliser: Literal["none", "exponential"] = _condition(
        "divide rewards by a running standard deviation, or not"
    )
    normaliser_rate: float = _condition("how fast the running standard deviation follows", gt=0, le=1)
    goal_count: int = _condition("goals of each task, drawn by the run's seed", ge=1)
    evaluation_episodes: int = _condition("episodes per task at each evaluation; episode k starts at goal k", ge=1)

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return self.tasks

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("protocol") == 2020:
            values = {**values, "protocol": "2020"}  # YAML reads the name without quotes as a number
        protocol = values.get("protocol") if isinstance(values, Mapping) else None
        if not isinstance(protocol, str) or protocol not in PROTOCOLS:
            return values  # the check of the field itself says what is wrong
        given = {key: value for key, value in values.items() if value is not None}
        return {**PROTOCOLS[protocol], **given}

    @field_validator("tasks", mode="before", json_schema_input_type=Literal["MT10", "MT25", "MT50"] | list[str])
    @classmethod
    def _known_tasks(cls, tasks: Any) -> Any:
        if isinstance(tasks, str):
            if tasks not in SETS:
                raise ValueError(f"unknown set of tasks {tasks!r}; known: {', '.join(SETS)}, or a list of task names")
            return SETS[tasks]
        if not isinstance(tasks, list | tuple) or not tasks:
            raise ValueError(f"no tasks; give {', '.join(SETS)}, or a list of task names such as [{MT50[0]}]")
        for task in tasks:
            if task not in MT50:
                near = difflib.get_close_matches(str(task), MT50, n=1, cutoff=0.0)[0]
                raise ValueError(f"unknown task {task!r} (nearest: {near})")
            if list(tasks).count(task) > 1:
                raise ValueError(f"task {task!r} is given twice; a task counts once")
        return tuple(tasks)

    @field_validator("horizon")
    @classmethod
    def _possible_horizon(cls, horizon: int) -> int:
        if horizon > LONGEST:
            raise ValueError(f"{horizon} steps are impossible: Meta-World's environments end after {LONGEST} at most")
        return horizon


class Benchmark:
    """Meta-World; see the protocol in `benchmarks/__init__.py`."""

    stock = False  # the package's own classes instead of the faster layer over them

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks = settings.tasks
        self.observation_shape: tuple[int, ...] = (settings.observation_size,)
        self.observation_dtype: np.dtype[Any] = np.dtype(np.float32)
        self.action_size = 4
        self.action_mask: NDArray[np.bool_] = np.ones((len(settings.tasks), 4), dtype=np.bool_)
        self.costs = [COSTS[task] for task in settings.tasks]
        self.horizon = settings.horizon
        self.evaluation_episodes = settings.evaluation_episodes
        self._goals: dict[str, NDArray[np.float64]] = {}

    def check(self) -> None:
        """Compare the faster layer with the package's own classes: one reset and a few steps of each task.

        Raises:
            FastSimulatorError: they differ, or the layer was made for another version; names where.
        """
        if self.stock:
            return
        from mtrepro.benchmarks.metaworld_comparison import compare_steps, compare_texts

        compare_texts()
        for task, name in enumerate(self.tasks):
            compare_steps(name, self.goals(task)[0], self.settings.reward_version)

    def make(self, task: int, purpose: Purpose) -> Sawyer:
        """The environment of one task. Training and evaluation share the list of goals and nothing else."""
        return Sawyer(self.settings, self.seed, self.tasks[task], self.goals(task), purpose, self.stock)

    def goals(self, task: int) -> NDArray[np.float64]:
        """The goals of one task, (goal_count, size): a matter of the seed and its name, not of the other tasks."""
        name = self.tasks[task]
        if name not in self._goals:
            self._goals[name] = self._draw(name)
        return self._goals[name]

    def _draw(self, name: str) -> NDArray[np.float64]:
        count, stream = self.settings.goal_count, numpy_stream(self.seed, "metaworld", name, "goals")
        if self.stock:
            return draw_goals(name, stream, count, stock=True)
        starts = Starts(self.seed, name, count)
        if starts.goals is not None:
            return starts.goals
        goals = draw_goals(name, stream, count)
        starts.save(goals=goals)
        return goals
