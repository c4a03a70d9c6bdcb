"""Step all tasks of a benchmark at once, in this process or with worker processes over shared memory: identical bits.

This process steps a share of the tasks while its workers step theirs; the shares cost about the same.
A worker is a fresh interpreter, not a fork: forking a process that has torch's threads is not safe. It imports the
benchmark's family only, never torch. Memory is an unlinked file, and each worker hangs on its own line to the main
process: whoever dies, in whatever way, the others notice at once, and nothing is left behind.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, Benchmark, Purpose, SimulationError, State
from mtrepro.benchmarks.shares import costs_of, shares
from mtrepro.benchmarks.worker import LOAD, RESET, STATE, STEP, Arrays, Group, TaskError, WorkerDiedError
from mtrepro.benchmarks.worker_process import GRACE_SECONDS, Worker

__all__ = ["TaskError", "VectorEnvironment", "VectorStep", "WorkerDiedError"]


PATIENCE = 300e-6  # seconds that a process looks for the other's message before it sleeps


class VectorStep(NamedTuple):
    """What all tasks give for one action each. Arrays of its own: later steps do not write into them."""

    next_observation: Array  # (tasks, *observation_shape): the true one that followed, also at an episode's end
    observation: Array  # (tasks, *observation_shape): the one to act on next; a new episode's where one ended
    reward: NDArray[np.float64]  # (tasks,): for the learner
    raw_reward: NDArray[np.float64]  # (tasks,): as the task gives it; returns are sums of this one
    terminated: NDArray[np.bool_]  # (tasks,): no bootstrap
    truncated: NDArray[np.bool_]  # (tasks,): bootstrap
    success: NDArray[np.bool_]  # (tasks,): the flag of this very step


class VectorEnvironment:
    """All tasks of a benchmark, stepped together.

    Args:
        purpose: training and evaluation environments share nothing, neither simulators nor random streams.
        workers: processes that step beside this one, which steps a share itself where each worker has a task. More
            than there are tasks is as many as there are tasks.
        autoreset: start the next episode where one ended, in the same step (training). Without it (evaluation) a task
            whose episode ended stands still, its flags up, its rewards 0, until `reset`.
    """

    def __init__(self, benchmark: Benchmark, purpose: Purpose, workers: int = 0, autoreset: bool = True) -> None:
        self.benchmark = benchmark
        self.tasks = benchmark.tasks
        self._workers: list[Worker] = []
        self._local: Group | None = None
        size, count = Arrays.size(benchmark), min(workers, len(benchmark.tasks))
        mine, *theirs = shares(costs_of(benchmark), count + 1)
        if not count:
            self._arrays = Arrays(benchmark, bytearray(size))
            self._local = Group(benchmark, purpose, mine, autoreset, self._arrays)
            return
        handle = _shared_memory(size)
        try:
            self._arrays = Arrays(benchmark, mmap.mmap(handle, size))
            for share in theirs:
                order = (benchmark, purpose, share, autoreset)
                self._workers.append(Worker(len(self._workers), order, handle, self._arrays, patience(count)))
            if mine:
                self._local = Group(benchmark, purpose, mine, autoreset, self._arrays)
            self._replies()  # every environment is made, or its failure is told
        except BaseException:
            self._end()
            raise
        finally:
            os.close(handle)

    @property
    def observation(self) -> Array:
        """The observations to act on next, (tasks, *observation_shape); also right after `load_state`."""
        return self._arrays.observation.copy()

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The process ids of the workers."""
        return tuple(worker.pid for worker in self._workers)

    def reset(self, episode: int | None = None) -> Array:
        """Start an episode in every task: start `episode` of the protocol, or the next one of each random stream.

        Returns:
            Observations (tasks, *observation_shape).
        """
        self._all(RESET, episode)
        return self.observation

    def step(self, actions: Array) -> VectorStep:
        """Move every task by one action, (tasks, action_size) in [-1, 1].

        Raises:
            SimulationError: the physics of a task became unstable; all workers are ended.
            TaskError: an environment raised another exception; all workers are ended.
            WorkerDiedError: a worker died, and is named with its tasks; the others are ended.
        """
        arrays = self._arrays
        if actions.shape != arrays.action.shape:
            raise ValueError(f"actions have the shape {actions.shape}, expected (tasks, size) {arrays.action.shape}")
        arrays.action[...] = actions
        self._all(STEP)
        return VectorStep(
            arrays.next_observation.copy(),
            arrays.observation.copy(),
            arrays.reward.copy(),
            arrays.raw_reward.copy(),
            arrays.terminated.copy(),
            arrays.truncated.copy(),
            arrays.success.copy(),
        )

    def state(self) -> State:
        """Everything that decides what follows, whatever the number of workers."""
        states: dict[int, State] = {}
        for tasks, its in zip(self._shares(), self._all(STATE), strict=True):
            states |= zip(tasks, its, strict=True)
        return {"tasks": [states[task] for task in range(len(self.tasks))]}

    def load_state(self, state: State) -> None:
        """Continue from `state`, which may come from another number of workers."""
        states = list(state["tasks"])
        if len(states) != len(self.tasks):
            raise ValueError(f"the state holds {len(states)} tasks, the benchmark {len(self.tasks)}")
        for worker in self._workers:
            worker.send(LOAD, [states[task] for task in worker.tasks])
        if self._local:
            self._attempt(self._local, LOAD, [states[task] for task in self._local.tasks])
        self._replies()

    def close(self) -> None:
        """End the workers and free the simulators. A second call does nothing."""
        if self._local:
            self._local.close()
            self._local = None
        for worker in self._workers:
            worker.ask_to_close()
        self._end(GRACE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _shares(self) -> list[Sequence[int]]:
        """The tasks of each process, in the order of `_all`'s answers."""
        return [its.tasks for its in (self._local, *self._workers) if its]

    def _all(self, command: bytes, content: Any = None) -> list[Any]:
        """Have every task obey; the workers run while this process steps its own share."""
        if not self._local and not self._workers:
            raise RuntimeError("these environments were closed")
        for worker in self._workers:
            worker.send(command, content)
        answers = [self._attempt(self._local, command, content)] if self._local else []
        return answers + self._replies()

    def _attempt(self, group: Group, command: bytes, content: Any) -> Any:
        try:
            if command == STEP:
                return group.step()
            if command == RESET:
                return group.reset(content)
            if command == LOAD:
                return group.load_state(content)
            return group.state()
        except Exception as error:
            self._end()
            if isinstance(error, SimulationError):
                raise SimulationError(f"{group.where()}: {error}") from None
            raise TaskError(f"{group.where()}: {type(error).__name__}: {error}") from error

    def _replies(self) -> list[Any]:
        """Wait for every worker. The first failure ends them all."""
        try:
            return [worker.reply() for worker in self._workers]
        except BaseException:
            self._end()
            raise

    def _end(self, grace: float = 0.0) -> None:
        self._local = None
        for worker in self._workers:
            worker.end(grace)
        self._workers = []


def patience(workers: int) -> float:
    """Seconds to look for a message: none where these and the main process have fewer cores than they are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return PATIENCE if workers < cores else 0.0


def _shared_memory(size: int) -> int:
    """A handle to memory that other processes can map; it is gone when the last of them is, however they die."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("mtrepro")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle
