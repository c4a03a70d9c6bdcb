"""The runs of an arm on common evaluation steps: what every statistic is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtrepro.analysis.evaluation import Array, Evaluation
from mtrepro.analysis.load import Arm, Run, StudyRuns
from mtrepro.errors import MtreproError


@dataclass(frozen=True)
class ArmCurves:
    """The scores of an arm.

    Attributes:
        steps: (evaluations,) vector steps, ascending; empty where no run has scores.
        scores: for each metric (evaluations, seeds, tasks).
    """

    arm: Arm
    steps: tuple[int, ...]
    scores: dict[str, Array]

    @property
    def seeds_present(self) -> int:
        """How many seeds the numbers are made from, diverged ones among them."""
        return len(self.arm.scored)


def arm_curves(study: StudyRuns, arm: Arm) -> ArmCurves:
    """Put the runs of an arm on common steps.

    A diverged run stops early, and its last evaluation stands for the rest of the budget. Leaving the run out would
    make the arm better by every failure, and a score of zero means nothing for a return; what the run had reached
    when it stopped is what a user of the method would have been left with.

    Raises:
        MtreproError: two runs that ended were evaluated at different steps.
    """
    steps = _common_steps(arm)
    scores = {
        metric: np.stack([_carried_forward(run.evaluation, metric, steps) for run in arm.scored if run.evaluation], 1)
        if steps
        else np.empty((0, 0, len(study.manifest.tasks)))
        for metric in study.metrics
    }
    return ArmCurves(arm, steps, scores)


def _common_steps(arm: Arm) -> tuple[int, ...]:
    ended = [run for run in arm.runs if run.status == "present"]
    for run in ended[1:]:
        if _steps(run) != _steps(ended[0]):
            raise MtreproError(
                f"{Path(run.name) / 'evaluation.csv'}: was evaluated at other steps than {ended[0].name}, "
                f"of the same arm {arm.expected.arm}\n"
                "  write the manifest again with `mtrepro manifest`, or remove the wrong folder and run it again"
            )
    if ended:
        return _steps(ended[0])
    if not arm.scored:
        return ()
    reached = {step for run in arm.scored for step in _steps(run)}
    return tuple(sorted(reached | {arm.expected.budget}))  # all diverged: the rest of the budget counts all the same


def _steps(run: Run) -> tuple[int, ...]:
    return run.evaluation.steps if run.evaluation else ()


def _carried_forward(evaluation: Evaluation, metric: str, steps: tuple[int, ...]) -> Array:
    """(evaluations, tasks): the run's latest evaluation at each of `steps`."""
    latest = np.searchsorted(evaluation.steps, steps, side="right") - 1
    return evaluation.scores[metric][np.maximum(latest, 0)]
