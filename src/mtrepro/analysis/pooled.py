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
        place = common | {"column": column, "seeds_present": points.shape[1]}
        place |= dict.fromkeys(("value", "low", "high", "run_low", "run_high", "step", "transitions"))
        if not points.size:
            yield from (place | {"statistic": name} for name in (MEAN, DEVIATION))
            continue
        place |= {"step": arm.steps[-1], "transitions": arm.steps[-1] * moved}
        ends = _intervals(points.mean(axis=0), (note.arm, metric, column))
        yield place | {"statistic": MEAN, "value": float(points.mean()), **ends}
        yield place | {"statistic": DEVIATION, "value": float(points.std())}  # population std, as the script has it


def _points(arm: ArmCurves, metric: str, column: str) -> Array:
    """The scores of all runs within the column, (evaluations, runs, tasks)."""
    steps, last = np.array(arm.steps), arm.arm.expected.budget
    within = (10 * steps > 9 * last) | (steps == last) if column == "final_tenth" else np.full(len(steps), True)
    found: Array = arm.scores[metric][within]
    return found


def _intervals(means: Array, names: tuple[str, ...]) -> dict[str, float]:
    """Both 95 % intervals of the pooled mean: runs drawn anew for each task by itself, and whole runs.

    Args:
        means: (runs, tasks), of a run's points on a task; each run has as many.
    """
    ends: dict[str, float] = {}
    for prefix, unit in (("", "task"), ("run_", "run")):
        stream = statistics.random_stream(*names, unit)
        low, high = statistics.bootstrap_interval(
            means, statistics.mean, stream, unit="run" if unit == "run" else "task"
        )
        ends |= {f"{prefix}low": float(low), f"{prefix}high": float(high)}
    return ends
