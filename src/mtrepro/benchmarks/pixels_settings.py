"""What the settings of every pixel family say."""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mtrepro.errors import MissingError

SIDE = 64  # pixels of a picture's side; every picture is SIDE x SIDE x 3, uint8


class PixelSettings(BaseModel, ABC):
    """What the settings of every pixel family hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    MEASURES_SUCCESS: ClassVar[bool] = False  # these tasks say what is earned, not what is solved

    action_repeat: int = Field(ge=1, description="environment steps for which an action is held; rewards are summed")
    horizon: int = Field(
        ge=1, description="agent steps of an episode at most; environment steps are action_repeat times as many"
    )
    evaluation_episodes: int = Field(ge=1, description="episodes per task at each evaluation")

    @abstractmethod
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""

    @property
    def ends_early(self) -> bool:
        """Whether an episode may end before its horizon."""
        return True


class EndingSettings(PixelSettings):
    """The same where early termination is a choice."""

    early_termination: bool = Field(
        description="whether an episode ends where the simulator says so, such as at a fall; else only at its horizon"
    )

    @property
    def ends_early(self) -> bool:
        """Whether an episode may end before its horizon."""
        return self.early_termination


class NamedSettings(PixelSettings):
    """The same where tasks are chosen by name; `KNOWN` is all of them."""

    KNOWN: ClassVar[tuple[str, ...]] = ()

    tasks: tuple[str, ...] = Field(description="list of task names")

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return self.tasks

    @field_validator("tasks", mode="before", json_schema_input_type=list[str])
    @classmethod
    def _known_tasks(cls, tasks: object) -> object:
        if not isinstance(tasks, list | tuple) or not tasks:
            raise ValueError(f"no tasks; give a list of names such as [{cls.KNOWN[0]}]")
        return known_once(tasks, cls.KNOWN)


def known_once(words: Sequence[object], known: Sequence[str]) -> tuple[str, ...]:
    """`words` as a tuple.

    Raises:
        ValueError: one is not known, or is given twice; says which, and the nearest known one.
    """
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown task {word!r} (nearest: {near}; known: {', '.join(known)})")
        if list(words).count(word) > 1:
            raise ValueError(f"task {word!r} is given twice; a task counts once")
    return tuple(str(word) for word in words)


def need(module: str, package: str, family: str, how: str = "`make setup` installs it") -> ModuleType:
    """Import a simulator's module when it is first used.

    Raises:
        MissingError: it cannot be imported; says which package, and how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(
            f"benchmark family {family}: the package {package} cannot be imported: {error}\n"
            f"  {how}; see docs/benchmarks/{family}.md"
        ) from None
