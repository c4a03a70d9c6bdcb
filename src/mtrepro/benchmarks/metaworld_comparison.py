"""Whether the faster layer still is what it stands for: looked at where a run starts, before its first step.

The layer was written for the functions of one version. Where another version is installed, what it replaces may say
something else now: first their texts are compared with those that it was written from, then every task's first steps
are made by both, and all numbers must be the same, bit for bit.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks.metaworld_simulators import make_fast, make_stock, set_goal
from mtrepro.errors import FastSimulatorError

STEPS = 3
ADVICE = "train with --simulator stock, which is slower and needs nothing of this, or install the locked versions"
# What the layer replaces, as it was read: a digest of each function's text.
READ = {
    "SawyerXYZEnv.step": "42574d779e01",
    "SawyerXYZEnv.set_xyz_action": "0fc19d095c6b",
    "SawyerXYZEnv._set_pos_site": "82529403ebb9",
    "SawyerXYZEnv.touching_object": "b8e2c6f38fd9",
    "SawyerXYZEnv._get_pos_goal": "55aaccfc30e8",
    "SawyerXYZEnv._get_curr_obs_combined_no_goal": "8c45967bdc72",
    "SawyerXYZEnv._get_obs": "6fb5a24d0a07",
    "SawyerXYZEnv.reset": "6e8ce1bf9066",
    "SawyerXYZEnv._reset_hand": "edaeaf591dc9",
    "SawyerXYZEnv.get_endeff_pos": "7adff0ffe301",
    "SawyerMocapBase.tcp_center": "6dadb9f0cff4",
    "MujocoEnv.do_simulation": "e74c4bf660b0",
    "MujocoEnv._step_mujoco_simulation": "04a7e4f3d926",
    "MujocoEnv._initialize_simulation": "a3d4970250f9",
    "MujocoEnv.reset": "3ebd72aa270c",
    "reward_utils.tolerance": "6a4d52642ce1",
    "reward_utils._sigmoids": "beccb2487a84",
}


def compare_texts() -> None:
    """See that what the layer replaces is what it was made from.

    Raises:
        FastSimulatorError: a function has changed; names it.
    """
    for name, text in texts():
        if digest(text) != READ[name]:
            raise FastSimulatorError(
                f"{_versions()}: {name} is not what the faster simulator was made from\n  {ADVICE}"
            )


def compare_steps(task: str, goal: NDArray[np.float64], reward_version: str) -> None:
    """Make a reset and the first steps of a task in both simulators.

    Args:
        goal: (size,), one of the task's.

    Raises:
        FastSimulatorError: a number differs in any bit; names it.
    """
    fast, stock = (_play(make(task, reward_version), task, goal) for make in (make_fast, make_stock))
    for count, (ours, theirs) in enumerate(zip(fast, stock, strict=True)):
        for name in theirs:
            if ours[name].tobytes() != theirs[name].tobytes():
                when = f"after step {count}" if count else "after the reset"
                raise FastSimulatorError(
                    f"{_versions()}: the faster simulator differs from the package's own in {task}, {when}:\n"
                    f"  {name} is {ours[name]}, not {theirs[name]}\n  {ADVICE}"
                )


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every function whose work the layer does in another way."""
    from gymnasium.envs.mujoco import MujocoEnv
    from metaworld.sawyer_xyz_env import SawyerMocapBase, SawyerXYZEnv
    from metaworld.utils import reward_utils

    base = (
        "step set_xyz_action _set_pos_site touching_object _get_pos_goal _get_curr_obs_combined_no_goal _get_obs reset "
        "_reset_hand get_endeff_pos"
    )
    for name in base.split():
        yield f"SawyerXYZEnv.{name}", inspect.getsource(_plain(getattr(SawyerXYZEnv, name)))
    yield "SawyerMocapBase.tcp_center", inspect.getsource(vars(SawyerMocapBase)["tcp_center"].fget)
    for name in ("do_simulation", "_step_mujoco_simulation", "_initialize_simulation", "reset"):
        yield f"MujocoEnv.{name}", inspect.getsource(getattr(MujocoEnv, name))
    for name in ("tolerance", "_sigmoids"):
        yield f"reward_utils.{name}", inspect.getsource(getattr(reward_utils, name))


def digest(text: str) -> str:
    """A short fingerprint of a function's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(function: Any) -> Any:
    """A function without the decorator that asks for a task first."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return cells["func"].cell_contents if "func" in cells else function


def _play(simulator: Any, task: str, goal: NDArray[np.float64]) -> list[dict[str, NDArray[Any]]]:
    """Everything that a simulator gives for a reset and some random actions, by name."""
    set_goal(simulator, task, goal)
    moments = [{"the observation": simulator.reset()[0]}]
    for action in np.random.default_rng(0).uniform(-1, 1, (STEPS, 4)).astype(np.float32):
        observation, reward, _, _, info = simulator.step(action)
        numbers = {"the reward": reward, **{f"info[{name!r}]": value for name, value in info.items()}}
        moments.append({"the observation": observation, **{name: np.array(numbers[name], float) for name in numbers}})
    simulator.close()
    return moments


def _versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("metaworld", "mujoco", "gymnasium"))
