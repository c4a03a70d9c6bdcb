"""Replay in a GPU's own memory: a draw moves indices to the device, not rows.

The same rows as `Replay` draws with the same generator, and the same checkpoint. MT10's million transitions of 39
numbers take 0.34 GB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrepro.engine.replay import IN_BATCH, Batch, Replay, Transitions

BLOCK = 32  # `longest` is a multiple of it: few different ones, so that what is recorded for one fits many batches


class DeviceReplay(Replay):
    """A ring of vector steps on the learner's device."""

    def add(self, transitions: Transitions) -> None:
        """Store one vector step; the oldest one gives way."""
        at = self.added % self.steps
        for name in self._columns:
            getattr(self, name)[at] = self._to_device(getattr(transitions, name))
        self.added += 1

    def draw(self, batch: int, room: Batch | None = None) -> Batch:
        """The same rows as `Replay.draw`; how many the longest task has is known here, without asking the device."""
        row, task = self._rows(batch)
        longest = int(np.bincount(task, minlength=self.tasks).max())
        self.longest = min(batch, -(-longest // BLOCK) * BLOCK)
        at = self._to_device(row)
        columns = [getattr(self, name).flatten(0, 1) for name in IN_BATCH]
        if room is None:
            return Batch._make([*(column.index_select(0, at) for column in columns), self._to_device(task)])
        for column, its in zip(columns, room, strict=False):
            torch.index_select(column, 0, at, out=its)
        room.task.copy_(torch.from_numpy(task))
        return room

    def state(self) -> dict[str, Any]:
        """As `Replay.state`, in the machine's memory."""
        state = super().state()
        return {**state, **{name: state[name].cpu().numpy() for name in self._columns}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        super().load_state({**state, **{name: self._to_device(state[name]) for name in self._columns}})

    def _zeros(self, shape: tuple[int, ...], kind: Any) -> Tensor:
        return torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, kind)).dtype, device=self.device)

    def _to_device(self, rows: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device, non_blocking=True)


def replay_on(device: torch.device) -> type[Replay]:
    """Where a learner on this device keeps its transitions: in main memory, or in the GPU's."""
    return Replay if device.type == "cpu" else DeviceReplay
