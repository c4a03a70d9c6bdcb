"""What a run set says of one printed number: reproduced, differs, undecided or not comparable, and why.

docs/statistics.md gives the definition and its reasons. Values are success as a share, from 0 to 1, or returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtrepro.analysis.files import significant
from mtrepro.analysis.statistics import CONFIDENCE

MARGIN = 0.1  # of success, or of the highest return: two numbers this close are taken as the same result
FEWEST_SEEDS = 3
ROUNDING = 1e-9  # success or return: the standard error of runs that score alike, in floating point

Word = Literal["reproduced", "differs", "undecided", "not comparable", "no printed number"]


def metric_of(unit: str | None) -> str:
    """Which of our metrics a number of this unit is to be compared with."""
    return "return" if unit == "return" else "success"


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty over runs.

    Attributes:
        value: success as a share, or a return.
        error: standard error over runs; None where it is not known.
        seeds: runs behind the number; None where that is not known.
    """

    value: float
    error: float | None
    seeds: int | None


@dataclass(frozen=True)
class Difference:
    """Ours minus printed, with the ends of its 95 % interval; None where a side shows no spread."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One word, and the sentence that says why."""

    word: Word
    why: str


def standard_error(error: float | None, kind: str | None, seeds: int | None) -> float | None:
    """A printed error as a standard error over runs, in the unit of `error`.

    None where the paper does not allow it: no error, a kind that is not stated, or fewer than two known seeds.
    """
    if error is None or seeds is None or seeds < 2:
        return None
    if kind in ("stderr", "SEM"):
        return error
    runs = {"std": seeds, "population std": seeds - 1}.get(kind or "")  # s / sqrt(n) = population s / sqrt(n - 1)
    return error / math.sqrt(runs) if runs else None


def difference(ours: Estimate, printed: Estimate) -> Difference:
    """Ours minus printed with Welch's 95 % t interval: two groups of runs, each with its own spread.

    Where one of the two shows no spread there is no interval: the other's alone would take that one as exact.
    All three numbers are rounded as they are written, so that a verdict follows from what its table shows.

    Source: Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34, 1947; the degrees of freedom are Welch and Satterthwaite's.
    """
    value = _rounded(ours.value - printed.value)
    parts = [part for part in (_variance(ours), _variance(printed)) if part]
    if len(parts) < 2:
        return Difference(value)
    from scipy.stats import t  # scipy.stats takes a second to import

    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / runs for part, runs in parts)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    exact = ours.value - printed.value
    return Difference(value, _rounded(exact - reach), _rounded(exact + reach))


def _variance(estimate: Estimate) -> tuple[float, int] | None:
    """Squared standard error and its degrees of freedom; None where no spread was observed."""
    error, seeds = estimate.error, estimate.seeds
    if error is None or error <= ROUNDING or seeds is None or seeds < 2:
        return None
    return error**2, seeds - 1


def missing_spread(ours: Estimate, printed: Estimate) -> list[str]:
    """Why there is no interval; nothing of too few runs of ours, which `judge` counts."""
    found = []
    if ours.error is not None and ours.error <= ROUNDING:
        found.append("our runs all score alike: no spread was observed")
    if printed.error is None:
        found.append("the paper gives no standard error")
    elif printed.error <= ROUNDING:
        found.append("the paper's standard error is 0: it observed no spread")
    return found


def judge(
    found: Difference, doubts: Sequence[str], caveats: Sequence[str], *, seeds: int, margin: float = MARGIN
) -> Verdict:
    """The verdict on a comparable number.

    Args:
        found: ours minus printed, with its interval.
        doubts: what keeps our runs from deciding: holes, divergences, runs that are not bit-exact, no spread.
        caveats: what a reader must know beside the verdict.
        seeds: our runs that have scores.
        margin: two numbers this close are taken as the same result; in their unit.
    """
    if seeds < FEWEST_SEEDS:
        doubts = [f"{seeds} seed{'' if seeds == 1 else 's'} present, a verdict needs {FEWEST_SEEDS}", *doubts]
    if doubts or found.low is None or found.high is None:
        return Verdict("undecided", "; ".join([*doubts, *caveats]))
    word: Word
    if max(abs(found.low), abs(found.high)) <= margin:
        word, why = "reproduced", "the whole interval lies within the margin"
    elif found.low > margin or found.high < -margin:
        word, why = "differs", "the whole interval lies outside the margin"
    else:
        word, why = "undecided", "the interval lies neither wholly within the margin nor wholly outside it"
    return Verdict(word, "; ".join([why, *caveats]))


def _rounded(value: float) -> float:
    return float(significant(value))
