"""Room on the disk for what a run saves, asked for before it trains: a run should not end in its last hour for it.

The estimate is the state as it is, and what its replays still take up until the budget is used, in checkpoints or in
files of their own; it knows no method.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from mtrepro.engine.checkpoint import KEPT
from mtrepro.engine.record_files import FileRecords
from mtrepro.engine.replay import Replay
from mtrepro.engine.sequence_replay import SequenceReplay
from mtrepro.errors import OutputError
from mtrepro.paths import shown
from mtrepro.terminal import size

AT_ONCE = KEPT + 1  # checkpoints that lie side by side while one is written

R = TypeVar("R", Replay, SequenceReplay)


def need_room(folder: Path, state: Any, method: object, steps_left: int, runs: int = 1) -> None:
    """Refuse to train where the disk cannot hold the checkpoints of the whole run.

    Checkpoints that are there already give way to later ones, so they count as room.

    Args:
        folder: where this run's checkpoints lie or will lie.
        state: the run's state now, as a checkpoint would hold it.
        method: its replays are looked for among its attributes; what else it may store later is not foreseen.
        steps_left: vector steps until the budget is used.
        runs: that one process trains at once and that need as much each.

    Raises:
        OutputError: there is less room.
    """
    largest = state_bytes(state) + growth(method, steps_left)
    frames = growth_of_files(method, steps_left)
    there = sum(file.stat().st_size for file in folder.glob("*.pt"))
    free = shutil.disk_usage(_existing(folder)).free
    if runs * (AT_ONCE * largest + frames - there) <= free:
        return
    beside = f", and as much for each of {runs} runs" if runs > 1 else ""
    raise OutputError(
        f"{shown(folder)}: the disk has too little room for this run's checkpoints\n"
        f"  needed: {size(AT_ONCE * largest + frames - there)} ({AT_ONCE} checkpoints of up to {size(largest)},"
        f"{f' {size(frames)} of frames,' if frames else ''} less {size(there)} that is there){beside},"
        f" free: {size(free)}\n"
        "  free some space (`mtrepro clean STUDY` drops what runs left behind) or put the results on a larger disk,\n"
        "  then start the same command again"
    )


def state_bytes(state: Any) -> int:
    """Bytes of all tensors and arrays in nested dicts, lists and tuples."""
    match state:
        case np.ndarray():
            return int(state.nbytes)
        case torch.Tensor():
            return state.numel() * state.element_size()
        case Mapping():
            return sum(map(state_bytes, state.values()))
        case list() | tuple():
            return sum(map(state_bytes, state))
    return 0


def growth(method: object, steps_left: int) -> int:
    """Bytes by which the replays of a method still grow: each to its capacity, or to what the steps left fill."""
    return sum(
        (min(replay.steps, replay.added + steps_left) - len(replay)) * _row_bytes(replay)
        for replay in _replays(Replay, list(vars(method).values()))
    )


def growth_of_files(method: object, steps_left: int) -> int:
    """Bytes by which frames in files still grow, one a step; first frames of episodes are not counted."""
    return sum(
        frames.bytes_still_to_come(steps_left)
        for replay in _replays(SequenceReplay, list(vars(method).values()))
        for frames in replay.frames
        if isinstance(frames, FileRecords)
    )


def _row_bytes(replay: Replay) -> int:
    """Bytes of one vector step: of every array that holds a row for each step."""
    arrays = [value for value in vars(replay).values() if isinstance(value, np.ndarray | torch.Tensor)]
    return sum(value.nbytes // replay.steps for value in arrays if value.shape[:1] == (replay.steps,))


def _replays(kind: type[R], value: Any) -> Iterator[R]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _replays(kind, item)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
