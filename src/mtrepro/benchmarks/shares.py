"""Which process steps which tasks."""

from __future__ import annotations

from collections.abc import Sequence

from mtrepro.benchmarks import Benchmark


def costs_of(benchmark: Benchmark) -> list[float]:
    """What a step of each task costs beside the others; all alike where nobody measured it."""
    return list(getattr(benchmark, "costs", None) or [1.0] * len(benchmark.tasks))


def shares(costs: Sequence[float], count: int) -> list[list[int]]:
    """Tasks in `count` shares of about the same cost; the first is empty where there are more shares than tasks.

    The dearest task first, each to the share that costs least so far.
    """
    if count > len(costs):
        return [[], *shares(costs, len(costs))]
    found: list[list[int]] = [[] for _ in range(count)]
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        min(found, key=lambda share: sum(costs[other] for other in share)).append(task)
    return [sorted(share) for share in found]
