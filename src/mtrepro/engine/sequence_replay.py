"""Replay of whole sequences: every frame of every episode in order, drawn as windows of consecutive frames.

A window may begin anywhere and may run from one episode into the next: `is_first` says where. So an episode is never
too short to be used, and a draw is one look-up, however short episodes are.

A frame holds an observation and what led to it: the action before it and its reward. An episode of T steps has T + 1
frames; the first has no action and no reward, both zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrepro.engine import streams
from mtrepro.engine.records import Memory, Rows, Storage
from mtrepro.engine.replay import Transitions


class Sequences(NamedTuple):
    """Windows side by side, time first, on the learner's device."""

    observation: Tensor  # (length, batch, *observation_shape), in the type of the benchmark
    action: Tensor  # (length, batch, action_size): the one that led to the observation
    reward: Tensor  # (length, batch): the one that came with it
    terminated: Tensor  # (length, batch): 1.0 where the task ended with it
    is_first: Tensor  # (length, batch) bool: nothing before this frame led to it
    task: Tensor  # (batch,) int64

    def columns(self, which: Any) -> Sequences:
        """Some of the windows, by whatever picks from a tensor."""
        return Sequences._make([*(each[:, which] for each in self[:-1]), self.task[which]])


class SequenceReplay:
    """The last frames of every task, each task's in their order.

    Args:
        capacity: frames of all tasks together.
        storage: where the frames are kept; None keeps them in the machine's memory.
    """

    def __init__(
        self,
        capacity: int,
        tasks: int,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype[Any],
        action_size: int,
        generator: np.random.Generator,
        device: torch.device,
        storage: Storage | None = None,
    ) -> None:
        if capacity < tasks:
            raise ValueError(f"replay of {capacity} frames cannot hold one frame of each of {tasks} tasks")
        self.capacity, self.generator, self.device = capacity // tasks, generator, device
        self.kind = np.dtype(
            [
                ("observation", observation_dtype, observation_shape),
                ("action", np.float32, (action_size,)),
                ("reward", np.float32),
                ("terminated", np.bool_),
                ("is_first", np.bool_),
            ]
        )
        self.frames = [(storage or Memory()).records(f"task-{task}", self.kind, self.capacity) for task in range(tasks)]
        self.starting = np.ones(tasks, np.bool_)  # where the next transition is an episode's first

    def add(self, transitions: Transitions) -> None:
        """Store one vector step: one frame of each task, two where an episode begins."""
        for task, frames in enumerate(self.frames):
            if self.starting[task]:
                first = np.zeros((), self.kind)
                first["observation"], first["is_first"] = transitions.observation[task], True
                frames.append(first)
            frame = np.zeros((), self.kind)
            frame["observation"] = transitions.next_observation[task]
            frame["action"], frame["reward"] = transitions.action[task], transitions.reward[task]
            frame["terminated"] = transitions.terminated[task]
            frames.append(frame)
        self.starting = transitions.terminated | transitions.truncated

    def draw(self, batch: int, length: int) -> Sequences:
        """Draw `batch` windows of `length` frames: a task by chance, then each of its windows alike.

        Raises:
            ValueError: there are fewer frames than one window has.
        """
        self._refuse_too_few(length)
        return self._drawn(self.generator.integers(len(self.frames), size=batch), length)

    def draw_of_each(self, windows: int, length: int) -> Sequences:
        """Draw `windows` windows of every task, in the order of the tasks.

        Raises:
            ValueError: there are fewer frames than one window has.
        """
        self._refuse_too_few(length)
        return self._drawn(np.repeat(np.arange(len(self.frames)), windows), length)

    def _refuse_too_few(self, length: int) -> None:
        fewest = min(min(frames.count, self.capacity) for frames in self.frames)
        if fewest < length:
            raise ValueError(f"a window of {length} frames cannot be drawn from {fewest}")

    def _drawn(self, tasks: NDArray[np.int64], length: int) -> Sequences:
        """A window of each of these tasks."""
        windows = [self._window(int(task), length) for task in tasks]

        def stacked(name: str) -> Tensor:
            return torch.from_numpy(np.stack([window[name] for window in windows], axis=1)).to(self.device)

        return Sequences(
            stacked("observation"), stacked("action"), stacked("reward"), stacked("terminated").float(),
            stacked("is_first"), torch.from_numpy(tasks).to(self.device),
        )  # fmt: skip

    def _window(self, task: int, length: int) -> Rows:
        frames = self.frames[task]
        oldest = max(0, frames.count - self.capacity)
        start = int(self.generator.integers(oldest, frames.count - length + 1))
        return frames.read(start, start + length)

    def state(self) -> dict[str, Any]:
        """Where it stands; the frames themselves only where the machine's memory keeps them."""
        return {
            "frames": [frames.state() for frames in self.frames],
            "starting": self.starting.copy(),
            "generator": streams.generator_state(self.generator),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        for frames, saved in zip(self.frames, state["frames"], strict=True):
            frames.load_state(saved)
        starting: NDArray[np.bool_] = state["starting"]
        self.starting = starting.copy()
        streams.load_generator_state(self.generator, state["generator"])
