"""Point estimates and bootstrap intervals over seeds and tasks.

A score is the mean over the episodes of one evaluation of one task by one run. `scores` has shape
(..., seeds, tasks) throughout: leading axes are evaluations, computed at once. All seeds have all tasks, because one
run of a multi-task method trains every task.

Intervals come from `scipy.stats.bootstrap`. Two questions, two ways to resample:

- `task`: the seeds of each task independently of the other tasks, which is the stratified bootstrap of the literature
  (Agarwal et al. 2021, and rliable). It takes the scores of one run on two tasks as unrelated, which holds where
  every task has runs of its own, as on Atari.
- `run`: whole runs, with all their tasks. This is what a new seed would do: in multi-task learning one network serves
  all tasks, so a run that fails does so on many tasks together, and the stratified interval is then too narrow.

Intervals are percentile intervals. scipy's BCa is undefined where all seeds score alike, as success does at 0 and at 1,
and its acceleration, from a jackknife over the seeds, is noise at two or three of them; neither may empty a cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtrepro.analysis.files import SIGNIFICANT_DIGITS
from mtrepro.errors import MtreproError

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]

RESAMPLES = 10_000  # of the tables: another random seed moves an end by under 1 % of the width
CURVE_RESAMPLES = 2_000  # of the bands, where that is 2 %: less than the line is thick
CONFIDENCE = 0.95
BATCH_NUMBERS = 2_000_000  # numbers resampled at once: 16 MB, so memory does not grow with seeds, tasks or points


class EmptyScoresError(MtreproError):
    """No run has scores; the caller shows a hole, never a zero."""


def mean(scores: Array) -> Array:
    """Mean over seeds and tasks.

    Args:
        scores: (..., seeds, tasks), in any unit; no missing values.

    Returns:
        (...), in the unit of `scores`.

    Raises:
        EmptyScoresError: there are no seeds or no tasks.
    """
    return np.asarray(_task_means(scores).mean(axis=-1))


def median(scores: Array) -> Array:
    """Median over tasks of each task's mean over seeds: the middle task. Shapes, unit and errors as `mean`.

    Source: Agarwal et al. 2021, section 4; rliable's `aggregate_median`.
    """
    return np.asarray(np.median(_task_means(scores), axis=-1))


def worst_task(scores: Array) -> Array:
    """The lowest of the tasks' means over seeds. Shapes, unit and errors as `mean`."""
    return np.asarray(_task_means(scores).min(axis=-1))


def interquartile_mean(scores: Array) -> Array:
    """Mean of the middle half of all scores: robust to outlying seeds, unlike the mean; less wasteful than the median.

    Of n = seeds x tasks scores, floor(n / 4) are cut at either end; below four scores it is the mean.

    Args:
        scores: (..., seeds, tasks), success in [0, 1] or any common unit; no missing values.

    Returns:
        (...): the 25 % trimmed mean over seeds and tasks together, in the unit of `scores`.

    Raises:
        EmptyScoresError: there are no seeds or no tasks.

    Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021, section 4.3.
    """
    from scipy.stats import trim_mean  # scipy.stats takes a second to import

    _refuse_empty(scores)
    return np.asarray(trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "worst_task": worst_task,
    "iqm": interquartile_mean,
}


def estimate(scores: Array, names: tuple[str, ...]) -> Array:
    """The named statistics of `scores` (..., seeds, tasks), stacked: (statistics, ...)."""
    return np.stack([STATISTICS[name](scores) for name in names])


def area_under_curve(scores: Array, steps: Array) -> Array:
    """Time average of each score's curve, by the trapezoidal rule: the area divided by the span of steps.

    Args:
        scores: (evaluations, ...), in any unit.
        steps: (evaluations,), ascending vector steps.

    Returns:
        (...), in the unit of `scores`. A curve of one evaluation, as a reference has, is taken as constant.
    """
    if len(steps) == 1:
        return np.asarray(scores[0])
    return np.asarray(np.trapezoid(scores, steps, axis=0) / (steps[-1] - steps[0]))


def best_evaluation(scores: Array) -> int:
    """The position of the highest point of the mean curve; of equal ones the first.

    Args:
        scores: (evaluations, seeds, tasks), at least one of each.
    """
    # Rounded before the search: two evaluations that are equal but for the last bit must not swap between processors
    return int(np.argmax([float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in mean(scores)]))


def error_over_runs(scores: Array, statistic: Statistic) -> float:
    """Standard error of a statistic over whole runs, by the jackknife; for the mean that is s / sqrt(seeds).

    Args:
        scores: (seeds, tasks).
        statistic: takes (..., seeds, tasks), gives (...).

    Returns:
        In the unit of `scores`; NaN with one seed.

    Raises:
        EmptyScoresError: there are no seeds or no tasks.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, equation 11.5.
    """
    _refuse_empty(scores)
    seeds = len(scores)
    if seeds == 1:
        return float("nan")
    without = np.array([float(statistic(np.delete(scores, seed, axis=0))) for seed in range(seeds)])
    return float(np.sqrt((seeds - 1) / seeds * np.square(without - without.mean()).sum()))


def random_stream(*names: str) -> np.random.Generator:
    """A random generator that depends on the names of the content alone: the same numbers on every machine and day."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def bootstrap_interval(
    scores: Array,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    unit: Literal["task", "run"] = "task",
    resamples: int = RESAMPLES,
) -> tuple[Array, Array]:
    """95 % bootstrap interval of a statistic over seeds and tasks.

    All leading axes share the resampled seeds, so that the band of a curve belongs to one set of resampled runs.

    Args:
        scores: (..., seeds, tasks).
        statistic: takes (..., seeds, tasks), gives (...) or (statistics, ...).
        rng: see `random_stream`.
        unit: what is resampled: the seeds of each task independently ("task"), or whole runs ("run").
        resamples: how many.

    Returns:
        Low and high, each in the shape that `statistic` gives; NaN with one seed, where there is no interval: never one
        of zero width for want of seeds.

    Raises:
        EmptyScoresError: there are no seeds or no tasks.
    """
    from scipy import stats

    _refuse_empty(scores)
    point = statistic(scores)
    if scores.shape[-2] == 1:
        return np.full_like(point, np.nan), np.full_like(point, np.nan)

    def of_samples(*samples: Array, axis: int) -> Array:
        return statistic(np.stack(np.broadcast_arrays(*samples), axis=-1))  # (..., resamples, seeds, tasks)

    result: Any = stats.bootstrap(
        tuple(np.moveaxis(scores, -1, 0)),  # one sample a task, each (..., seeds)
        of_samples,
        n_resamples=resamples,
        batch=max(1, BATCH_NUMBERS // scores.size),
        vectorized=True,
        paired=unit == "run",
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=rng,
    )
    return np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)


def _task_means(scores: Array) -> Array:
    _refuse_empty(scores)
    return np.asarray(scores.mean(axis=-2))


def _refuse_empty(scores: Array) -> None:
    if 0 in scores.shape[-2:]:
        raise EmptyScoresError(f"no scores to summarise: {scores.shape[-2]} seeds, {scores.shape[-1]} tasks")
