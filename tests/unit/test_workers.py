"""Worker processes: no way to die that hangs or leaks, and messages that are looked for before anybody sleeps."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.vector import TaskError, VectorEnvironment
from mtrepro.benchmarks.worker import Bell
from tests.unit.vector_fixture import FEW_OR_MANY, TOY, actions, have_cores, record


def dead(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds. One that only waits to be collected has ended."""
    status = Path(f"/proc/{pid}/stat")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


FAILING = """
import numpy as np
from mtrepro.benchmarks import Step
class Task:
    def __init__(self, name): self.name, self.steps = name, 0
    def reset(self, episode=None): return np.zeros(1, np.float32)
    def step(self, action):
        self.steps += 1
        if self.name == "bad" and self.steps == 3: raise ZeroDivisionError("no friction")
        return Step(np.zeros(1, np.float32), 0.0, 0.0, False, False, False)
    def state(self): return {}
    def load_state(self, state): pass
    def close(self): pass
class Failing:
    tasks, observation_shape, observation_dtype = ("good", "bad", "fine"), (1,), np.dtype(np.float32)
    action_size, action_mask, horizon, evaluation_episodes = 1, np.ones((3, 1), bool), 9, 1
    def make(self, task, purpose): return Task(self.tasks[task])
"""


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_failing_environment_is_named_and_ends_all_workers(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_family.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    import failing_family  # type: ignore[import-not-found]

    environment = VectorEnvironment(failing_family.Failing(), "training", workers)
    pids = environment.worker_pids
    environment.reset()
    with pytest.raises(TaskError, match=r"^task 'bad' \(training environment\): ZeroDivisionError: no friction"):
        record(environment, np.zeros((5, 3, 1), np.float32))
    assert all(dead(pid) for pid in pids)
    with pytest.raises(RuntimeError, match="closed"):
        environment.step(np.zeros((3, 1), np.float32))


@FEW_OR_MANY
def test_a_killed_worker_is_an_error_that_names_its_tasks_and_the_signal(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_cores(monkeypatch, cores)
    benchmark = load_benchmark("toy", TOY, 0)
    environment = VectorEnvironment(benchmark, "training", 2)
    environment.reset()
    pids = environment.worker_pids
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(TaskError, match=r"worker process 1 \(tasks toy-2\) was killed by signal SIGKILL"):
        record(environment, actions(benchmark, 5))
    assert all(dead(pid) for pid in pids)


def test_a_bell_counts_what_was_sent_and_is_not_waited_for_beyond_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    count = np.zeros(1, np.uint64)
    rung, heard = Bell(count, 5), Bell(count, 5)

    def looks() -> int:
        before = next(clock)
        heard.listen()
        return next(clock) - before - 1

    rung.ring()
    rung.ring()
    assert (looks(), looks()) == (1, 1)  # both were sent before
    assert looks() == 6
    found: list[int] = []
    beside = threading.Thread(target=lambda: found.append(looks()))
    beside.start()
    beside.join()
    assert found == [0]  # nor beside another thread
    rung.ring()
    rung.ring()  # what was waited for in vain and then read from the line; it is not taken for the next
    assert looks() == 6


def test_workers_leave_signals_to_the_main_process() -> None:
    benchmark = load_benchmark("toy", TOY, 0)
    with VectorEnvironment(benchmark, "training", 2) as environment:
        environment.reset()
        for pid in environment.worker_pids:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                os.kill(pid, number)
        record(environment, actions(benchmark, 5))


def test_workers_die_with_a_main_process_that_was_killed() -> None:
    program = (
        "from mtrepro.benchmarks.loading import load_benchmark\n"
        "from mtrepro.benchmarks.vector import VectorEnvironment\n"
        "import sys, time\n"
        "environment = VectorEnvironment(load_benchmark('toy', {}, 0), 'training', 2)\n"
        "print(*environment.worker_pids, flush=True)\n"
        "time.sleep(60)\n"
    )  # no `if __name__` guard: workers must not run the main program again
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    ) as main:
        assert main.stdout is not None
        pids = [int(word) for word in main.stdout.readline().split()]
        main.kill()
    assert len(pids) == 2 and all(dead(pid) for pid in pids)


def test_closing_leaves_no_process_and_no_handle_behind() -> None:
    benchmark = load_benchmark("toy", TOY, 0)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(2):
        environment = VectorEnvironment(benchmark, "training", 2)
        environment.reset()
        pids = environment.worker_pids
        environment.close()
        environment.close()  # a second time does nothing
        assert all(dead(pid, 0.1) for pid in pids)
        del environment  # and with it the memory's handle
    assert sorted(os.listdir("/proc/self/fd")) == before
