"""Milliseconds of one update of each of eight seeds of MT-SAC in one process, beside one seed's in the same run."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from mtrepro.updates import Updates
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds
from tests.bench.update import make_method

SEEDS = 8
SIZES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {  # settings, and threads to measure with
    "400 x 3, batch 1280": ({}, (1,)),
    "64 x 2, batch 128": ({"width": 64, "depth": 2, "batch": 128}, (1, 2)),
}
ONE, IN_STEP, IN_TURN = "one seed", f"{SEEDS} seeds in step", f"{SEEDS} seeds in turn"
WAYS = (ONE, IN_STEP, IN_TURN)
_FILLED = 100_000  # transitions that each draws from, 35 MB: as in a run, no cache holds them


def measure(effort: Effort) -> Topic:
    """Updates of one seed, of eight as the trainer does them, of eight one after the other."""
    calls: dict[str, tuple[Any, int, int]] = {}
    for size, (changed, numbers) in SIZES.items():
        one, *methods = (make_method("mt_sac", min(effort.transitions, _FILLED), **changed) for _ in range(1 + SEEDS))
        alone = [make_method("mt_sac", min(effort.transitions, _FILLED), **changed) for _ in range(SEEDS)]
        times = effort.small_updates if changed else effort.updates
        ways = (
            (one.learn, times),
            (partial(Updates(), methods), times // SEEDS),
            (partial(_in_turn, alone), times // SEEDS),
        )
        for threads in (number for number in numbers if number <= effort.threads):
            for name, (call, count) in zip(WAYS, ways, strict=True):
                calls[_named(size, threads, name)] = call, max(1, count), threads

    def timed(name: str) -> float:
        call, times, threads = calls[name]
        torch.set_num_threads(threads)
        call()  # what was used before has left the cache
        return 1000 * seconds(call, times, effort.limit)

    found = in_turn(effort.repeats, {name: partial(timed, name) for name in calls})
    torch.set_num_threads(1)
    rows = []
    for name, values in found.items():
        of_one = name.partition(": ")[0] + f": {ONE}"
        beside = {"x one seed": ratios(values, found[of_one])}
        rows.append(Row(name, "ours" if name.endswith(IN_STEP) else "peer", "ms", values, calls[name][2], 1, beside))
    notes = (
        "One update of each seed, MT10, fp32. In step: as `seeds_per_job` trains them, with the bits of each alone; "
        "large networks learn one after the other there, too.",
    )
    return Topic("Eight seeds of MT-SAC in one process on the CPU", notes, tuple(rows))


def _named(size: str, threads: int, way: str) -> str:
    return f"{size}, {threads} thread{'s' * (threads > 1)}: {way}"


def _in_turn(methods: list[Any]) -> None:
    for method in methods:
        method.learn()
