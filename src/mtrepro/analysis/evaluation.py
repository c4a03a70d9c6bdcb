"""Read a run's evaluation.csv: one score for each evaluation, task and metric."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.errors import MtreproError
from mtrepro.paths import shown
from mtrepro.validation import nearest

Array = NDArray[np.float64]
COLUMNS = ["step", "task", "episode", "metric", "value"]
ADAPTED, CHANGE = "adapted_", "_change"
Episodes = dict[tuple[int, str, str], dict[int, float]]  # (step, metric, task) -> episode -> value


@dataclass(frozen=True)
class Evaluation:
    """What a run reached.

    Attributes:
        steps: vector steps of the evaluations, ascending.
        scores: for each metric (evaluations, tasks): means over the episodes of an evaluation.
        episodes: how many episodes of each task an evaluation has.
    """

    steps: tuple[int, ...]
    scores: dict[str, Array]
    episodes: int

    def finite_part(self) -> Evaluation:
        """The evaluations before the first that has a score that is not a number, which is where a run diverged."""
        finite = np.ones(len(self.steps), dtype=bool)
        for score in self.scores.values():
            finite &= np.isfinite(score).all(axis=1)
        count = len(finite) if finite.all() else int(np.argmin(finite))
        return Evaluation(
            self.steps[:count], {name: score[:count] for name, score in self.scores.items()}, self.episodes
        )

    def without_adapted(self) -> Evaluation:
        """What was measured before the method adapted to a task."""
        kept = {
            name: score
            for name, score in self.scores.items()
            if not name.startswith(ADAPTED) and not name.endswith(CHANGE)
        }
        return replace(self, scores=kept)


def read_evaluation(path: Path, tasks: Sequence[str]) -> Evaluation:
    """Read evaluation.csv and check that it is whole.

    Args:
        path: the file, with columns step, task, episode, metric, value.
        tasks: the tasks of the manifest, in its order, which is the order of the result's second axis.

    Raises:
        MtreproError: a line is malformed, a task is not the manifest's, or an evaluation lacks a task, a metric or
            episodes. The message names the file and the line or the step.
    """
    values = _collect(path, tasks)
    steps = sorted({step for step, _, _ in values})
    metrics = sorted({metric for _, metric, _ in values})
    counts = {len(episodes) for episodes in values.values()}
    scores = {metric: np.empty((len(steps), len(tasks))) for metric in metrics}
    for row, step in enumerate(steps):
        for metric in metrics:
            for column, task in enumerate(tasks):
                episodes = values.get((step, metric, task))
                if episodes is None:
                    raise _error(path, f"step {step}: no {metric} of task {task!r}")
                # fsum is exact, so neither the order of the lines nor the processor can change a bit
                scores[metric][row, column] = _mean(list(episodes.values()))
    if len(counts) > 1:
        raise _error(
            path, f"evaluations have {min(counts)} to {max(counts)} episodes of a task; all must have the same"
        )
    return Evaluation(tuple(steps), scores, counts.pop() if counts else 0)


def with_changes(evaluation: Evaluation) -> Evaluation:
    """The evaluation and x_change = adapted_x - x of each metric that it has before and after adapting; most have none.

    A difference within one run is a score like any other: its interval is not that of two scores that vary together.
    """
    scores = evaluation.scores
    changes = {f"{name}{CHANGE}": scores[f"{ADAPTED}{name}"] - scores[name] for name in adapted(list(scores))}
    return replace(evaluation, scores=scores | changes)


def adapted(metrics: Sequence[str]) -> list[str]:
    """The metrics that were measured before and after adapting, by their names before."""
    return [name for name in metrics if f"{ADAPTED}{name}" in metrics]


def _collect(path: Path, tasks: Sequence[str]) -> Episodes:
    values: Episodes = {}
    known = set(tasks)
    for line, row in _lines(path):
        try:
            step, task, episode, metric, text = row
            key, index, value = (int(step), metric, task), int(episode), float(text)
        except ValueError:
            raise _error(path, f"expected {','.join(COLUMNS)}, found {','.join(row)!r}", line) from None
        if task not in known:
            raise _error(path, f"task {task!r} is not in the manifest{nearest(task, tasks)}", line)
        episodes = values.setdefault(key, {})
        if index in episodes:
            raise _error(path, f"{metric} of task {task!r}, step {step}, episode {index} stands here twice", line)
        episodes[index] = value
    return values


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header: Any = next(reader, [])
            if header != COLUMNS:
                raise _error(path, f"expected the header {','.join(COLUMNS)}, found {','.join(header)!r}", 1)
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _error(path, f"cannot be read: {error}") from None


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _error(path: Path, what: str, line: int | None = None) -> MtreproError:
    where = shown(path) if line is None else f"{shown(path)}:{line}"
    return MtreproError(
        f"{where}: {what}\n  restore the file, or remove its folder: the run then shows as missing and can be run again"
    )
