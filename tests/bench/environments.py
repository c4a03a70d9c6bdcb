"""Environment steps a second: ours, the package's own, stock Gymnasium's, and the physics alone as the limit.

All step the same tasks by the same random actions, whole episodes from their reset to the reset after them.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
ALONE = "ours, one process"
STOCK = "stock simulators, one process"
SYNC = "gym sync, one process"
ASYNC = "gym async, a process a task"
PEERS = {"stock": STOCK, "sync": SYNC, "async": ASYNC}
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class System(NamedTuple):
    """Something that steps all tasks."""

    step: Callable[[NDArray[np.float32]], object]
    warm: Callable[[], object]  # visit every start once
    close: Callable[[], None]


def measure(effort: Effort) -> Topic:
    """Steps a second for each length of episodes."""
    torch.set_num_threads(1)
    measured = [_measure(effort, horizon, repeats) for horizon, repeats in effort.episodes]
    notes = (
        "Environment steps of all tasks together, by the steps of an episode; protocol v3, a random goal at each "
        "reset; resets are counted in.",
        "Ours: two processes are the trainer and one worker. Every start was visited once before, as in any long run; "
        "a first visit costs about 2 ms of settling more, or less where an earlier process kept it; `goals` is the "
        "time of all first visits together.",
        "Stock: Meta-World's own classes in our loop; gym: `gym.make_vec` of what it registers (39 numbers, no "
        "one-hot), with its wrappers; seeded when made, because its `reset(seed)` is ignored.",
        "Physics alone: the recorded controls of one episode again, five `mj_step` and one `mj_forward` each, no "
        "resets or rewards, one process. The share is of this rate times the cores that can work; where other programs "
        "keep them busy, shares of several processes are too low.",
        *(parts for _, parts in measured),
    )
    return Topic("Environment steps, MT10, random actions", notes, tuple(row for rows, _ in measured for row in rows))


def _measure(effort: Effort, horizon: int, repeats: int) -> tuple[list[Row], str]:
    """The rows of one length of episodes, and where a step's time goes, in words."""
    benchmark = _benchmark(effort, horizon)
    tasks, cores = len(benchmark.tasks), os.cpu_count() or 1
    actions = np.random.default_rng(SEED).uniform(-1, 1, (horizon, tasks, 4)).astype(np.float32)
    with ExitStack() as stack:
        systems, starting, warming = {}, {}, {}
        for name, make, _ in _candidates(effort, horizon, tasks):
            begun = time.perf_counter()
            systems[name] = make()
            stack.callback(systems[name].close)
            starting[name] = [time.perf_counter() - begun]
            warming[name] = [seconds(systems[name].warm)]
        measurements: dict[str, Callable[[], float]] = {
            name: partial(_speed, system, actions) for name, system in systems.items()
        }
        recorded = [Recording(benchmark, task, actions[:, task]) for task in range(tasks)]
        for recording in recorded:
            stack.callback(recording.close)
        measurements[PHYSICS] = lambda: tasks * horizon / sum(seconds(each.replay) for each in recorded)
        measurements["step"] = lambda: sum(seconds(each.play) for each in recorded) / tasks / horizon
        measurements["reset"] = lambda: sum(seconds(each.reset) for each in recorded) / tasks / horizon
        found = in_turn(repeats, measurements)
    head, unit, rows = f"{horizon}: ", "steps/s", []
    for name, _, processes in _candidates(effort, horizon, tasks):
        beside = {
            "% of physics": ratios(found[name], found[PHYSICS], 100 / min(processes, cores)),
            **{f"x {other}": ratios(found[name], found[key]) for other, key in PEERS.items()},
            "start, s": starting[name],
        }
        if not name.startswith("gym"):
            beside["goals, s"] = warming[name]
        role: Any = "ours" if name.startswith("ours") else "peer"
        rows.append(Row(head + name, role, unit, found[name], 1, processes, beside))
    beside = {f"x {other}": ratios(found[PHYSICS], found[key]) for other, key in PEERS.items()}
    rows.append(Row(head + PHYSICS, "limit", unit, found[PHYSICS], 1, 1, beside))
    return rows, _parts(horizon, found)


