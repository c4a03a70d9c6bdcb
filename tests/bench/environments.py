"""Environment steps a second: ours, stock Gymnasium's, and the physics alone as the limit.

All step the same tasks by the same random actions, whole episodes from their reset to the reset after them.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import metaworld  # noqa: F401 - registers the stock environments
import mujoco  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray

from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.metaworld import Benchmark
from mtrepro.benchmarks.vector import VectorEnvironment
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds

SEED = 1
PHYSICS = "physics alone"
SYNC = "gym.make_vec sync"
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class System(NamedTuple):
    """Something that steps all tasks."""

    step: Callable[[NDArray[np.float32]], object]
    close: Callable[[], None]


def measure(effort: Effort) -> Topic:
    """Steps a second for each length of episodes."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for horizon, repeats in effort.episodes:
        rows += _rows(effort, horizon, repeats)
    notes = (
        "Environment steps of all tasks together; protocol v3, a random goal at each reset; resets are counted in.",
        "Stock: as Meta-World registers it (39 numbers, no one-hot), with its wrappers; seeded when made, because its "
        "`reset(seed)` is ignored.",
        "Physics alone: the recorded controls of one episode again, five `mj_step` and one `mj_forward` each, no "
        "resets or rewards, one process. The share is of this rate times the cores that can work; where other programs "
        "keep them busy, shares of several processes are too low.",
    )
    return Topic("Environment steps, MT10, random actions", notes, tuple(rows))


def _rows(effort: Effort, horizon: int, repeats: int) -> Iterator[Row]:
    benchmark = _benchmark(effort, horizon)
    tasks, cores = len(benchmark.tasks), os.cpu_count() or 1
    actions = np.random.default_rng(SEED).uniform(-1, 1, (horizon, tasks, 4)).astype(np.float32)
    with ExitStack() as stack:
        systems, starting = {}, {}
        for name, make, _ in _candidates(effort, horizon, tasks):
            begun = time.perf_counter()
            systems[name] = make()
            starting[name] = [time.perf_counter() - begun]
            stack.callback(systems[name].close)
        measurements: dict[str, Callable[[], float]] = {
            name: partial(_speed, system, actions) for name, system in systems.items()
        }
        recorded = [Recording(benchmark, task, actions[:, task]) for task in range(tasks)]
        for recording in recorded:
            stack.callback(recording.close)
        measurements[PHYSICS] = lambda: tasks * horizon / sum(seconds(each.replay) for each in recorded)
        speeds = in_turn(repeats, measurements)
    head, unit = f"{horizon}-step episodes: ", "steps/s"
    for name, _, processes in _candidates(effort, horizon, tasks):
        beside = {
            "% of physics": ratios(speeds[name], speeds[PHYSICS], 100 / min(processes, cores)),
            "x sync": ratios(speeds[name], speeds[SYNC]),
            "start, s": starting[name],
        }
        role: Any = "peer" if name.startswith("gym") else "ours"
        yield Row(head + name, role, unit, speeds[name], 1, processes, beside)
    yield Row(head + PHYSICS, "limit", unit, speeds[PHYSICS], 1, 1, {"x sync": ratios(speeds[PHYSICS], speeds[SYNC])})


def _candidates(effort: Effort, horizon: int, tasks: int) -> Iterator[tuple[str, Callable[[], System], int]]:
    """Name, how to make it, and the processes that step."""
    for workers in (0, 1, 2):
        name = f"ours, {workers} worker{'s' * (workers != 1)}"
        yield name, partial(_ours, effort, horizon, workers), min(max(workers, 1), tasks)
    yield SYNC, partial(_stock, effort, horizon, "sync"), 1
    yield "gym.make_vec async", partial(_stock, effort, horizon, "async"), tasks


def _speed(system: System, actions: NDArray[np.float32]) -> float:
    """Steps a second over an episode, whose last step resets every task."""
    remaining = iter(actions)
    return int(actions.shape[1]) / seconds(lambda: system.step(next(remaining)), len(actions))


def _benchmark(effort: Effort, horizon: int) -> Benchmark:
    tasks = effort.tasks if isinstance(effort.tasks, str) else list(effort.tasks)
    made = load_benchmark("metaworld", {"tasks": tasks, "protocol": "v3", "horizon": horizon}, SEED)
    assert isinstance(made, Benchmark)
    return made


def _ours(effort: Effort, horizon: int, workers: int) -> System:
    environments = VectorEnvironment(_benchmark(effort, horizon), "training", workers)
    environments.reset()
    return System(environments.step, environments.close)


def _stock(effort: Effort, horizon: int, strategy: str) -> System:
    conditions: dict[str, Any] = {"seed": SEED, "max_episode_steps": horizon}
    name = f"Meta-World/{effort.tasks}"
    if not isinstance(effort.tasks, str):
        name, conditions["envs_list"] = "Meta-World/custom-mt-envs", list(effort.tasks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's, on the precision of bounds
        environments = gymnasium.make_vec(name, vector_strategy=strategy, **conditions)
        environments.reset()
    return System(environments.step, environments.close)


class Recording:
    """The controls of one episode of one task, to send its physics through the same motion again."""

    def __init__(self, benchmark: Benchmark, task: int, actions: NDArray[np.float32]) -> None:
        self._environment = benchmark.make(task, "training")
        self._environment.reset()
        simulator: Any = self._environment._simulator
        self._model, self._data = simulator.model, simulator.data
        self._skip = simulator.frame_skip
        self.first = self.state()
        self._controls = []
        for action in actions:
            self._environment.step(action)
            data = self._data
            self._controls.append((data.mocap_pos.copy(), data.mocap_quat.copy(), data.ctrl.copy()))
        self.last = self.state()

    def replay(self) -> None:
        """The same physics, and nothing else."""
        model, data = self._model, self._data
        mujoco.mj_setState(model, data, self.first, _STATE)
        for place, turn, control in self._controls:
            data.mocap_pos[:], data.mocap_quat[:], data.ctrl[:] = place, turn, control
            mujoco.mj_step(model, data, self._skip)
            mujoco.mj_forward(model, data)

    def state(self) -> NDArray[np.float64]:
        """Everything that the physics goes on from."""
        state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, state, _STATE)
        return state

    def close(self) -> None:
        """Free the simulator."""
        self._environment.close()
