"""What steps a share of the tasks: in the main process, or in a worker process that `vector.py` starts.

Both run the same `Group` on the same kind of arrays, so workers or none give identical bits.
"""

from __future__ import annotations

import mmap
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from mtrepro.benchmarks import Benchmark, Environment, Purpose, SimulationError, State

RESET, STEP, STATE, LOAD, CLOSE = b"r", b"s", b"g", b"l", b"c"
DONE, FAILED = b"d", b"f"
LEFT_TO_MAIN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ALIGNMENT = 64  # a cache line, so that two workers never write to the same one


class TaskError(RuntimeError):
    """An environment raised an exception. Names the task."""


class WorkerDiedError(TaskError):
    """A worker process died. Names it, its tasks and the signal."""


class Arrays:
    """The arrays of one vector step, over memory that one process or several see.

    Shapes: action (tasks, action_size) float32; observation and next_observation (tasks, *observation_shape);
    reward and raw_reward (tasks,) float64; terminated, truncated, success (tasks,) bool. `bells` (tasks, 2, ...): of
    each worker, of whom there are no more than tasks, what the main process rings and what the worker does.
    """

    def __init__(self, benchmark: Benchmark, memory: Any) -> None:
        offset, views = 0, []
        for shape, dtype in _layout(benchmark):
            views.append(np.ndarray(shape, dtype, memory, offset))
            offset += _padded(shape, dtype)
        self.action, self.observation, self.next_observation = views[:3]
        self.reward, self.raw_reward = views[3:5]
        self.terminated, self.truncated, self.success = views[5:8]
        self.bells = views[8]

    @staticmethod
    def size(benchmark: Benchmark) -> int:
        """Bytes of memory that the arrays need."""
        return sum(_padded(shape, dtype) for shape, dtype in _layout(benchmark))


class Bell:
    """Counts in shared memory what was sent on a line, so that the other end need not sleep before it comes.

    A process that sleeps takes longer to wake than a task to step. The line alone says what was sent.
    """

    def __init__(self, count: Any, patience: float) -> None:
        self._count, self._patience = count, patience
        self._heard = 0

    def ring(self) -> None:
        """Something was sent."""
        self._count[0] += 1

    def listen(self) -> None:
        """Return when the next thing was sent, or after `patience` seconds; then the line is read.

        At once beside another thread, which a look would keep from learning.
        """
        if self._patience and threading.current_thread() is threading.main_thread():
            limit = time.perf_counter() + self._patience
            while int(self._count[0]) == self._heard and time.perf_counter() < limit:
                pass
        self._heard += 1


class Group:
    """The environments of some tasks, which read their actions from `arrays` and write what follows there."""

    def __init__(
        self, benchmark: Benchmark, purpose: Purpose, tasks: Sequence[int], autoreset: bool, arrays: Arrays
    ) -> None:
        self._names, self.tasks, self._purpose = benchmark.tasks, tuple(tasks), purpose
        self._autoreset, self._arrays = autoreset, arrays
        self._current = 0  # the task at work, for the message if it fails
        self._environments: list[Environment] = []
        for task in self.tasks:
            self._current = task
            self._environments.append(benchmark.make(task, purpose))

    def reset(self, episode: int | None) -> None:
        """Start an episode in every task."""
        arrays = self._arrays
        for task, environment in self._each():
            arrays.observation[task] = environment.reset(episode)
            arrays.terminated[task] = arrays.truncated[task] = False

    def step(self) -> None:
        """Advance every task by its action. One whose episode ended, and was not reset, stands still for no reward."""
        arrays = self._arrays
        for task, environment in self._each():
            if not self._autoreset and (arrays.terminated[task] or arrays.truncated[task]):
                arrays.next_observation[task] = arrays.observation[task]
                arrays.reward[task], arrays.raw_reward[task], arrays.success[task] = 0.0, 0.0, False
                continue
            step = environment.step(arrays.action[task].copy())
            arrays.next_observation[task] = arrays.observation[task] = step.observation
            arrays.reward[task], arrays.raw_reward[task] = step.reward, step.raw_reward
            arrays.terminated[task], arrays.truncated[task] = step.terminated, step.truncated
            arrays.success[task] = step.success
            if self._autoreset and (step.terminated or step.truncated):
                arrays.observation[task] = environment.reset()

    def state(self) -> list[State]:
        """The state of each task: its environment's, and where its episode stands."""
        arrays = self._arrays
        states: list[State] = []
        for task, environment in self._each():
            states.append(
                {
                    "environment": environment.state(),
                    "observation": arrays.observation[task].copy(),
                    "terminated": bool(arrays.terminated[task]),
                    "truncated": bool(arrays.truncated[task]),
                }
            )
        return states

    def load_state(self, states: Sequence[State]) -> None:
        """Continue each task from its state."""
        arrays = self._arrays
        for (task, environment), state in zip(self._each(), states, strict=True):
            environment.load_state(state["environment"])
            arrays.observation[task] = state["observation"]
            arrays.terminated[task] = state["terminated"]
            arrays.truncated[task] = state["truncated"]

    def close(self) -> None:
        """Free every simulator."""
        for environment in self._environments:
            environment.close()

    def where(self) -> str:
        """The task at work, as words for a message."""
        return f"task {self._names[self._current]!r} ({self._purpose} environment)"

    def _each(self) -> Iterator[tuple[int, Environment]]:
        for task, environment in zip(self.tasks, self._environments, strict=True):
            self._current = task
            yield task, environment


