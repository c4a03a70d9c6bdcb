"""Meta-World's simulators, bare: the package's own, or the faster layer over it that gives the same bits."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

from numpy.typing import NDArray


def make_fast(task: str, reward_version: str) -> Any:
    """A simulator of the faster layer, not yet given a goal."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    from mtrepro.benchmarks.metaworld_fast import fast_class

    original: Any = ALL_V3_ENVIRONMENTS[task]
    return _made(fast_class(original), reward_version)


def make_stock(task: str, reward_version: str) -> Any:
    """A simulator of the package's own class, not yet given a goal."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    return _made(ALL_V3_ENVIRONMENTS[task], reward_version)


def set_goal(simulator: Any, task: str, goal: NDArray[Any]) -> None:
    """Set the goal of a simulator, (size,), fully observable; it counts from the next reset on."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    # A copy each time (pickled, as Meta-World's own tasks are): some tasks write into the vector they are given.
    content = {"rand_vec": goal, "env_cls": ALL_V3_ENVIRONMENTS[task], "partially_observable": False}
    simulator.set_task(Task(env_name=task, data=pickle.dumps(content)))


def _made(kind: Any, reward_version: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's, on the precision of bounds that nobody reads
        return kind(reward_function_version=reward_version, render_mode=None)
