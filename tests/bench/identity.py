"""Whether the fast Meta-World has the bits of the package's own: every task, both rewards, whole episodes.

A test of the suite plays a hundred steps of each task; this plays some thousands, and fails at the first other bit.
"""

from __future__ import annotations

import itertools
import warnings

from mtrepro.benchmarks.metaworld_tasks import MT10, MT50
from tests.bench.measuring import Effort, Row, Topic
from tests.metaworld_pair import Pair

_EPISODES = ((0, "expert"), (1, "random"), (0, "expert"))  # a goal that was left for another comes again


def measure(effort: Effort) -> Topic:
    """Tasks that are equal in every bit, for each reward version and length of episodes.

    Raises:
        AssertionError: a number differs; names the task and the step.
    """
    tasks = effort.tasks if effort.tasks != "MT10" else MT50 if effort.name == "full" else MT10
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scripted policies say that their own actions will be clipped
        for version, (horizon, _) in itertools.product(("v2", "v1"), effort.episodes):
            solved = sum(_compare(task, version, horizon) for task in tasks)
            steps = len(tasks) * len(_EPISODES) * horizon
            beside = {"steps": [float(steps)]} | ({"solved": [float(solved)]} if solved else {})
            rows.append(
                Row(f"reward {version}, {horizon}-step episodes", "ours", "tasks", [float(len(tasks))], 1, 1, beside)
            )
    notes = (
        "Tasks whose observations, rewards, flags and values of `info` have the bits of Meta-World's own classes in "
        "every step; none may be missing. Three episodes each: the scripted expert with noise, random actions at "
        "another goal, the expert at the first goal again. Solved: tasks that succeeded at some step.",
    )
    return Topic("The fast Meta-World beside the package's own, bit by bit", notes, tuple(rows))


def _compare(task: str, version: str, horizon: int) -> bool:
    pair = Pair(task, seed=horizon)
    pair.version(version)
    for goal, by in _EPISODES:
        pair.episode(goal, by, horizon)
    pair.close()
    return "success" in pair.reached
