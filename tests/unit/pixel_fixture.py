"""What tests of the pixel benchmarks share: one quick choice of settings for each family, and how to play."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mtrepro.benchmarks import Environment
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.paths import root

Array = NDArray[Any]
COMMON: dict[str, Any] = {"action_repeat": 2, "horizon": 12, "evaluation_episodes": 2}
CAR: dict[str, Any] = {**COMMON, "tasks": ["CarRacing-v3"], "domain_randomize": True}
WALKER: dict[str, Any] = {**COMMON, "tasks": ["Walker2d-v5"], "early_termination": False}
CASES: dict[str, dict[str, Any]] = {
    "bullet": {**COMMON, "tasks": ["HopperBulletEnv-v0"], "early_termination": False, "camera": "following"},
    "carracing": CAR,
    "dmc": {**COMMON, "tasks": ["cartpole-swingup"]},
    "mujoco": {**COMMON, "tasks": ["Ant-v5"], "early_termination": False},
    "pixels": {"parts": [{"family": "carracing", "settings": CAR}, {"family": "mujoco", "settings": WALKER}]},
    "variants": {
        **COMMON,
        "base": "HalfCheetah-v5",
        "training": [{"gravity": 0.5}],
        "held_out": [{"target_velocity": 1.0}],
        "split": "held_out",
        "early_termination": False,
    },
}


def environment(family: str, seed: int = 0, task: int = 0, purpose: Any = "training", **changed: Any) -> Any:
    """The environment of one task of a family's quick settings."""
    return load_benchmark(family, {**CASES[family], **changed}, seed).make(task, purpose)


def actions(count: int, size: int, seed: int = 0) -> Array:
    """Actions that are held for three steps, some beyond [-1, 1]: (count, size)."""
    drawn = np.random.default_rng(seed).uniform(-1.2, 1.2, size=(-(-count // 3), size)).astype(np.float32)
    return np.repeat(drawn, 3, axis=0)[:count]


def play(one: Environment, sequence: Array) -> list[bytes]:
    """What an environment gives for a sequence of actions, pictures and numbers as bytes, episode after episode."""
    given = []
    for action in sequence:
        step = one.step(action)
        given.append(step.observation.tobytes() + np.array(step[1:], dtype=np.float64).tobytes())
        if step.terminated or step.truncated:
            given.append(one.reset().tobytes())
    return given


def benchmark_file(name: str) -> dict[str, Any]:
    """The settings in config/benchmarks/<name>.yaml."""
    return dict(yaml.safe_load((root() / f"config/benchmarks/{name}.yaml").read_text())["settings"])
