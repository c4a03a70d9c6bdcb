"""Milliseconds of one update of each of eight seeds of MT-SAC in one process, beside one seed's in the same run."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from mtrepro.updates import Updates
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds
from tests.bench.update import make_method

SEEDS = 8
SIZES: dict[str, dict[str, Any]] = {
    "400 x 3, batch 1280": {},
    "64 x 2, batch 128": {"width": 64, "depth": 2, "batch": 128},
}
ONE, IN_STEP, IN_TURN = "one seed", f"{SEEDS} seeds in step", f"{SEEDS} seeds in turn"
_FILLED = 20_000  # transitions that each draws from


def measure(effort: Effort) -> Topic:
    """Updates with one thread: of one seed, of eight as the trainer does them, of eight one after the other."""
    calls: dict[str, tuple[Any, int]] = {}
    for size, changed in SIZES.items():
        one, *methods = (make_method("mt_sac", min(effort.transitions, _FILLED), **changed) for _ in range(1 + SEEDS))
        alone = [make_method("mt_sac", min(effort.transitions, _FILLED), **changed) for _ in range(SEEDS)]
        times = effort.small_updates if changed else effort.updates
        calls[f"{size}: {ONE}"] = one.learn, times
        calls[f"{size}: {IN_STEP}"] = partial(Updates(), methods), max(1, times // SEEDS)
        calls[f"{size}: {IN_TURN}"] = partial(_in_turn, alone), max(1, times // SEEDS)

    def timed(name: str) -> float:
        torch.set_num_threads(1)
        call, times = calls[name]
        call()  # what was used before has left the cache
        return 1000 * seconds(call, times, effort.limit)

    found = in_turn(effort.repeats, {name: partial(timed, name) for name in calls})
    rows = []
    for name, values in found.items():
        size, _, what = name.partition(": ")
        beside = {"x one seed": ratios(values, found[f"{size}: {ONE}"])}
        rows.append(Row(name, "ours" if what == IN_STEP else "peer", "ms", values, 1, 1, beside))
    notes = (
        "One update of each seed, MT10, fp32. In step: as `seeds_per_job` trains them, with the bits of each alone; "
        "large networks learn one after the other there, too.",
    )
    return Topic("Eight seeds of MT-SAC in one process on the CPU", notes, tuple(rows))


def _in_turn(methods: list[Any]) -> None:
    for method in methods:
        method.learn()