def serve(connection: Connection, memory_handle: int) -> None:
    """The life of a worker process: obey until the main process closes the line, or dies, which closes it too."""
    for number in LEFT_TO_MAIN:  # a signal to the whole process group: the main process decides what it means
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_MAIN)
    try:
        benchmark, purpose, tasks, autoreset, index, patience = connection.recv()
        arrays = Arrays(benchmark, mmap.mmap(memory_handle, Arrays.size(benchmark)))
        bells = [Bell(count, patience) for count in arrays.bells[index]]
        _serve_group(connection, benchmark, purpose, tasks, autoreset, arrays, *bells)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the main process is gone


def _serve_group(
    connection: Connection,
    benchmark: Benchmark,
    purpose: Purpose,
    tasks: Sequence[int],
    autoreset: bool,
    arrays: Arrays,
    asked: Bell,
    answered: Bell,
) -> None:
    where = f"tasks {', '.join(benchmark.tasks[task] for task in tasks)}"
    group: Group | None = None
    try:
        group = Group(benchmark, purpose, tasks, autoreset, arrays)
        answer = DONE
        while True:
            connection.send_bytes(answer)
            answered.ring()
            asked.listen()
            message = connection.recv_bytes()
            if message[:1] == CLOSE:
                break
            answer = DONE + _obey(group, message)
        group.close()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        where = group.where() if group else where
        unstable = isinstance(error, SimulationError)
        report = (
            unstable,
            f"{where}: {error}" if unstable else f"{where}: {type(error).__name__}: {error}",
            traceback.format_exc(),
        )
        connection.send_bytes(FAILED + pickle.dumps(report))


def _obey(group: Group, message: bytes) -> bytes:
    command, rest = message[:1], message[1:]
    if command == STEP:
        group.step()
    elif command == RESET:
        group.reset(pickle.loads(rest))
    elif command == STATE:
        return pickle.dumps(group.state())
    elif command == LOAD:
        group.load_state(pickle.loads(rest))
    return b""


def _layout(benchmark: Benchmark) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    tasks = len(benchmark.tasks)
    action = ((tasks, benchmark.action_size), np.dtype(np.float32))
    observation = ((tasks, *benchmark.observation_shape), benchmark.observation_dtype)
    reward, flag = ((tasks,), np.dtype(np.float64)), ((tasks,), np.dtype(np.bool_))
    bells = ((tasks, 2, _ALIGNMENT // 8), np.dtype(np.uint64))
    return [action, observation, observation, reward, reward, flag, flag, flag, bells]


def _padded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = int(np.prod(shape)) * dtype.itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT
