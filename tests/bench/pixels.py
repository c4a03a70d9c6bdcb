"""Agent steps a second of the pixel benchmarks, beside the same simulators drawn by the environment's own renderer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mtrepro.benchmarks import bullet_simulator, pixels_gl
from mtrepro.benchmarks.loading import load_benchmark, load_family
from mtrepro.benchmarks.pixels_settings import SIDE
from mtrepro.study import read_benchmark_file
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds

# Of each file in config/benchmarks/, the tasks that are measured. The pair is its two parts one after the other.
MEASURED = {
    "mujoco-pixels": ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"),
    "bullet-sources-4": ("HopperBulletEnv-v0", "AntBulletEnv-v0"),
    "bullet-halfcheetah": ("HalfCheetahBulletEnv-v0",),
    "carracing": ("CarRacing-v3",),
    "variants-halfcheetah": ("HalfCheetah-v5-gravity-0.5",),
    "dmc-pixels": ("walker-walk",),
}
OURS, OWN = "ours", "own renderer"
SECONDS = 1.0  # that one measurement may take: some renderers give 20 pictures a second
Play = Callable[[], object]


def measure(effort: Effort) -> Topic:
    """Ours and the environment's own renderer in turn, one process."""
    pixels_gl.find_backend()
    measurements: dict[str, Callable[[], float]] = {}
    closes: list[Play] = []
    for name, tasks in MEASURED.items():
        for task in tasks:
            for label, make in ((OURS, _ours), (OWN, _own)):
                step, close = make(name, task)
                closes.append(close)
                step()  # what is made at first use is made
                measurements[f"{task}, {label}"] = partial(_rate, step, 3 * effort.steps)
    found = in_turn(effort.repeats, measurements)
    for close in closes:
        close()
    rows = []
    for tasks in MEASURED.values():
        for task in tasks:
            ours, own = found[f"{task}, {OURS}"], found[f"{task}, {OWN}"]
            rows.append(Row(f"{task}, {OURS}", "ours", "agent steps/s", ours, 1, 1, {"x own": ratios(ours, own)}))
            rows.append(Row(f"{task}, {OWN}", "peer", "agent steps/s", own, 1))
    notes = (
        f"Agent steps of one task, random actions: two steps of the environment, one picture of {SIDE} x {SIDE}; one "
        "process beside what GL and other programs use; no reset is counted.",
        "Own renderer: Gymnasium's for MuJoCo and DeepMind Control, at the same size, with the models' shadows, "
        "reflections and multisampling; the package's `render()` for PyBullet, which is 320 x 240 and always so; "
        "CarRacing draws 96 x 96 in each step by itself.",
        f"GL: {pixels_gl.renderer(SIDE)}.",
    )
    return Topic("Agent steps from pixels", notes, tuple(rows))


def _rate(step: Play, times: int) -> float:
    return 1 / seconds(step, times, SECONDS)


def _ours(name: str, task: str) -> tuple[Play, Play]:
    """An agent step of our environment, and how to free it."""
    file = read_benchmark_file(name, "")
    benchmark = load_benchmark(file.family, file.settings, 0)
    environment = benchmark.make(benchmark.tasks.index(task), "training")
    environment.reset()
    draw, actions = np.random.default_rng(0), benchmark.action_size

    def step() -> None:
        given = environment.step(draw.uniform(-1, 1, actions).astype(np.float32))
        if given.terminated or given.truncated:
            environment.reset()

    return step, environment.close


def _own(name: str, task: str) -> tuple[Play, Play]:
    """The same step of the bare simulator, drawn as its package draws it, and how to free it."""
    file = read_benchmark_file(name, "")
    settings = load_family(file.family).Settings.model_validate(file.settings)
    simulator: Any = load_family(file.family).Benchmark(settings, 0).simulator(task)
    simulator.reset(0)
    draw, actions = np.random.default_rng(0), len(simulator.low)
    if file.family == "bullet":
        with bullet_simulator._silenced():
            simulator._environment.render_mode = "rgb_array"
        see: Play = simulator._environment.render
    elif file.family == "carracing":
        del simulator._environment._render  # the environment draws in each step again
        see = _nothing
    else:
        see = _gymnasiums(simulator)

    def step() -> None:
        for _ in range(2):
            simulator.step(draw.uniform(simulator.low, simulator.high, actions).astype(np.float32))
        see()

    return step, simulator.close


def _nothing() -> None:
    """What draws in its step draws no more."""


def _gymnasiums(simulator: Any) -> Play:
    """Gymnasium's renderer of a MuJoCo model, as it is: nothing is left out."""
    from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer

    if hasattr(simulator, "environment"):
        model, data = simulator.environment.model, simulator.environment.data
    else:
        physics = simulator._environment.physics
        model, data = physics.model.ptr, physics.data.ptr
    viewer = OffScreenViewer(model, data, SIDE, SIDE)

    def see() -> None:
        viewer.make_context_current()  # ours is current, too, from time to time
        viewer.render("rgb_array", camera_id=0)

    return see
