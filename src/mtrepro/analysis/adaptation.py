"""What adapting changed, where a study holds out tasks: in how many runs, and in one arm's more than in another's.

These are rows and columns of per_task.csv. Two arms are compared seed by seed, as far as they share seeds: what the
model is judged by depends on seed and task alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtrepro.analysis import statistics, study_note
from mtrepro.analysis.curves import ArmCurves
from mtrepro.analysis.evaluation import ADAPTED, CHANGE, Array, adapted
from mtrepro.analysis.load import StudyRuns

COLUMNS = ["against", "below_zero"]  # of per_task.csv, behind the others, where tasks are held out
Row = dict[str, Any]


def rows(study: StudyRuns, arms: Sequence[ArmCurves], per_task: Sequence[Row]) -> Iterator[Row]:
    """The rows of per_task.csv with COLUMNS, and behind them each arm less each one that comes later.

    `below_zero` is the number of runs whose difference, the mean over the row's tasks, is below zero; it stands where
    the row is of a difference at the last evaluation.
    """
    tasks = study.manifest.tasks
    held_out = [tasks.index(task) for task in study.manifest.held_out]
    groups = {task: [position] for position, task in enumerate(tasks)} | {study_note.HELD_OUT: held_out}
    by_name = {arm.arm.expected.arm: arm for arm in arms}
    for row in per_task:
        difference = row["metric"].endswith(CHANGE) and (row["column"], row["statistic"]) == ("final", "mean")
        arm = by_name[row["arm"]]
        count = None
        if difference and arm.steps:
            count = _below_zero(arm.scores[row["metric"]][-1][:, groups[row["task"]]])
        yield row | {"against": None, "below_zero": count}
    compared = [name for task in adapted(study.metrics) for name in (f"{ADAPTED}{task}", f"{task}{CHANGE}")]
    for index, one in enumerate(arms):
        for other in arms[index + 1 :]:
            for metric in compared:
                for name in (*study.manifest.held_out, study_note.HELD_OUT):
                    yield from _less(one, other, metric, name, groups[name])


def _less(one: ArmCurves, other: ArmCurves, metric: str, task: str, positions: list[int]) -> Iterator[Row]:
    """The row of one arm less another, of some tasks' mean, over the pairs of seeds; a hole where there is none."""
    theirs = {run.seed: position for position, run in enumerate(other.arm.scored)}
    pairs = [(mine, theirs[run.seed]) for mine, run in enumerate(one.arm.scored) if run.seed in theirs]
    names = one.arm.expected.arm, other.arm.expected.arm
    both = {run.seed for run in one.arm.runs} & {run.seed for run in other.arm.runs}
    row: Row = {
        "arm": names[0], "reference": one.arm.expected.reference, "task": task, "metric": metric, "column": "final",
        "statistic": "mean", "value": None, "low": None, "high": None, "step": None, "seeds_present": len(pairs),
        "seeds_expected": len(both), "against": names[1], "below_zero": None,
    }  # fmt: skip
    if not pairs:
        yield row
        return
    ours, others = (list(each) for each in zip(*pairs, strict=True))
    scores = _rounded(one.scores[metric][-1][ours][:, positions] - other.scores[metric][-1][others][:, positions])
    stream = statistics.random_stream(*names, metric, task)
    low, high = statistics.bootstrap_interval(scores, statistics.mean, stream)
    yield row | {
        "value": float(statistics.mean(scores)), "low": float(low), "high": float(high), "step": one.steps[-1],
        "below_zero": _below_zero(scores),
    }  # fmt: skip


def _below_zero(scores: Array) -> int:
    """In how many runs the mean over tasks is below zero. Shapes: (seeds, tasks)."""
    return int(np.count_nonzero(_rounded(scores.mean(axis=1)) < 0))


def _rounded(values: Array) -> Array:
    """Without the last bits: a difference of equal shares, such as (0.6 - 0.4) + (0.2 - 0.4), is zero."""
    return np.round(values, 12) + 0.0
