"""What every topic shares: how much is measured, repeats in turn, rows, and the machine they were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from mtrepro import provenance

SCHEMA_VERSION = 1
_PACKAGES = ("torch", "numpy", "mujoco", "metaworld", "gymnasium")


@dataclass(frozen=True)
class Effort:
    """How much is measured: full, quick, or as little as a test needs."""

    name: str
    tasks: tuple[str, ...] | Literal["MT10"]  # of `environments` and `training`
    episodes: tuple[tuple[int, int], ...]  # `environments`: (steps of an episode, repeats)
    repeats: int  # of `update` and `training`
    threads: int  # of torch in `training` on MT10; `update` is measured with one up to so many
    updates: int  # of one repeat
    small_updates: int  # of one repeat, with the small network
    products: int  # matrix products of one repeat
    steps: int  # vector steps of one repeat of `training`, at most
    demo_steps: int  # the same with the demo's settings; 150 are one episode, so one reset
    random_steps: int  # before `training` learns
    transitions: int  # in the checkpoint's replay
    saves: int  # repeats of `checkpoint` and `keeping`
    pause: float  # seconds between the checkpoints of `keeping`
    limit: float  # seconds after which a repeat of `update` or `training` ends early: a busy machine must not hang it


FULL = Effort(
    "full", "MT10", episodes=((150, 5), (500, 3)), repeats=5, threads=2, updates=20, small_updates=200, products=100,
    steps=20, demo_steps=150, random_steps=150, transitions=1_000_000, saves=3, pause=60.0, limit=4.0,
)  # fmt: skip
QUICK = Effort(
    "quick", "MT10", episodes=((150, 2),), repeats=2, threads=2, updates=4, small_updates=50, products=30, steps=5,
    demo_steps=150, random_steps=50, transitions=100_000, saves=2, pause=3.0, limit=1.5,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One thing that was measured, once in each repeat."""

    name: str
    role: Literal["ours", "peer", "limit"]
    unit: str
    values: Sequence[float]
    threads: int  # of torch, in the process that computes
    processes: int = 1  # that work at the same time
    beside: Mapping[str, Sequence[float]] = field(default_factory=dict)  # further columns, by heading with its unit

    def as_dict(self) -> dict[str, Any]:
        """The row as it stands in the JSON."""
        return {
            "name": self.name,
            "role": self.role,
            "unit": self.unit,
            "threads": self.threads,
            "processes": self.processes,
            **spread(self.values),
            "beside": {heading: spread(values) for heading, values in self.beside.items()},
        }


@dataclass(frozen=True)
class Topic:
    """A table: its rows and what a reader must know of them."""

    title: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest and number of repeats."""
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "repeats": len(values),
    }


def in_turn(repeats: int, measurements: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Call each measurement once a repeat, A B A B, so that what else the machine does meets all of them alike."""
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats):
        for name, measure in measurements.items():
            values[name].append(measure())
    return values


def seconds(call: Callable[[], object], times: int = 1, limit: float = float("inf")) -> float:
    """Mean wall-clock seconds of a call, over so many or as many as begin within `limit` seconds."""
    begun, passed, done = time.perf_counter(), 0.0, 0
    while done < times and passed <= limit:
        call()
        done += 1
        passed = time.perf_counter() - begun
    return passed / done


def ratios(above: Sequence[float], below: Sequence[float], scale: float = 1.0) -> list[float]:
    """One ratio for each repeat: both were measured in turn, so the machine's drift cancels."""
    return [scale * a / b for a, b in zip(above, below, strict=True)]


def record(name: str, effort: Effort, measure: Callable[[Effort], Topic]) -> dict[str, Any]:
    """Measure a topic; the result as it stands in its JSON, with the machine and its load before and after."""
    before, begun = _load(), time.perf_counter()
    topic = measure(effort)
    return {
        "schema_version": SCHEMA_VERSION,
        "topic": name,
        "title": topic.title,
        "notes": list(topic.notes),
        "effort": effort.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - begun, 1),
        "machine": _machine(),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "load": {"before": before, "after": _load()},
        "rows": [row.as_dict() for row in topic.rows],
    }


def write(content: Mapping[str, Any], folder: Path) -> Path:
    """Write a topic's JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content['topic']}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def _machine() -> dict[str, Any]:
    hardware = provenance.collect()["hardware"]
    return {
        "processor": hardware["processor"],
        "cores": hardware["cores"],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "niceness": os.nice(0),
    }


def _load() -> float:
    """Processes that wanted a core, mean of the last minute."""
    return round(os.getloadavg()[0], 2)
