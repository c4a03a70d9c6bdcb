"""A run's own clock: every moment belongs to exactly one part of the work, so the parts add up to the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal, get_args

Part = Literal[
    "start-up",
    "waiting",
    "policy",
    "environment",
    "replay",
    "update",
    "evaluation",
    "metrics",
    "progress",
    "checkpoint",
]
MEANING: dict[Part, str] = {
    "start-up": "loading the program, making environments, comparing the simulators, reading a checkpoint",
    "waiting": "for another process that trains this run, for a GPU",
    "policy": "choosing actions in training",
    "environment": "stepping and resetting the training environments",
    "replay": "storing transitions",
    "update": "drawing batches and learning from them",
    "evaluation": "policy and environments of the evaluations",
    "metrics": "rows of training.csv, and the looks at the method's health",
    "progress": "heartbeat, progress lines, progress.json",
    "checkpoint": "saving the state",
}
KEEPING: tuple[Part, ...] = ("metrics", "progress", "checkpoint")  # what a run spends on being watched and continued


class Clock:
    """Seconds of wall time by part; one part is always under way.

    Args:
        part: the one under way.
        begun: when it began, by `now`; at once if None.
        now: seconds since any fixed moment.
    """

    def __init__(self, part: Part, begun: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._spent: dict[str, float] = dict.fromkeys(get_args(Part), 0.0)
        self._now = now
        self._part: Part = part
        self._since = now() if begun is None else begun

    def enter(self, part: Part) -> None:
        """End the part under way and begin another."""
        now = self._now()
        self._spent[self._part] += now - self._since
        self._part, self._since = part, now

    def parts(self) -> dict[str, float]:
        """Seconds of each part until now."""
        self.enter(self._part)
        return dict(self._spent)

    def add(self, earlier: Mapping[str, float]) -> None:
        """Count what earlier processes of the run spent."""
        for part, seconds in earlier.items():
            self._spent[part] = self._spent.get(part, 0.0) + seconds


def worked(parts: Mapping[str, float]) -> float:
    """Seconds of all parts but waiting."""
    return sum(seconds for part, seconds in parts.items() if part != "waiting")
