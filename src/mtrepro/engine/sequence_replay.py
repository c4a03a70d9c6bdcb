"""Replay of whole sequences: every frame of every episode in order, drawn as windows of consecutive frames.

A window may begin anywhere and may run from one episode into the next: `is_first` says where. So an episode is never
too short to be used, and a draw is one look-up, however short episodes are.

A frame holds an observation and what led to it: the action before it and its reward. An episode of T steps has T + 1
frames; the first has no action and no reward, both zero.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
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
        self.begins: list[list[int]] = [[] for _ in range(tasks)]  # the first frame of each episode that is still there

    def add(self, transitions: Transitions) -> None:
        """Store one vector step: one frame of each task, two where an episode begins."""
        for task, frames in enumerate(self.frames):
            if self.starting[task]:
                first = np.zeros((), self.kind)
                first["observation"], first["is_first"] = transitions.observation[task], True
                self.begins[task].append(frames.count)
                frames.append(first)
            frame = np.zeros((), self.kind)
            frame["observation"] = transitions.next_observation[task]
            frame["action"], frame["reward"] = transitions.action[task], transitions.reward[task]
            frame["terminated"] = transitions.terminated[task]
            frames.append(frame)
            if self.begins[task] and self.begins[task][0] < frames.count - self.capacity:
                self.begins[task].pop(0)
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

    def draw_apart(self, task: int, batches: Sequence[int], length: int) -> list[Sequences]:
        """Two draws from one task that share no episode, or, while it has too few, no frame.

        The task's frames are cut in two, where an episode begins if one begins far enough from both ends; chance says
        where, and which draw is from which part. Within a part each window is drawn alike.

        Args:
            batches: windows of the first draw and of the second.

        Raises:
            ValueError: there are fewer frames than two windows have.
        """
        frames = self.frames[task]
        oldest = max(0, frames.count - self.capacity)
        first, last = oldest + length, frames.count - length  # a cut from here to there leaves a window on both sides
        if first > last:
            raise ValueError(f"two windows of {length} frames cannot be drawn from {frames.count - oldest}")
        begins = self.begins[task]
        begins = begins[bisect.bisect_left(begins, first) : bisect.bisect_right(begins, last)]
        chance = int(self.generator.integers(len(begins) or last - first + 1))
        cut = begins[chance] if begins else first + chance
        parts = [(oldest, cut), (cut, frames.count)]
        if self.generator.integers(2):
            parts.reverse()
        return [
            self._together(np.full(batch, task), [self._within(task, *part, length) for _ in range(batch)])
            for batch, part in zip(batches, parts, strict=True)
        ]

    def _refuse_too_few(self, length: int) -> None:
        fewest = min(min(frames.count, self.capacity) for frames in self.frames)
        if fewest < length:
            raise ValueError(f"a window of {length} frames cannot be drawn from {fewest}")

    def _drawn(self, tasks: NDArray[np.int64], length: int) -> Sequences:
        """A window of each of these tasks."""
        return self._together(tasks, [self._window(int(task), length) for task in tasks])

    def _together(self, tasks: NDArray[np.int64], windows: Sequence[Rows]) -> Sequences:
        """Windows side by side; `tasks` says whose each is."""

        def stacked(name: str) -> Tensor:
            return torch.from_numpy(np.stack([window[name] for window in windows], axis=1)).to(self.device)

        return Sequences(
            stacked("observation"), stacked("action"), stacked("reward"), stacked("terminated").float(),
            stacked("is_first"), torch.from_numpy(tasks).to(self.device),
        )  # fmt: skip

    def _window(self, task: int, length: int) -> Rows:
        frames = self.frames[task]
        oldest = max(0, frames.count - self.capacity)
        return self._within(task, oldest, frames.count, length)

    def _within(self, task: int, start: int, stop: int, length: int) -> Rows:
        """A window of the frames `start` to `stop` - 1, each alike."""
        begin = int(self.generator.integers(start, stop - length + 1))
        return self.frames[task].read(begin, begin + length)

    def state(self) -> dict[str, Any]:
        """Where it stands; the frames themselves only where the machine's memory keeps them."""
        return {
            "frames": [frames.state() for frames in self.frames],
            "starting": self.starting.copy(),
            "begins": [list(begins) for begins in self.begins],
            "generator": streams.generator_state(self.generator),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        for frames, saved in zip(self.frames, state["frames"], strict=True):
            frames.load_state(saved)
        starting: NDArray[np.bool_] = state["starting"]
        self.starting = starting.copy()
        self.begins = [list(begins) for begins in state["begins"]]
        streams.load_generator_state(self.generator, state["generator"])
