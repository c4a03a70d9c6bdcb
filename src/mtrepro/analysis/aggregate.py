"""From raw runs to the CSV files that hold every number of tables and figures.

docs/statistics.md says what each column means. Whatever runs exist are aggregated; the others are holes, counted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtrepro.analysis import adaptation, pooled, published, statistics, study_note
from mtrepro.analysis.curves import ArmCurves, arm_curves
from mtrepro.analysis.evaluation import Array
from mtrepro.analysis.files import significant, write_json, write_rows
from mtrepro.analysis.load import Run, StudyRuns, load_study_runs

Row = dict[str, Any]

COLUMNS = ("final", "best_of_mean_curve", "area_under_curve")
SUMMARY = [
    "arm",
    "reference",
    "metric",
    "column",
    "statistic",
    "value",
    "low",
    "high",
    "run_low",
    "run_high",
    "step",
    "transitions",
    "seeds_present",
    "seeds_expected",
    "diverged",
    "inexact",
]
PER_TASK = [
    "arm",
    "reference",
    "task",
    "metric",
    "column",
    "statistic",
    "value",
    "low",
    "high",
    "step",
    "seeds_present",
    "seeds_expected",
]
CURVES = ["arm", "reference", "task", "step", "transitions", "metric", "statistic", "value", "low", "high", "seeds"]
_RECORDED = [
    "reason",
    "step",
    "budget",
    "specification_digest",
    "source_digest",
    "exact",
    "device",
    "threads",
    "cpu_capability",
]
_PROVENANCE = ("commit", "dirty", "container", "hardware")
RUNS = ["arm", "seed", "run", "status", *_RECORDED, *_PROVENANCE]


def aggregate(study_folder: Path, output: Path) -> None:
    """Read the runs of a study and write its numbers to the folder `output`.

    Equal runs give equal bytes: scores are summed exactly, bootstrap streams follow from the names of arm and metric,
    and every number is rounded to six significant digits before it is written.

    Raises:
        MtreproError: the manifest or a run cannot be meant as it stands; see `load.load_study_runs`.
        OutputError: `output` cannot be written.
    """
    study = load_study_runs(study_folder)
    arms = [arm_curves(study, arm) for arm in study.arms]
    summary = [row for arm in arms for metric in study.metrics for row in _all_columns(study, arm, metric)]
    write_rows(output / "summary.csv", SUMMARY, summary)
    per_task = [row for arm in arms for metric in study.metrics for row in _per_task(study, arm, metric)]
    if study.manifest.held_out:
        write_rows(output / "per_task.csv", [*PER_TASK, *adaptation.COLUMNS], adaptation.rows(study, arms, per_task))
    else:
        write_rows(output / "per_task.csv", PER_TASK, per_task)
    curves = [row for arm in arms for metric in study.metrics for row in _curves(study, arm, metric)]
    write_rows(output / "curves.csv", CURVES, curves)
    write_rows(output / "learning_curves.csv", ["step", *sorted(study.metrics), "arm"], _plots(study, curves))
    write_rows(output / "runs.csv", RUNS, [_run(arm, run) for arm in arms for run in arm.arm.runs])
    write_rows(output / "published.csv", published.COLUMNS, published.compare(study, arms))
    write_json(output / "metrics.json", _metrics(study, arms, summary))
    study_note.write_note(output / study_note.FILE, study, arms)


@dataclass(frozen=True)
class _Point:
    """A column of the summary: where on the curve it stands, and its scores (seeds, tasks)."""

    column: str
    step: int
    scores: Array


def _points(arm: ArmCurves, metric: str) -> list[_Point]:
    scores = arm.scores[metric]
    best = statistics.best_evaluation(scores)
    area = statistics.area_under_curve(scores, np.array(arm.steps, dtype=float))
    positions = ((arm.steps[-1], scores[-1]), (arm.steps[best], scores[best]), (arm.steps[-1], area))
    return [_Point(column, step, value) for column, (step, value) in zip(COLUMNS, positions, strict=True)]


def _all_columns(study: StudyRuns, arm: ArmCurves, metric: str) -> Iterator[Row]:
    """The columns of every study, then those that this one asks for besides."""
    yield from _summary(study, arm, metric)
    yield from pooled.pooled_rows(arm, metric, study.manifest.pooled, study.manifest.moved)


def _summary(study: StudyRuns, arm: ArmCurves, metric: str) -> Iterator[Row]:
    names = tuple(statistics.STATISTICS)
    note = study_note.arm_note(arm)
    common = {
        **_head(arm, metric),
        **{key: getattr(note, key) for key in ("seeds_present", "seeds_expected", "diverged", "inexact")},
    }
    if not arm.steps:
        yield from (
            common | _hole("run_low", "run_high", "transitions") | {"column": column, "statistic": name}
            for column in COLUMNS
            for name in names
        )
        return
    points = _points(arm, metric)
    scores = np.stack([point.scores for point in points])
    several = functools.partial(statistics.estimate, names=names)
    value = several(scores)
    stream = (arm.arm.expected.arm, metric, "summary")
    low, high = statistics.bootstrap_interval(scores, several, statistics.random_stream(*stream, "task"))
    run_low, run_high = statistics.bootstrap_interval(
        scores, several, statistics.random_stream(*stream, "run"), unit="run"
    )
    for index, point in enumerate(points):
        for row, name in enumerate(names):
            at = (row, index)
            yield common | {
                "column": point.column,
                "statistic": name,
                **_interval(value[at], low[at], high[at]),
                "run_low": float(run_low[at]),
                "run_high": float(run_high[at]),
                "step": point.step,
                "transitions": point.step * study.manifest.moved,
            }


def _per_task(study: StudyRuns, arm: ArmCurves, metric: str) -> Iterator[Row]:
    names, held_out = ("mean", "iqm"), study.manifest.held_out
    groups = {task: [index] for index, task in enumerate(study.manifest.tasks)}
    if held_out:
        groups[study_note.HELD_OUT] = [index for task, (index,) in groups.items() if task in held_out]
    common = {
        **_head(arm, metric),
        "seeds_present": arm.seeds_present,
        "seeds_expected": len(arm.arm.runs),
    }
    if not arm.steps:
        yield from (
            common | _hole() | {"task": task, "column": column, "statistic": name}
            for task in groups
            for column in COLUMNS
            for name in names
        )
        return
    points = _points(arm, metric)
    scores = np.stack([point.scores for point in points])
    several = functools.partial(statistics.estimate, names=names)
    estimates = _of_each_task(scores, several, statistics.random_stream(arm.arm.expected.arm, metric, "per task"))
    if held_out:
        stream = statistics.random_stream(arm.arm.expected.arm, metric, study_note.HELD_OUT)
        estimates.append(_estimate(scores[..., groups[study_note.HELD_OUT]], several, stream))
    for task, (value, low, high) in zip(groups, estimates, strict=True):
        for index, point in enumerate(points):
            for row, name in enumerate(names):
                at = (row, index)
                place = {"task": task, "column": point.column, "statistic": name, "step": point.step}
                yield common | place | _interval(value[at], low[at], high[at])


def _of_each_task(scores: Array, several: Any, stream: np.random.Generator) -> list[tuple[Array, Array, Array]]:
    """Value, low and high of each task by itself, each (statistics, points)."""
    value, low, high = _estimate(_task_first(scores), several, stream)
    return [(value[:, task], low[:, task], high[:, task]) for task in range(scores.shape[-1])]


def _estimate(scores: Array, several: Any, stream: np.random.Generator) -> tuple[Array, Array, Array]:
    """Value, low and high of scores (..., seeds, tasks), each (statistics, ...)."""
    return several(scores), *statistics.bootstrap_interval(scores, several, stream)


def _curves(study: StudyRuns, arm: ArmCurves, metric: str) -> Iterator[Row]:
    if not arm.steps:
        return
    common = {**_head(arm, metric), "seeds": arm.seeds_present}
    yield from _band(study, arm, arm.scores[metric], ("mean", "iqm"), "all", common)
    for task, scores in zip(study.manifest.tasks, _task_first(arm.scores[metric]), strict=True):
        yield from _band(study, arm, scores, ("mean",), task, common)


def _band(
    study: StudyRuns, arm: ArmCurves, scores: Array, names: tuple[str, ...], task: str, common: Row
) -> Iterator[Row]:
    several = functools.partial(statistics.estimate, names=names)
    value = several(scores)
    stream = statistics.random_stream(str(common["arm"]), str(common["metric"]), "curve", task)
    low, high = statistics.bootstrap_interval(scores, several, stream, resamples=statistics.CURVE_RESAMPLES)
    for row, name in enumerate(names):
        for index, step in enumerate(arm.steps):
            place = {"task": task, "step": step, "transitions": step * study.manifest.moved, "statistic": name}
            at = (row, index)
            yield common | place | _interval(value[at], low[at], high[at])


def _task_first(scores: Array) -> Array:
    """(points, seeds, tasks) -> (tasks, points, seeds, 1): each task by itself."""
    return np.moveaxis(scores, -1, 0)[..., np.newaxis]


def _plots(study: StudyRuns, curves: list[Row]) -> Iterator[Row]:
    """Mean curves side by side, as `dvc plots` wants them; a reference at both ends, so that it is a line."""
    steps: dict[tuple[str, int], Row] = {}
    last = max([study.manifest.budget, *(row["step"] for row in curves)])
    for row in curves:
        if (row["task"], row["statistic"]) == ("all", "mean"):
            for step in {row["step"], last} if row["reference"] else {row["step"]}:
                place = steps.setdefault((row["arm"], step), {"arm": row["arm"], "step": step})
                place[row["metric"]] = row["value"]
    order = [arm.expected.arm for arm in study.arms]
    yield from (steps[key] for key in sorted(steps, key=lambda key: (order.index(key[0]), key[1])))


def _run(arm: ArmCurves, run: Run) -> Row:
    """A row of runs.csv: from a line of a figure to specification, code, commit, container and machine."""
    row: Row = dict.fromkeys(RUNS)
    row |= {"arm": arm.arm.expected.arm, "seed": run.seed, "run": run.name, "status": run.status}
    if run.record is None:
        return row
    row |= {key: getattr(run.record, key) for key in _RECORDED}
    row |= {key: _flat(run.record.provenance.get(key)) for key in _PROVENANCE}
    return row


def _flat(value: Any) -> Any:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict | list) else value


def _metrics(study: StudyRuns, arms: list[ArmCurves], summary: list[Row]) -> Row:
    """metrics.json, for `dvc metrics`: flat, and without the holes, which it cannot show; the counts show them."""
    content: Row = {}
    for arm in arms:
        content[f"{arm.arm.expected.arm}.seeds_present"] = arm.seeds_present
    for row in summary:
        if row["statistic"] in ("mean", "iqm") and row["value"] is not None:
            key = ".".join(row[part] for part in ("arm", "metric", "column", "statistic"))
            content[key] = float(significant(row["value"]))
    return content


def _head(arm: ArmCurves, metric: str) -> Row:
    return {"arm": arm.arm.expected.arm, "reference": arm.arm.expected.reference, "metric": metric}


def _interval(value: float, low: float, high: float) -> Row:
    return {"value": float(value), "low": float(low), "high": float(high)}


def _hole(*more: str) -> Row:
    return dict.fromkeys(("value", "low", "high", "step", *more))
