"""One task seen as pictures: repeated actions, episodes, and a state that is restored by replaying the episode.

Bullet's solver cache and Box2D's contacts cannot be saved, and MuJoCo's positions lag one substep behind its joints. So
a state is how the episode began and every action since: another simulator is reset with the same seed and takes them
all, without drawing. It is exact wherever the simulator is a function of seed and actions; tests show that of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, Purpose, SimulationError, State, Step
from mtrepro.benchmarks.pixels_settings import SIDE, PixelSettings
from mtrepro.engine.streams import generator_state, load_generator_state, numpy_stream
from mtrepro.errors import StateError

SEEDS = 2**31 - 1  # what every simulator takes as a seed


class Moved(NamedTuple):
    """What a simulator gives for one action of one environment step."""

    reward: float
    terminated: bool
    success: bool = False


class Simulator(Protocol):
    """One simulated task. What follows `reset(seed)` depends on the seed and the actions alone."""

    low: NDArray[np.float32]  # (actions,): what -1 stands for
    high: NDArray[np.float32]  # (actions,): what 1 stands for

    def reset(self, seed: int) -> None:
        """Begin an episode that depends on nothing that was before."""
        ...

    def step(self, action: Array) -> Moved:
        """One environment step by an action (actions,) between `low` and `high`.

        Raises:
            SimulationError: the physics became unstable.
        """
        ...

    def picture(self) -> NDArray[np.uint8]:
        """(SIDE, SIDE, 3): what the camera sees now. Drawing changes nothing of what follows."""
        ...

    def numbers(self) -> Array:
        """The state of the physics in some numbers, for golden trajectories: pictures differ between renderers."""
        ...

    def drawn_with(self) -> str:
        """What draws; a run that goes on elsewhere must find the same, or its pictures have other bits."""
        ...

    def close(self) -> None: ...


class PixelEnvironment:
    """One task; see the protocol `Environment`.

    Args:
        make: makes the simulator, at the first reset.
        names: seed, family and task, which name the random streams.
    """

    def __init__(
        self, make: Callable[[], Simulator], settings: PixelSettings, names: tuple[int, str, str], purpose: Purpose
    ) -> None:
        self._make, self._settings, self._purpose = make, settings, purpose
        self._names, self._task = names, names[-1]
        self._stream = numpy_stream(*self._names, purpose, "starts")
        self._simulator: Simulator | None = None
        self._start: int | None = None  # the seed of the episode
        self._taken: list[Array] = []
        self._running = False
        self._last: Array = np.zeros((SIDE, SIDE, 3), np.uint8)
        self.draws = True  # a golden trajectory keeps numbers: then nothing is drawn, and no GL is needed

    def reset(self, episode: int | None = None) -> Array:
        """Start an episode: start k of the protocol, or one drawn at random."""
        stream = self._stream if episode is None else numpy_stream(*self._names, "start", episode)
        self._begin(int(stream.integers(SEEDS)))
        return self._see()

    def step(self, action: Array) -> Step:
        """Hold an action for `action_repeat` environment steps; what pads it is ignored.

        Raises:
            RuntimeError: the episode has ended, or none was started.
            SimulationError: the physics became unstable in training; an evaluation's episode ends there.
        """
        if not self._running:
            raise RuntimeError(f"{self._task}: no episode is running; call reset() before step()")
        own = np.array(action[: len(self._simulated().low)], dtype=np.float32)
        self._taken.append(own)
        try:
            reward, terminated, success = self._advance(own)
        except SimulationError as error:
            if self._purpose == "training":
                raise SimulationError(f"{self._task}: {error} at agent step {len(self._taken)}") from None
            self._running = False  # measuring must not end a run: the episode is over where it broke
            return Step(self._last, 0.0, 0.0, True, False, False)
        truncated = not terminated and len(self._taken) == self._settings.horizon
        self._running = not (terminated or truncated)
        return Step(self._see(), reward, reward, terminated, truncated, success)

    def numbers(self) -> Array:
        """The state of the physics in some numbers, float32."""
        return self._simulated().numbers().astype(np.float32)

    def state(self) -> State:
        """The random stream; of a running episode its seed and the actions taken."""
        return {
            "stream": generator_state(self._stream),
            "start": self._start if self._running else None,
            "actions": np.array(self._taken if self._running else [], dtype=np.float32),
            "drawn_with": self._simulated().drawn_with() if self._running and self.draws else None,
        }

    def load_state(self, state: State) -> None:
        """Continue from `state`: replay the episode in a simulator that begins anew.

        Raises:
            StateError: it was drawn by another renderer, whose pictures have other bits.
        """
        load_generator_state(self._stream, state["stream"])
        self._running = False
        if state["start"] is None:
            return
        here = self._simulated().drawn_with()
        if state["drawn_with"] not in (None, here):
            raise StateError(
                f"{self._task}: the run drew its pictures with {state['drawn_with']}; here it is {here}, whose "
                "pictures have other bits\n  continue where it began, or with the same image and MUJOCO_GL"
            )
        self._begin(int(state["start"]))
        for own in np.asarray(state["actions"], dtype=np.float32):
            self._taken.append(own)
            self._advance(own)
        self._last = self._see()

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None
        self._running = False

    def _begin(self, seed: int) -> None:
        self._simulated().reset(seed)
        self._start, self._taken, self._running = seed, [], True

    def _advance(self, own: Array) -> tuple[float, bool, bool]:
        """Sum of rewards; whether the episode ended; whether it succeeded at one of the environment steps."""
        simulator = self._simulated()
        centre, reach = (simulator.high + simulator.low) / 2, (simulator.high - simulator.low) / 2
        scaled = centre + reach * np.clip(own, -1.0, 1.0)
        total, success = 0.0, False
        for _ in range(self._settings.action_repeat):
            moved = simulator.step(scaled)
            total += moved.reward
            success |= moved.success
            if moved.terminated and self._settings.ends_early:
                return total, True, success
        return total, False, success

    def _see(self) -> Array:
        if self.draws:
            self._last = self._simulated().picture()
        return self._last

    def _simulated(self) -> Simulator:
        if self._simulator is None:
            self._simulator = self._make()
        return self._simulator


class PixelBenchmark(ABC):
    """What the pixel families' benchmarks share; see the protocol in `benchmarks/__init__.py`."""

    stock = False  # there is one simulator only
    family: str

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks: tuple[str, ...] = settings.task_names()
        self.observation_shape: tuple[int, ...] = (SIDE, SIDE, 3)
        self.observation_dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.action_mask: NDArray[np.bool_] = padded_mask([self.actions(task) for task in self.tasks])
        self.action_size: int = self.action_mask.shape[1]
        self.horizon: int = settings.horizon
        self.evaluation_episodes: int = settings.evaluation_episodes

    @abstractmethod
    def actions(self, task: str) -> int:
        """How many actions a task takes."""

    @abstractmethod
    def simulator(self, task: str) -> Simulator:
        """A simulator of a task."""

    def make(self, task: int, purpose: Purpose) -> PixelEnvironment:
        """The environment of one task. Training and evaluation share nothing."""
        name = self.tasks[task]
        return PixelEnvironment(partial(self.simulator, name), self.settings, (self.seed, self.family, name), purpose)

    def check(self) -> None:
        """See that what simulates and draws is there, before the first step.

        Raises:
            MissingError: a package or a GL library is missing; says which, and how to get it.
        """
        simulator = self.simulator(self.tasks[0])
        simulator.drawn_with()
        simulator.close()


def padded_mask(counts: Sequence[int]) -> NDArray[np.bool_]:
    """The action mask (tasks, most actions) of tasks that take so many actions each."""
    mask: NDArray[np.bool_] = np.arange(max(counts)) < np.array(counts)[:, None]
    return mask
