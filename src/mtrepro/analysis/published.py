"""Each printed number that a study names, beside what our runs say of it: the rows of published.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtrepro.analysis import statistics
from mtrepro.analysis.curves import ArmCurves
from mtrepro.analysis.load import Comparison, Printed, StudyRuns
from mtrepro.analysis.study_note import arm_note
from mtrepro.analysis.verdicts import (
    MARGIN,
    Difference,
    Estimate,
    Verdict,
    difference,
    judge,
    metric_of,
    missing_spread,
    standard_error,
)

NO_SCALE = "how high a return can be is not known, so there is no margin to measure the difference with"
_PRINTED = ("printed", "printed_error", "error_kind", "printed_seeds", "printed_standard_error", "trust")
_COUNTS = ("seeds_present", "seeds_expected", "diverged", "inexact")
_OURS = ("statistic", "column", "step", "value", "low", "high", *_COUNTS)
_VERDICT = ("difference", "difference_low", "difference_high", "margin", "verdict", "why")
_WHAT = ("paper", "arxiv", "table", "benchmark", "steps", "method", "metric")
_ORIGIN = ("missing", *_WHAT, "conditions", "source", "note", "unit")
COLUMNS = ["cell", "arm", *_PRINTED, *_OURS, *_VERDICT, *_ORIGIN]

Row = dict[str, Any]


def compare(study: StudyRuns, arms: Sequence[ArmCurves]) -> Iterator[Row]:
    """A row for each comparison of the manifest, in its order; values and errors are shares, 0 to 1, or returns."""
    curves = {arm.arm.expected.arm: arm for arm in arms}
    for comparison in study.manifest.published:
        arm = curves[comparison.arm]
        row: Row = dict.fromkeys(COLUMNS)
        row |= {"cell": comparison.cell, "arm": comparison.arm, "column": comparison.column}
        row |= {key: getattr(comparison.printed, key) for key in _ORIGIN} | {"margin": _margin(comparison.printed)}
        note = arm_note(arm)
        row |= {key: getattr(note, key) for key in _COUNTS}
        printed = _printed(comparison.printed)
        row |= _printed_columns(comparison.printed, printed)
        ours, columns = _ours(arm, comparison)
        row |= columns
        found = difference(ours, printed) if ours and printed else None
        if found:
            row |= {"difference": found.value, "difference_low": found.low, "difference_high": found.high}
        spread = missing_spread(ours, printed) if ours and printed else []
        spread += [NO_SCALE] if printed and row["margin"] is None else []
        verdict = _verdict(comparison, arm, found, [*_doubts(arm), *spread])
        yield row | {"verdict": verdict.word, "why": verdict.why}


def _printed(printed: Printed) -> Estimate | None:
    """The printed number as a share or a return, its error as a standard error; None for an empty cell."""
    if printed.value is None:
        return None
    scale = _scale(printed)
    error = standard_error(printed.error, printed.error_kind, printed.seeds)
    return Estimate(printed.value * scale, None if error is None else error * scale, printed.seeds)


def _printed_columns(printed: Printed, estimate: Estimate | None) -> Row:
    return {
        "printed": estimate and estimate.value,
        "printed_error": None if printed.error is None else printed.error * _scale(printed),
        "printed_standard_error": estimate and estimate.error,
        "error_kind": printed.error_kind,
        "printed_seeds": printed.seeds,
        "trust": printed.trust,
        "statistic": printed.statistic,
    }


def _scale(printed: Printed) -> float:
    return 0.01 if printed.unit == "percent" else 1.0


def _margin(printed: Printed) -> float | None:
    """A tenth of what there is to reach, in the unit of the comparison; None where nobody knows how much that is."""
    return MARGIN * printed.highest if printed.highest else None if printed.unit == "return" else MARGIN


def _ours(arm: ArmCurves, comparison: Comparison) -> tuple[Estimate | None, Row]:
    """Our number at the comparison's step and column, and its columns; no number where no run has scores."""
    metric = metric_of(comparison.printed.unit)
    if not arm.steps or metric not in arm.scores:
        return None, {}
    until = max(1, int(np.searchsorted(arm.steps, comparison.step, side="right")))
    curve = arm.scores[metric][:until]
    position = until - 1 if comparison.column == "final" else statistics.best_evaluation(curve)
    scores, statistic = curve[position], statistics.STATISTICS[comparison.printed.statistic]
    value, error = float(statistic(scores)), statistics.error_over_runs(scores, statistic)
    stream = statistics.random_stream(comparison.arm, metric, "published", comparison.column, str(comparison.step))
    low, high = statistics.bootstrap_interval(scores, statistic, stream, unit="run")
    estimate = Estimate(value, None if math.isnan(error) else error, len(scores))
    return estimate, {"step": arm.steps[position], "value": value, "low": float(low), "high": float(high)}


def _verdict(comparison: Comparison, arm: ArmCurves, found: Difference | None, doubts: list[str]) -> Verdict:
    if comparison.printed.value is None:
        return Verdict("no printed number", "nobody could read the printed number")
    if comparison.differs:
        return Verdict("not comparable", "; ".join(reason.removesuffix(".") for reason in comparison.differs))
    if arm.steps and (metric := metric_of(comparison.printed.unit)) not in arm.scores:
        return Verdict("not comparable", f"our runs do not measure {metric}")
    if found is None:
        return Verdict("undecided", "no run is there yet")
    margin = _margin(comparison.printed) or MARGIN  # without one there is a doubt, and nothing is decided
    return judge(found, doubts, _caveats(comparison, arm), seeds=arm.seeds_present, margin=margin)


def _doubts(arm: ArmCurves) -> list[str]:
    """What keeps our runs from being the evidence that the study asks for."""
    note = arm_note(arm)
    doubts = []
    if note.seeds_present < note.seeds_expected:
        doubts.append(f"{note.seeds_present} of {note.seeds_expected} seeds have scores")
    if note.diverged:
        doubts.append(_counted(note.diverged, "diverged"))
    if note.inexact:
        doubts.append(_counted(note.inexact, "not bit-exact"))
    return doubts


def _caveats(comparison: Comparison, arm: ArmCurves) -> list[str]:
    """What a reader must know beside a verdict: a bias that the two do not share, and on whose word they compare."""
    found, theirs = [], comparison.printed.seeds
    if comparison.column == "best_of_mean_curve" and theirs != arm.seeds_present:
        found.append(
            f"seeds behind the best point: ours {arm.seeds_present}, the paper's {theirs or 'not known'}; its upward "
            "bias depends on seeds and evaluations, so the two are biased differently"
        )
    if comparison.conditions_alike:
        found.append(f"conditions alike, as the study says: {comparison.conditions_alike.removesuffix('.')}")
    return found


def _counted(runs: int, what: str) -> str:
    verb = "" if what == "diverged" else " is" if runs == 1 else " are"
    return f"{runs} run{'' if runs == 1 else 's'}{verb} {what}"
