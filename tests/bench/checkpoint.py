"""Seconds of one checkpoint of a full replay, beside plain writing and reading of as many bytes."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtrepro.engine import checkpoint
from mtrepro.options import Options
from mtrepro.paths import root
from mtrepro.running import COST_SHARE
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds
from tests.bench.update import make_method

THREADS = 1


def measure(effort: Effort) -> Topic:
    """Save and load on the disk that holds results/."""
    torch.set_num_threads(THREADS)
    state = {"trainer": {"method": make_method("mt_sac", effort.transitions).state()}}
    (root() / "results").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=root() / "results") as folder:
        disk = _Disk(Path(folder), state)
        calls = {"save": disk.save, "write": disk.write_plainly, "load": disk.load, "read": disk.read_plainly}
        found = in_turn(effort.saves, {name: partial(seconds, call) for name, call in calls.items()})
        megabytes = disk.size / 1e6
    share = [100 * took / (_pause(took) + took) for took in found["save"]]
    rows = (
        _row("save: write, hash, fsync, rename", "ours", found["save"], megabytes, found["write"], share),
        _row("the same bytes written plainly, fsync", "limit", found["write"], megabytes),
        _row("load: hash, read, check", "ours", found["load"], megabytes, found["read"]),
        _row("the same file read plainly", "limit", found["read"], megabytes),
    )
    notes = (
        f"The state of MT-SAC on MT10 with a full replay of {effort.transitions:,} transitions of 39 numbers.",
        "% of run: what checkpoints then cost by the trainer's rule: the next one begins "
        f"{Options().checkpoint_seconds:.0f} s after the last ended, or its time / {COST_SHARE} where that is longer.",
        "What is read was just written, so it comes from memory, not from the disk.",
    )
    return Topic("One checkpoint", notes, rows)


def _row(
    name: str, role: Any, values: list[float], megabytes: float, limit: list[float] | None = None,
    share: list[float] | None = None,
) -> Row:  # fmt: skip
    beside = {"MB": [megabytes], "MB/s": [megabytes / value for value in values]}
    if limit:
        beside["x limit's time"] = ratios(values, limit)
    if share:
        beside["% of run"] = share
    return Row(name, role, "s", values, THREADS, 1, beside)


def _pause(took: float) -> float:
    """Seconds between checkpoints, as `running.py` has it."""
    return max(Options().checkpoint_seconds, took / COST_SHARE)


class _Disk:
    """A folder with checkpoints of one state."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder, self.state, self.step = folder, state, 0
        self.save()
        self.content = self.newest.read_bytes()
        self.size = len(self.content)

    def save(self) -> None:
        self.step += 1
        self.newest = checkpoint.save(self.folder / "ours", self.step, self.state)

    def write_plainly(self) -> None:
        partial = self.folder / "plain.partial"
        with partial.open("wb") as file:
            file.write(self.content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / "plain")

    def load(self) -> None:
        damage: list[str] = []
        if checkpoint.load(self.folder / "ours", damage.append) is None or damage:
            raise RuntimeError(f"the checkpoint cannot be read: {damage}")

    def read_plainly(self) -> None:
        self.newest.read_bytes()
