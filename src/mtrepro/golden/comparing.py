"""What it means that a replay is not the stored trajectory: other last bits, or another simulator.

Other bits come from another processor or build of a numeric library, and contact lets them grow. How much is measured
when a trajectory is recorded: it is played a second time with other last bits, and the difference of each row is kept.
A replay that leaves the stored path by far more than that has another simulator: a constant, an asset, a reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtrepro.golden.playing import OUTCOME, Trajectory

FLOOR = (
    2e-7  # relative to a number, absolute where it is below 1: observations are 32-bit numbers, whose step is 1.2e-7
)
MARGIN = 100.0  # how much more another processor may differ than the one that was tried

Verdict = Literal["equal", "other bits", "drifted"]


@dataclass(frozen=True)
class Comparison:
    """The verdict; the largest difference; and for a drift the first step and number that left, in words."""

    verdict: Verdict
    largest: float = 0.0
    words: str = ""


def rounding(one: Trajectory, other: Trajectory) -> NDArray[np.float64]:
    """How far two plays with other last bits are apart: for each row of `one`, the largest difference up to it."""
    rows = min(len(one.outcome), len(other.outcome))
    differences = np.full(len(one.outcome), np.inf)  # where an episode ended elsewhere, anything goes
    differences[:rows] = np.maximum(*(part.max(axis=1) for part in _differences(one, other, rows)))
    return np.maximum.accumulate(differences)


def compare(stored: Trajectory, noise: NDArray[np.float64], found: Trajectory | str) -> Comparison:
    """Compare a replay, or the reason why there is none, with the stored trajectory and its `rounding`."""
    if isinstance(found, str):
        return Comparison("drifted", np.inf, found)
    if stored.digest() == found.digest():
        return Comparison("equal")
    was, now = stored.observation, found.observation
    if (was.shape[1:], was.dtype) != (now.shape[1:], now.dtype):
        words = f"the observation is {now.dtype} {now.shape[1:]}, was {was.dtype} {was.shape[1:]}"
        return Comparison("drifted", np.inf, words)
    rows = min(len(was), len(now))
    observation, outcome = _differences(stored, found, rows)
    by_row = np.maximum(observation.max(axis=1), outcome.max(axis=1))
    outside = np.flatnonzero(by_row > np.maximum(FLOOR, MARGIN * noise[:rows]))
    if outside.size:
        words = _first_number(stored, found, int(outside[0]), observation, outcome)
        return Comparison("drifted", float(by_row.max()), words)
    if len(was) != len(now):
        return Comparison("drifted", np.inf, f"{len(now)} rows, was {len(was)}: episodes end at other steps")
    return Comparison("other bits", float(by_row.max()))


def _differences(was: Trajectory, now: Trajectory, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The differences of the first `rows` rows: (rows, numbers of an observation) and (rows, 6)."""
    observation = _difference(was.observation[:rows], now.observation[:rows]).reshape(rows, -1)
    return observation, _difference(was.outcome[:rows], now.outcome[:rows])


def _difference(was: NDArray[Any], now: NDArray[Any]) -> NDArray[np.float64]:
    """|now - was| / max(1, |was|) of each number; infinite where only one of the two is finite."""
    before, after = was.astype(np.float64), now.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(after - before) / np.maximum(1.0, np.abs(before))
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return np.where(same, 0.0, np.nan_to_num(difference, nan=np.inf, posinf=np.inf))


def _first_number(
    stored: Trajectory, found: Trajectory, row: int, observation: NDArray[Any], outcome: NDArray[Any]
) -> str:
    """'after step 3: observation[4] is 0.0613, was 0.0612': the number of this row that differs most."""
    if observation[row].max() >= outcome[row].max():
        place = np.unravel_index(int(observation[row].argmax()), stored.observation[row].shape)
        name = f"observation[{', '.join(map(str, place))}]"
        now, was = found.observation[row][place], stored.observation[row][place]
    else:
        column = int(outcome[row].argmax())
        name, now, was = OUTCOME[column], found.outcome[row, column], stored.outcome[row, column]
    step = int(stored.outcome[row, 0])
    when = f"after step {step}" if step else "after the reset"
    return f"{when}: {name} is {float(now):.9g}, was {float(was):.9g}"
