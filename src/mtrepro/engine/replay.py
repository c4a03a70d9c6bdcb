"""Replay memory of a fixed number of transitions, drawn uniformly or with an equal share for every task.

Capacity counts transitions of all tasks together (mtrl: one million in total, so MT10 keeps the last 100,000 steps).
Rows are stored step by step, all tasks of a vector step side by side, so that row // tasks is the step.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrepro.engine import streams

Sampling = Literal["uniform", "stratified"]


class Batch(NamedTuple):
    """Transitions of many tasks, on the learner's device."""

    observation: Tensor  # (batch, *observation_shape)
    action: Tensor  # (batch, action_size)
    reward: Tensor  # (batch,)
    next_observation: Tensor  # (batch, *observation_shape)
    terminated: Tensor  # (batch,) 1.0 where the task ended: no bootstrap
    task: Tensor  # (batch,) int64 task index


IN_BATCH = ("observation", "action", "reward", "next_observation", "terminated")  # columns, in a batch's order


class Transitions(NamedTuple):
    """One vector step: row i belongs to task i."""

    observation: NDArray[Any]  # (tasks, *observation_shape)
    action: NDArray[np.float32]  # (tasks, action_size)
    reward: NDArray[np.float32]  # (tasks,)
    next_observation: NDArray[Any]  # (tasks, *observation_shape), the true one, not that after a reset
    terminated: NDArray[np.bool_]  # (tasks,)
    truncated: NDArray[np.bool_]  # (tasks,)


class Replay:
    """A ring of vector steps in main memory; a draw copies its rows to the device."""

    def __init__(
        self,
        capacity: int,
        tasks: int,
        observation_shape: tuple[int, ...],
        action_size: int,
        sampling: Sampling,
        generator: np.random.Generator,
        device: torch.device,
        observation_dtype: Any = np.float32,
    ) -> None:
        if capacity < tasks:
            raise ValueError(f"replay of {capacity} transitions cannot hold one step of {tasks} tasks")
        self.steps = capacity // tasks
        self.tasks, self.sampling, self.device, self.generator = tasks, sampling, device, generator
        self.observation = self._zeros((self.steps, tasks, *observation_shape), observation_dtype)
        self.next_observation = self._zeros((self.steps, tasks, *observation_shape), observation_dtype)
        self.action = self._zeros((self.steps, tasks, action_size), np.float32)
        self.reward = self._zeros((self.steps, tasks), np.float32)
        self.terminated = self._zeros((self.steps, tasks), np.float32)
        self.added = 0  # vector steps ever added
        self.longest: int | None = None  # rows of the longest task in the last draw, or more; None: nobody counted

    def __len__(self) -> int:
        """Vector steps that can be drawn."""
        return min(self.added, self.steps)

    def add(self, transitions: Transitions) -> None:
        """Store one vector step; the oldest one gives way."""
        at = self.added % self.steps
        self.observation[at] = transitions.observation
        self.next_observation[at] = transitions.next_observation
        self.action[at] = transitions.action
        self.reward[at] = transitions.reward
        self.terminated[at] = transitions.terminated
        self.added += 1

    def draw(self, batch: int, room: Batch | None = None) -> Batch:
        """Draw `batch` transitions with replacement, into `room` where it is given (`room`).

        uniform: each stored transition alike, so tasks are hit by chance (mtrl).
        stratified: batch / tasks of every task, rows sorted by task (metaworld-algorithms); batch must divide.
        """
        row, task = self._rows(batch)
        if room is None:
            columns = [self._taken(name, row) for name in IN_BATCH]
            return Batch._make(map(self._to_device, [*columns, task]))
        for name in IN_BATCH:
            self._taken(name, row, getattr(room, name).numpy())
        room.task.numpy()[:] = task
        return room

    def room(self, seeds: int, batch: int) -> Batch:
        """Room for the draws of several seeds: (seeds, batch, ...) of every column of a batch."""
        columns = [torch.as_tensor(getattr(self, name)[:0]) for name in IN_BATCH]
        rows = [torch.empty((seeds, batch, *its.shape[2:]), dtype=its.dtype, device=self.device) for its in columns]
        return Batch._make([*rows, torch.empty((seeds, batch), dtype=torch.int64, device=self.device)])

    def _rows(self, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows and the tasks of a draw, each (batch,)."""
        if self.sampling == "stratified":
            step = self.generator.integers(len(self), size=(self.tasks, batch // self.tasks)).ravel()
            task = np.repeat(np.arange(self.tasks), batch // self.tasks)
            return step * self.tasks + task, task
        row = self.generator.integers(len(self) * self.tasks, size=batch)
        return row, row % self.tasks

    def _taken(self, name: str, row: NDArray[np.int64], room: NDArray[Any] | None = None) -> NDArray[Any]:
        column = getattr(self, name)
        # Every row is there; numpy writes straight into `room` only where it need not check that.
        return column.reshape(-1, *column.shape[2:]).take(row, 0, room, "clip")  # type: ignore[no-any-return]

    def _zeros(self, shape: tuple[int, ...], kind: Any) -> Any:
        return np.zeros(shape, kind)

    def _to_device(self, rows: NDArray[Any]) -> Tensor:
        return torch.from_numpy(rows).to(self.device, non_blocking=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: the filled rows, the count, the generator."""
        filled = len(self)
        return {
            "added": self.added,
            "generator": streams.generator_state(self.generator),
            **{name: getattr(self, name)[:filled] for name in self._columns},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.added = state["added"]
        streams.load_generator_state(self.generator, state["generator"])
        for name in self._columns:
            getattr(self, name)[: len(self)] = state[name]

    _columns = ("observation", "next_observation", "action", "reward", "terminated")
