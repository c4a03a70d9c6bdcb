"""A film of noise, as a run of several tasks would leave one."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtrepro.film import Film, TaskFilm


def film(tasks: int = 2, frames: int = 30, windows: int = 3, side: int = 64) -> Film:
    """Of some tasks, each episode a frame shorter than the one before."""
    noise = np.random.default_rng(0)

    def picture(*shape: int) -> Any:
        return noise.integers(256, size=(*shape, side, side, 3), dtype=np.uint8)

    def filmed(index: int) -> TaskFilm:
        return TaskFilm(f"task-{index}", picture(frames - index), picture(windows, 12), picture(windows, 12), 1.0)

    return Film([filmed(index) for index in range(tasks)], 1, 5, "w", False)