def _parts(horizon: int, found: Mapping[str, Sequence[float]]) -> str:
    """Where the time of one process goes, in words: medians, each the rest of what holds it."""
    whole, physics = (1e6 / statistics.median(found[name]) for name in (ALONE, PHYSICS))
    step, reset = (1e6 * statistics.median(found[name]) for name in ("step", "reset"))
    return (
        f"{horizon}-step episodes, {ALONE}: a step takes {whole:.0f} microseconds; of them the physics {physics:.0f}, "
        f"the task's reward and observation {step - physics:.0f}, resets {reset:.1f}, the loop from task to task "
        f"{whole - step - reset:.0f}."
    )


def _candidates(effort: Effort, horizon: int, tasks: int) -> Iterator[tuple[str, Callable[[], System], int]]:
    """Name, how to make it, and the processes that step."""
    yield STOCK, partial(_ours, effort, horizon, 0, stock=True), 1
    yield ALONE, partial(_ours, effort, horizon, 0), 1
    yield "ours, two processes", partial(_ours, effort, horizon, 1), min(2, tasks)
    yield "ours, three processes", partial(_ours, effort, horizon, 2), min(3, tasks)
    yield SYNC, partial(_stock, effort, horizon, "sync"), 1
    yield ASYNC, partial(_stock, effort, horizon, "async"), tasks


def _speed(system: System, actions: NDArray[np.float32]) -> float:
    """Steps a second over an episode, whose last step resets every task."""
    remaining = iter(actions)
    return int(actions.shape[1]) / seconds(lambda: system.step(next(remaining)), len(actions))


def _benchmark(effort: Effort, horizon: int) -> Benchmark:
    tasks = effort.tasks if isinstance(effort.tasks, str) else list(effort.tasks)
    made = load_benchmark("metaworld", {"tasks": tasks, "protocol": "v3", "horizon": horizon}, SEED)
    assert isinstance(made, Benchmark)
    return made


def _ours(effort: Effort, horizon: int, workers: int, stock: bool = False) -> System:
    benchmark = _benchmark(effort, horizon)
    benchmark.stock = stock
    environments = VectorEnvironment(benchmark, "training", workers)
    environments.reset()

    def warm() -> None:
        for goal in range(1 if stock else benchmark.settings.goal_count):
            environments.reset(goal)

    return System(environments.step, warm, environments.close)


def _stock(effort: Effort, horizon: int, strategy: str) -> System:
    conditions: dict[str, Any] = {"seed": SEED, "max_episode_steps": horizon}
    name = f"Meta-World/{effort.tasks}"
    if not isinstance(effort.tasks, str):
        name, conditions["envs_list"] = "Meta-World/custom-mt-envs", list(effort.tasks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's, on the precision of bounds
        environments = gymnasium.make_vec(name, vector_strategy=strategy, **conditions)
        environments.reset()
    return System(environments.step, lambda: None, environments.close)


class Recording:
    """The controls of one episode of one task, to send its physics through the same motion again."""

    def __init__(self, benchmark: Benchmark, task: int, actions: NDArray[np.float32]) -> None:
        self._environment = benchmark.make(task, "training")
        self._environment.reset()
        simulator: Any = self._environment._simulator
        self._model, self._data = simulator.model, simulator.data
        self._skip = simulator.frame_skip
        self.first, self._actions = self.state(), actions
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

    def play(self) -> None:
        """The same steps again, with observation and reward; from where the last `replay` ended."""
        simulator: Any = self._environment._simulator
        simulator.curr_path_length = 0
        mujoco.mj_setState(self._model, self._data, self.first, _STATE)
        for action in self._actions:
            simulator.step(action)

    def reset(self) -> None:
        """One start that was visited before."""
        simulator: Any = self._environment._simulator
        simulator.reset()

    def state(self) -> NDArray[np.float64]:
        """Everything that the physics goes on from."""
        state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, state, _STATE)
        return state

    def close(self) -> None:
        """Free the simulator."""
        self._environment.close()
