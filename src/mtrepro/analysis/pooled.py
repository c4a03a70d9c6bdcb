"""The columns of the multi-source transfer papers: every evaluation of every run in one pool.

The published script pools the evaluation returns of all runs and gives their mean and population standard deviation,
over the whole run ("overall") and over the last tenth of it ("final"; here `final_tenth`, because `final` is the last
evaluation). That deviation is the spread of single evaluations, along the curve and between runs; it says little of
how certain the mean is. So the interval over seeds stands beside it. docs/statistics.md has the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtrepro.analysis import statistics
from mtrepro.analysis.curves import ArmCurves
from mtrepro.analysis.evaluation import Array
from mtrepro.analysis.study_note import arm_note

HEADINGS = {"overall": "Overall", "final_tenth": "Final tenth"}  # by column, as tables call them
MEAN, DEVIATION = "mean", "pooled_std"
EXPLAINED = (
    "Overall and final tenth: all evaluations of all runs in one pool, over the whole run and over the last tenth of "
    "its steps (the transfer papers' overall and final); std is the population standard deviation of that pool, as "
    "those papers print it, and no error of the mean. The last evaluation of a run that diverged stands for the rest "
    "of its budget, here as in the other columns."
)

Row = dict[str, Any]


def moments(points: list[Array]) -> tuple[float, float]:
    """Mean and population standard deviation of all points of all runs together.

    Args:
        points: for each run (evaluations, tasks), in any unit.

    Returns:
        Both in the unit of `points`.

    Raises:
        EmptyScoresError: there is no point at all.

    Source: the plotting script of remosasso/multi-source-TL-for-deep-MBRL, for arXiv 2108.06526 and 2205.14410.
    """
    together = np.concatenate([run.ravel() for run in points]) if points else np.empty(0)
    if not together.size:
        raise statistics.EmptyScoresError("no evaluations to pool")
    return float(together.mean()), float(together.std())


def pooled_mean(sums: Array) -> Array:
    """The mean of the pool from what each run adds to it.

    Args:
        sums: (2, ..., runs, tasks): the sum of a run's points on a task, and how many they are.

    Returns:
        (...).
    """
    total, count = sums.sum(axis=(-2, -1))
    return np.asarray(total / count)


def pooled_rows(arm: ArmCurves, metric: str, columns: Sequence[str], moved: int) -> Iterator[Row]:
    """The rows of summary.csv for `columns`: mean with both intervals, and the pool's standard deviation.

    Args:
        moved: how many tasks a vector step moves, for the transitions.
    """
    note = arm_note(arm)
    common: Row = {"arm": note.arm, "reference": note.reference, "metric": metric}
    common |= {key: getattr(note, key) for key in ("seeds_expected", "diverged", "inexact")}
    for column in columns:
        points = _points(arm, metric, column)
        place = common | {"column": column, "seeds_present": len(points)}
        place |= dict.fromkeys(("value", "low", "high", "run_low", "run_high", "step", "transitions"))
        if not points:
            yield from (place | {"statistic": name} for name in (MEAN, DEVIATION))
            continue
        mean, deviation = moments(points)
        place |= {"step": arm.steps[-1], "transitions": arm.steps[-1] * moved}
        yield place | {"statistic": MEAN, "value": mean, **_intervals(points, (note.arm, metric, column))}
        yield place | {"statistic": DEVIATION, "value": deviation}


def _points(arm: ArmCurves, metric: str, column: str) -> list[Array]:
    """The scores of each run within the column, (evaluations, tasks)."""
    steps, last = np.array(arm.steps), arm.arm.expected.budget
    within = (10 * steps > 9 * last) | (steps == last) if column == "final_tenth" else np.full(len(steps), True)
    return list(arm.scores[metric][within].swapaxes(0, 1)) if within.any() else []


def _intervals(points: list[Array], names: tuple[str, ...]) -> dict[str, float]:
    """Both 95 % intervals of the pooled mean: runs drawn anew for each task by itself, and whole runs."""
    tasks = points[0].shape[1]
    sums = np.array([[run.sum(axis=0) for run in points], [np.full(tasks, float(len(run))) for run in points]])
    ends: dict[str, float] = {}
    for prefix, unit in (("", "task"), ("run_", "run")):
        stream = statistics.random_stream(*names, unit)
        low, high = statistics.bootstrap_interval(sums, pooled_mean, stream, unit="run" if unit == "run" else "task")
        ends |= {f"{prefix}low": float(low), f"{prefix}high": float(high)}
    return ends
