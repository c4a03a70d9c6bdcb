"""Play a golden trajectory: reset, seeded actions, every number that the environment gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Environment, SimulationError
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.engine.processes import changed_environment
from mtrepro.engine.streams import numpy_stream

HELD = 5  # steps for which an action is held: drawn anew at each step, actions cancel out and the arm hardly moves
# glibc's functions then round otherwise in the last bit, as on a processor without fused multiply-add. The second pair
# of names is that of glibc before 2.33; each ignores the other's, and other C libraries ignore both.
OTHER_BITS = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable"}
OUTCOME = ("number of steps", "reward", "raw reward", "terminated", "truncated", "success")  # of a row, as float64


@dataclass(frozen=True)
class Trajectory:
    """What a task gave: one row for each reset and each step.

    Shapes: observation (rows, *observation_shape), float32 or uint8; outcome (rows, 6) float64, see `OUTCOME`. The
    row of a reset has an outcome of zeros but for the number of steps taken before it.
    """

    observation: NDArray[Any]
    outcome: NDArray[np.float64]

    def digest(self) -> str:
        """SHA-256 of every byte."""
        head = f"{self.observation.dtype.str} {self.observation.shape}".encode()
        return hashlib.sha256(head + self.observation.tobytes() + self.outcome.tobytes()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A trajectory to play: a task of one variant of a family."""

    family: str
    variant: str
    settings: Mapping[str, Any]  # resolved
    index: int
    task: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Variant and task, for messages and as a key."""
        return f"{self.variant}/{self.task}"


def play(job: Job) -> Trajectory:
    """Play one trajectory in a training environment; the next episode follows the end of one.

    Raises:
        SimulationError: the physics became unstable.
    """
    benchmark = load_benchmark(job.family, job.settings, job.seed)
    stream = numpy_stream(job.seed, "golden", job.family, job.task)  # the same actions in each variant
    environment = benchmark.make(job.index, "training")
    try:
        return _record(environment, benchmark.action_size, stream, job.steps)
    finally:
        environment.close()


def play_all(
    jobs: Sequence[Job], workers: int, environment: Mapping[str, str] | None = None
) -> Iterator[Trajectory | str]:
    """The trajectories of `jobs`, in their order; in the place of one that failed, the reason in words.

    Args:
        workers: processes to play in; with 1 this one plays.
        environment: variables for the processes that play, which are then others than this one.
    """
    if environment is None and (workers <= 1 or len(jobs) <= 1):
        yield from map(play_or_reason, jobs)
        return
    with changed_environment(environment or {}):
        yield from _play_elsewhere(jobs, workers)


def _play_elsewhere(jobs: Sequence[Job], workers: int) -> Iterator[Trajectory | str]:
    # Spawned: a process forked from one that holds torch's threads may hang.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(play_or_reason, job) for job in jobs]:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield "the process that played it died; was the machine out of memory?"


def play_or_reason(job: Job) -> Trajectory | str:
    """The trajectory of `job`, or why there is none."""
    try:
        return play(job)
    except SimulationError as error:
        return str(error)
    except Exception as error:  # a changed simulator may fail in any way; its task must be named all the same
        return f"{type(error).__name__}: {error}"


def _record(environment: Environment, actions: int, stream: np.random.Generator, steps: int) -> Trajectory:
    see = _what_is_kept(environment)
    observations, outcomes = [see(environment.reset())], [(0.0,) * len(OUTCOME)]
    action = np.zeros(actions, np.float32)
    for step in range(steps):
        if step % HELD == 0:
            action = stream.uniform(-1.0, 1.0, size=actions).astype(np.float32)
        given = environment.step(action.copy())
        observations.append(see(given.observation))
        flags = float(given.terminated), float(given.truncated), float(given.success)
        outcomes.append((step + 1.0, float(given.reward), float(given.raw_reward), *flags))
        if given.terminated or given.truncated:
            observations.append(see(environment.reset()))
            outcomes.append((step + 1.0, *(0.0,) * (len(OUTCOME) - 1)))
    return Trajectory(np.stack(observations), np.array(outcomes, dtype=np.float64))


def _what_is_kept(environment: Environment) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What a row keeps of an observation: itself, or the numbers of a simulated task whose pictures a renderer draws.

    Another driver draws other pixels of the same physics, and without GL there is none.
    """
    numbers = getattr(environment, "numbers", None)
    if numbers is None:
        return lambda observation: observation.copy()
    environment.draws = False  # type: ignore[attr-defined]
    return lambda observation: np.array(numbers())
