"""The main process's end of one worker process: start it, ask it, end it, and say how it died."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from multiprocessing import Pipe
from typing import Any

from mtrepro.benchmarks import Benchmark, Purpose, SimulationError
from mtrepro.benchmarks.worker import CLOSE, FAILED, LEFT_TO_MAIN, RESET, Arrays, Bell, TaskError, WorkerDiedError

_START = (
    "import sys; from multiprocessing.connection import Connection; line = Connection(int(sys.argv[1])); "
    "sys.path[:] = line.recv(); from mtrepro.benchmarks.worker import serve; serve(line, int(sys.argv[2]))"
)
GRACE_SECONDS = 5.0  # for a worker to free its simulators before it is killed


class Worker:
    """One worker process.

    Args:
        patience: seconds that either end looks for what the other sends before it sleeps.
    """

    def __init__(
        self,
        index: int,
        order: tuple[Benchmark, Purpose, list[int], bool],
        memory_handle: int,
        arrays: Arrays,
        patience: float,
    ) -> None:
        benchmark, _, self.tasks, _ = order
        self._asked, self._answered = (Bell(count, patience) for count in arrays.bells[index])
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
            self._line.send((*order, index, patience))
        except OSError:
            pass  # it died already; `reply` says how

    def send(self, command: bytes, content: Any = None) -> None:
        """Ask for something; `reply` waits for it."""
        with contextlib.suppress(OSError):  # it died; `reply` says how
            self._line.send_bytes(command if content is None and command != RESET else command + pickle.dumps(content))
            self._asked.ring()

    def reply(self) -> Any:
        """What the worker answers.

        Raises:
            TaskError: an environment failed there.
            WorkerDiedError: the process died.
            SimulationError: the physics of a task became unstable.
        """
        self._answered.listen()
        try:
            answer = self._line.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDiedError(f"{self._name} {self._death()}") from None
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
            status = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its line"
        if status < 0:
            return f"was killed by signal {signal.Signals(-status).name}; was the machine out of memory?"
        return f"ended with status {status}"
