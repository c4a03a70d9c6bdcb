"""Benchmarks: one file a family. What each family gives is written down here.

A family is a module `benchmarks/<family>.py` with

- `PACKAGES`: the installed distributions whose versions its results depend on, as a tuple of names;
- `Settings`: a frozen pydantic model, every field described, which rejects impossible combinations and fills in what a
  protocol implies; it has `task_names()` and `evaluation_episodes`, which planning reads without making a benchmark;
- `Benchmark(settings, seed)`: see the protocol below. Where steps of its tasks cost unlike time it may have `costs`,
  one number for each task, by which they are shared out to worker processes. Where tasks are held out of training it
  has `held_out`, a tuple of their names, which are the last of `tasks`; `Settings` then has `held_out_tasks()`, which
  gives the same.

Importing a family is cheap: simulators are imported when the first environment is made, so that planning is quick.
No list of families is kept: `config/benchmarks/<name>.yaml` names the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Purpose = Literal["training", "evaluation"]
State = Mapping[str, Any]  # nested dicts and lists of numbers, strings, None and numpy arrays; nothing else


class SimulationError(RuntimeError):
    """The physics became unstable, and the simulator would go on from a state that nothing led to: a diverged run."""


class Step(NamedTuple):
    """What one environment gives for one action."""

    observation: Array  # observation_shape: float32, or uint8 for pixels; the true one that followed the action
    reward: float  # as the learner should see it (a protocol may normalise it)
    raw_reward: float  # as the task gives it; returns are sums of this one
    terminated: bool  # the task ended: no bootstrap
    truncated: bool  # the horizon was reached: bootstrap
    success: bool  # the task's own flag at this very step


class Environment(Protocol):
    """One task. Deterministic in (seed, task, purpose) and the actions; never touches a global random generator."""

    def reset(self, episode: int | None = None) -> Array:
        """Start an episode. `episode` k in evaluation: start k of the protocol, the same each time (None: the next
        one drawn from the environment's own random stream, which is training)."""
        ...

    def step(self, action: Array) -> Step:
        """Advance by one action, float32 (action_size,), each in [-1, 1]; the environment clips."""
        ...

    def state(self) -> State:
        """Everything that decides what follows: simulator, goal, normaliser, random generator, step count."""
        ...

    def load_state(self, state: State) -> None:
        """Continue from `state`, bit for bit, in an environment made with the same arguments, also mid-episode."""
        ...

    def close(self) -> None: ...


class Benchmark(Protocol):
    """A set of tasks and the protocol that measures them."""

    tasks: tuple[str, ...]
    observation_shape: tuple[int, ...]  # of one task; the same for all
    observation_dtype: np.dtype[Any]
    action_size: int  # of the widest task
    action_mask: NDArray[np.bool_]  # (tasks, action_size): False where a task has no such action
    horizon: int  # steps of an episode at most
    evaluation_episodes: int  # how many episodes per task the protocol asks for
    stock: bool  # make the simulator's own environments, not faster ones with the same bits; set before the first

    def check(self) -> None:
        """Called once before a run's first step: see that faster environments still equal the simulator's own.

        Raises:
            FastSimulatorError: they do not, with what is installed here.
        """
        ...

    def make(self, task: int, purpose: Purpose) -> Environment:
        """Make the environment of task `task` (an index into `tasks`)."""
        ...
