"""What the processes of a run did, one after another: its checkpoints carry it, run.json and timing.csv tell it."""

from __future__ import annotations

import socket
from typing import Any

from mtrepro.engine.clock import Clock, worked


class History:
    """Resumes, whether they were bit-exact, and where the time went.

    What a killed process did after its last checkpoint is lost and done again; its time is not counted.

    Args:
        clock: this process's; from `resume` on it counts the time of those before it, too.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.resumes, self.exact = 0, True
        self.timing: list[list[Any]] = []  # rows of timing.csv: step, seconds, steps a second, host
        self._step, self._seconds = 0, 0.0  # at the last look
        self._parts: dict[str, float] = {}

    def account(self, step: int) -> dict[str, Any]:
        """Note how far the run came since the last look; returns everything, for a checkpoint."""
        self._parts = self.clock.parts()
        seconds = worked(self._parts)
        speed = (step - self._step) / max(seconds - self._seconds, 1e-9)
        self.timing.append([step, seconds, speed, socket.gethostname()])
        self._step, self._seconds = step, seconds
        return {"resumes": self.resumes, "exact": self.exact, "parts": self._parts, "timing": self.timing}

    def resume(self, state: dict[str, Any], step: int) -> None:
        """Go on with the history in a checkpoint of this step."""
        self.resumes, self.exact, self.timing = state["resumes"] + 1, self.exact and state["exact"], state["timing"]
        self.clock.add(state["parts"])
        self._step, self._seconds = step, worked(state["parts"])

    def record(self) -> dict[str, Any]:
        """For run.json: seconds of each part, and of all but waiting, at the last look."""
        return {"exact": self.exact, "resumes": self.resumes, "seconds": self._seconds, "parts": self._parts}
