"""What a run set says of one printed number: reproduced, differs, undecided or not comparable, and why.

docs/statistics.md gives the definition and its reasons. Values are success as a share, from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtrepro.analysis.files import significant
from mtrepro.analysis.statistics import CONFIDENCE

MARGIN = 0.1  # success: two numbers this close are taken as the same result
FEWEST_SEEDS = 3

Word = Literal["reproduced", "differs", "undecided", "not comparable", "no printed number"]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty over runs.

    Attributes:
        value: success as a share.
        error: standard error over runs; None where it is not known.
        seeds: runs behind the number; None where that is not known.
    """

    value: float
    error: float | None
    seeds: int | None


@dataclass(frozen=True)
class Difference:
    """Ours minus printed, with the ends of its 95 % interval; None where there is no interval."""

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
    return error / math.sqrt(seeds) if kind == "std" else None


def difference(ours: Estimate, printed: Estimate) -> Difference:
    """Ours minus printed with Welch's 95 % t interval: two groups of runs, each with its own spread.

    A printed number whose standard error is not known is taken as exact; the interval then counts our runs alone.
    All three numbers are rounded as they are written, so that a verdict follows from what its table shows.

    Source: Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34, 1947; the degrees of freedom are Welch and Satterthwaite's.
    """
    value = _rounded(ours.value - printed.value)
    if ours.error is None or ours.seeds is None or ours.seeds < 2:
        return Difference(value)
    parts = [(ours.error**2, ours.seeds - 1)]
    if printed.error is not None and printed.seeds is not None:
        parts.append((printed.error**2, printed.seeds - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Difference(value, value, value)  # every run scored alike
    from scipy.stats import t  # scipy.stats takes a second to import

    freedom = variance**2 / sum(part**2 / runs for part, runs in parts)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    exact = ours.value - printed.value
    return Difference(value, _rounded(exact - reach), _rounded(exact + reach))


def caveats(ours: Estimate, printed: Estimate) -> list[str]:
    """What an interval leaves out: the paper's uncertainty where it gives none, ours where all runs score alike."""
    found = []
    if printed.error is None:
        found.append("the paper gives no standard error, so the interval counts our runs alone")
    if ours.error == 0:
        found.append("our runs all score alike, so they add no width")
    return found


def judge(found: Difference, doubts: Sequence[str], caveats: Sequence[str], *, seeds: int) -> Verdict:
    """The verdict on a comparable number.

    Args:
        found: ours minus printed, with its interval.
        doubts: what keeps our runs from deciding: holes, divergences, runs that are not bit-exact.
        caveats: what a reader must know of the interval; see `caveats`.
        seeds: our runs that have scores.
    """
    if seeds < FEWEST_SEEDS:
        doubts = [f"{seeds} seed{'' if seeds == 1 else 's'} present, a verdict needs {FEWEST_SEEDS}", *doubts]
    if doubts or found.low is None or found.high is None:
        return Verdict("undecided", "; ".join(doubts))
    tail = "".join(f"; {caveat}" for caveat in caveats)
    if max(abs(found.low), abs(found.high)) <= MARGIN:
        return Verdict("reproduced", f"the whole interval lies within the margin{tail}")
    if found.low > MARGIN or found.high < -MARGIN:
        return Verdict("differs", f"the whole interval lies outside the margin{tail}")
    if found.low > 0 or found.high < 0:
        return Verdict("differs", f"the interval excludes 0 and reaches beyond the margin{tail}")
    return Verdict("undecided", f"the interval includes 0 and reaches beyond the margin: more seeds would decide{tail}")


def _rounded(value: float) -> float:
    return float(significant(value))
