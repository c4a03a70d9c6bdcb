"""Step all tasks of a benchmark at once, in this process or in worker processes over shared memory: identical bits.

A worker is a fresh interpreter, not a fork: forking a process that has torch's threads is not safe. It imports the
benchmark's family only, never torch. Memory is an unlinked file, and each worker hangs on its own line to the main
process: whoever dies, in whatever way, the others notice at once, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, Benchmark, Purpose, SimulationError, State
from mtrepro.benchmarks.worker import (
    CLOSE,
    FAILED,
    LEFT_TO_MAIN,
    LOAD,
    RESET,
    STATE,
    STEP,
    Arrays,
    Group,
    TaskError,
)

__all__ = ["TaskError", "VectorEnvironment", "VectorStep"]

_START = (
    "import sys; from multiprocessing.connection import Connection; line = Connection(int(sys.argv[1])); "
    "sys.path[:] = line.recv(); from mtrepro.benchmarks.worker import serve; serve(line, int(sys.argv[2]))"
)
_GRACE_SECONDS = 5.0  # for a worker to free its simulators before it is killed


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
        workers: processes to step in; 0 steps in this one. More than there are tasks is as many as there are tasks.
        autoreset: start the next episode where one ended, in the same step (training). Without it (evaluation) a task
            whose episode ended stands still, its flags up, its rewards 0, until `reset`.
    """

    def __init__(self, benchmark: Benchmark, purpose: Purpose, workers: int = 0, autoreset: bool = True) -> None:
        self.benchmark = benchmark
        self.tasks = benchmark.tasks
        self._workers: list[_Worker] = []
        size, count = Arrays.size(benchmark), min(workers, len(benchmark.tasks))
        shares = np.array_split(np.arange(len(benchmark.tasks)), count or 1)
        if not count:
            self._arrays = Arrays(benchmark, bytearray(size))
            self._local: Group | None = Group(benchmark, purpose, shares[0].tolist(), autoreset, self._arrays)
            return
        self._local = None
        handle = _shared_memory(size)
        try:
            self._arrays = Arrays(benchmark, mmap.mmap(handle, size))
            for share in shares:
                order = (benchmark, purpose, share.tolist(), autoreset)
                self._workers.append(_Worker(len(self._workers), order, handle))
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
            TaskError: an environment raised another exception, or its worker died; all workers are ended.
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
        return {"tasks": [state for states in self._all(STATE) for state in states]}

    def load_state(self, state: State) -> None:
        """Continue from `state`, which may come from another number of workers."""
        states = list(state["tasks"])
        if len(states) != len(self.tasks):
            raise ValueError(f"the state holds {len(states)} tasks, the benchmark {len(self.tasks)}")
        if self._local:
            self._attempt(self._local, LOAD, states)
        for worker in self._workers:
            worker.send(LOAD, [states[task] for task in worker.tasks])
        self._replies()

    def close(self) -> None:
        """End the workers and free the simulators. A second call does nothing."""
        if self._local:
            self._local.close()
            self._local = None
        for worker in self._workers:
            worker.ask_to_close()
        self._end(_GRACE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
            self._local = None
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
        for worker in self._workers:
            worker.end(grace)
        self._workers = []


class _Worker:
    """The main process's end of one worker process."""

    def __init__(self, index: int, order: tuple[Benchmark, Purpose, list[int], bool], memory_handle: int) -> None:
        benchmark, _, self.tasks, _ = order
        self._name = f"worker process {index} (tasks {', '.join(benchmark.tasks[task] for task in self.tasks)})"
        self._line, theirs = Pipe()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # its arrays are tiny
        # Blocked until the worker ignores them: a Ctrl-C while it starts is the main process's to handle, too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_MAIN)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), str(memory_handle)],
                pass_fds=(theirs.fileno(), memory_handle),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.pid = self._process.pid
        try:
            self._line.send(sys.path)
            self._line.send(order)
        except OSError:
            pass  # it died already; `reply` says how

    def send(self, command: bytes, content: Any = None) -> None:
        """Ask for something; `reply` waits for it."""
        with contextlib.suppress(OSError):  # it died; `reply` says how
            self._line.send_bytes(command if content is None and command != RESET else command + pickle.dumps(content))

    def reply(self) -> Any:
        """What the worker answers.

        Raises:
            TaskError: an environment failed there, or the process died.
        """
        try:
            answer = self._line.recv_bytes()
        except (EOFError, OSError):
            raise TaskError(f"{self._name} {self._death()}") from None
        if answer[:1] == FAILED:
            unstable, reason, trace = pickle.loads(answer[1:])
            if unstable:
                raise SimulationError(reason)
            raise TaskError(f"{reason}\n  in {self._name}:\n{trace}")
        return pickle.loads(answer[1:]) if len(answer) > 1 else None

    def ask_to_close(self) -> None:
        """Let the worker free its simulators and leave."""
        self.send(CLOSE)

    def end(self, grace: float) -> None:
        """Wait `grace` seconds for the process to leave, then kill it."""
        self._line.close()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _death(self) -> str:
        try:
            status = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its line"
        if status < 0:
            return f"was killed by signal {signal.Signals(-status).name}; was the machine out of memory?"
        return f"ended with status {status}"


def _shared_memory(size: int) -> int:
    """A handle to memory that other processes can map; it is gone when the last of them is, however they die."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("mtrepro")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle
