"""What tests of vector environments share."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrepro.benchmarks import Benchmark
from mtrepro.benchmarks.vector import VectorEnvironment

Array = NDArray[Any]
TOY = {"tasks": 3, "horizon": 5, "terminates": True, "padded_action": True}


def actions(benchmark: Benchmark, count: int, seed: int = 0) -> Array:
    shape = (count, len(benchmark.tasks), benchmark.action_size)
    return np.random.default_rng(seed).uniform(-1.2, 1.2, size=shape).astype(np.float32)


def record(environment: VectorEnvironment, sequence: Array) -> bytes:
    """Everything that an environment gives for a sequence of actions."""
    return b"".join(part.tobytes() for action in sequence for part in environment.step(action))


FEW_OR_MANY = pytest.mark.parametrize("cores", [1, 64], ids=["they sleep", "they look"])


def have_cores(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Fewer cores than processes, or enough of them for each to look for messages before it sleeps."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
