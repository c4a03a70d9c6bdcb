"""Methods: one file each. What each one gives is written down here.

A method is a module `methods/<name>.py` with

- `Settings`: a frozen pydantic model without defaults (they stand in `config/methods/<name>.yaml`), every field
  described. It may have `conflicts(budget, tasks)`, which yields (setting, reason) for what cannot work. It uses
  nothing but pydantic, typing, collections.abc and modules whose name ends in `settings`, because planning reads it
  without importing the file. A method whose runs others can learn from has `LEAVES_WEIGHTS: ClassVar[bool] = True`
  there, and a method `weights()`; one that learns from other runs has `source_conflicts(sources)`, which yields
  (key, reason) for sources that will not do, and finds what they left in `Problem.sources`;
- a class named as the file (`mt_sac` -> `MtSac`) that follows the protocol `Method` below. It may have a class method
  `together(methods)`, which takes several of its own, equal but for their seeds, and gives a `Together` that does their
  updates at once, on a CPU with the bits that each has alone, or None where it cannot: they learn one after the other.

A method that can adapt to tasks that it never trained on says so by `adapts: ClassVar[bool] = True` in its settings and
follows the protocol `Adaptive`, too; a benchmark that holds out tasks is for such methods alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from mtrepro.engine.replay import Transitions

if TYPE_CHECKING:
    from mtrepro.engine.execution import Execution
    from mtrepro.engine.records import Storage

Array = NDArray[Any]
Weights = Mapping[str, Mapping[str, torch.Tensor]]  # of a trained method: parameter group -> name in it -> tensor


class Problem(NamedTuple):
    """What a method may know of its benchmark, where it may keep what is too large for memory, how it computes."""

    task_names: tuple[str, ...]
    observation_shape: tuple[int, ...]
    observation_dtype: np.dtype[Any]
    action_size: int
    # (tasks, action_size): False where a task has no such action; rows of held-out tasks stand behind those of `tasks`
    action_mask: NDArray[np.bool_]
    horizon: int
    storage: Storage | None = None  # None: the machine's memory, and so every checkpoint
    execution: Execution | None = None  # how updates are computed; None: in fp32, one operation after the other
    sources: Mapping[str, Weights] = MappingProxyType({})  # what other runs left, by what they are to this one

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self.task_names)

    @property
    def observation_size(self) -> int:
        """Numbers in one observation."""
        return int(np.prod(self.observation_shape))


class Together(Protocol):
    """What does the updates of several seeds at once; it lives as long as the same methods are in step."""

    def learn(self) -> None:
        """Do one update of each method and take it off what each owes."""
        ...


class Method(Protocol):
    """A learning algorithm. It owns networks, optimisers, replay and random streams; it knows no files and no clock."""

    owed: int  # updates that are due; the loop calls `learn` until it is zero

    def __init__(self, settings: Any, problem: Problem, seed: int, device: torch.device) -> None: ...

    def act(
        self,
        observation: Array,
        task: Array,
        explore: bool,
        moment: int = 0,
        memory: dict[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Actions for observations (n, *shape) of tasks (n,): (n, action_size) in [-1, 1].

        With `explore` it acts in training: it may draw from the method's random streams, and what it remembers of the
        episodes is its own affair; `observe` tells it where one ends. Without, it must not change any state: what it
        must remember it writes into `memory`, which is empty at an episode's start and given again, with the same
        tasks in the same order, until the episode ends; None is the start of an episode that has no next step.
        `moment` counts the actions of one evaluation: a policy that is random by design keys its noise by it.
        """
        ...

    def observe(self, transitions: Transitions) -> None:
        """Take in one vector step and add the updates that follow from it to `owed`."""
        ...

    def learn(self) -> None:
        """Do one update and take it off `owed`."""
        ...

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call; empty where there were none."""
        ...

    def trouble(self) -> str | None:
        """Why the run has diverged, or None. Asked at fixed steps."""
        ...

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Every trained parameter under the name of its group; the contract tests watch each one move."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows: tensors, arrays, numbers and strings in dicts and lists."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        ...


@runtime_checkable
class LeavesWeights(Protocol):
    """A method whose runs others can learn from."""

    def weights(self) -> Weights:
        """Every parameter as it is now, by group and name; nothing of optimisers, replay or streams."""
        ...


class Episode(NamedTuple):
    """A whole episode of one task: T actions and T + 1 observations."""

    observation: Array  # (T + 1, *observation_shape): before the first action, and what followed each
    action: NDArray[np.float32]  # (T, action_size)
    reward: NDArray[np.float32]  # (T,): as the learner sees it
    terminated: bool  # the last action ended the task


class Adapted(Protocol):
    """What a method has become for each task after it saw some episodes; the method itself is as before."""

    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """`Method.act` without `explore`."""
        ...

    def judge(self, task: int, episode: Episode) -> dict[str, float]:
        """Metrics of an episode that it did not adapt to, by name; the same names for every task and episode."""
        ...


class Adaptive(Method, Protocol):
    """A method that adapts to tasks, trained on or held out, in an evaluation; held-out tasks come after the others."""

    adaptation_episodes: int  # how many episodes of a task it adapts to

    def gather(self, observation: Array, task: Array, moment: int, memory: dict[str, Any]) -> NDArray[np.float32]:
        """Actions that gather the episodes to adapt to. No state changes: `moment` keys the noise, as in `act`."""
        ...

    def adapt(self, episodes: Sequence[Sequence[Episode]]) -> Adapted:
        """Adapt to every task alone, given its episodes, (tasks, adaptation_episodes). No state changes."""
        ...
