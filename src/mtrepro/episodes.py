"""What the training episodes of a run gave, beside its evaluations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningEpisodes:
    """Return and success of the training episodes that ended since the last look, for each task."""

    def __init__(self, tasks: int) -> None:
        self.running = np.zeros((2, tasks))  # return and success of the episode under way
        self.ended = np.zeros((3, tasks))  # sums of return and success, and the count, of ended episodes

    def add(self, reward: NDArray[np.float64], success: NDArray[np.bool_], end: NDArray[np.bool_]) -> None:
        """Add one vector step."""
        self.running[0] += reward
        self.running[1] = np.maximum(self.running[1], success)
        self.ended[:2, end] += self.running[:, end]
        self.ended[2, end] += 1
        self.running[:, end] = 0

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Mean return and success by task index, of the tasks in which an episode ended."""
        done = [
            (int(index), {"return": float(total / count), "success": float(wins / count)})
            for index, (total, wins, count) in enumerate(self.ended.T)
            if count
        ]
        self.ended[:] = 0
        return done

    def state(self) -> dict[str, Any]:
        """Everything."""
        return {"running": self.running, "ended": self.ended}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.running[:], self.ended[:] = state["running"], state["ended"]
