"""One Meta-World task: goals, observation, reward and episode as the settings say, around one simulator.

The simulator is made directly, without Meta-World's wrappers: those seed every task alike, ignore `reset(seed)`,
update the reward normaliser twice a step and add what the settings do not name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array, Purpose, SimulationError, State, Step, metaworld_simulators, metaworld_state
from mtrepro.benchmarks.metaworld_starts import Starts
from mtrepro.engine.streams import generator_state, load_generator_state, numpy_stream

if TYPE_CHECKING:
    from mtrepro.benchmarks.metaworld import Settings

# Hand, object 1, object 2 of the current frame, and the goal; the grip, the turns and the previous frame are left out.
COMPACT = np.r_[0:3, 4:7, 11:14, 36:39]
_LOWEST, _HIGHEST = np.full(4, -1, np.float32), np.full(4, 1, np.float32)
_AT_ONCE = 10  # new settled starts before they are put on disk


@dataclass
class RewardNormaliser:
    """Divide rewards by a running standard deviation, as mtenv does: one update a step, the mean left in.

    mean' = (1 - a) mean + a r;  variance' = (1 - a) variance + a (r - mean')^2;  r' = r / (sqrt(variance') + 1e-8)

    Meta-World's `NormalizeRewardsExponential` makes both updates twice for each step; this one does not.
    """

    mean: float = 0.0
    variance: float = 1.0
    alpha: float = field(default=0.001, repr=False)

    def __call__(self, reward: float) -> float:
        """Take in one reward and give it back normalised."""
        self.mean = (1.0 - self.alpha) * self.mean + self.alpha * reward
        self.variance = (1.0 - self.alpha) * self.variance + self.alpha * (reward - self.mean) ** 2
        return reward / (float(np.sqrt(self.variance)) + 1e-8)


def draw_goals(task: str, stream: np.random.Generator, count: int, stock: bool = False) -> NDArray[np.float64]:
    """Goals of a task, (count, size): drawn by the task's own code within its own bounds, as Meta-World draws them.

    Args:
        stream: where every random number comes from; no global generator is used.
        stock: by the package's own class, not the faster layer over it.
    """
    # What a reset draws does not depend on how the arm settles: leave out the physics, which is all of the time.
    if stock:
        simulator = metaworld_simulators.make_stock(task, "v2")
        simulator.do_simulation = lambda *_: None
    else:
        simulator = metaworld_simulators.make_fast(task, "v2")
        simulator.data.settles = False
    simulator._freeze_rand_vec, simulator.seeded_rand_vec, simulator._set_task_called = False, True, True
    simulator.np_random = stream
    goals = []
    for _ in range(count):
        simulator.reset_model()
        goals.append(np.array(simulator._last_rand_vec, dtype=np.float64))
    simulator.close()
    return np.stack(goals)


class Sawyer:
    """One Meta-World task; see the protocol `Environment`."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        task: str,
        goals: NDArray[np.float64],
        purpose: Purpose,
        stock: bool = False,
    ) -> None:
        self._settings, self._task, self._goals, self._purpose = settings, task, goals, purpose
        self._last = np.zeros(settings.observation_size, np.float32)  # what was observed before the next step
        self._fixed = int(numpy_stream(seed, "metaworld", task, "fixed goal").integers(len(goals)))
        self._stream = numpy_stream(seed, "metaworld", task, purpose, "choice of goals")
        normalised = settings.reward_normaliser == "exponential"
        self._normaliser = RewardNormaliser(alpha=settings.normaliser_rate) if normalised else None
        make = metaworld_simulators.make_stock if stock else _make_simulator
        self._simulator = make(task, settings.reward_version)
        self._pristine = metaworld_state.pristine_fields(self._simulator.model)
        self._alarms = self._simulator.data.warning.number[_alarms()]  # a view: MuJoCo counts here
        self._steps, self._running = 0, False
        self._set_goal(self._fixed)
        self._starts = None if stock else Starts(seed, task, len(goals))
        self._learned: dict[bytes, Array] = {}
        if self._starts:
            self._simulator.settling.know(self._starts.settled)

    def reset(self, episode: int | None = None) -> Array:
        """Start an episode at the fixed goal, or at goal `episode` of the 50, or at one drawn at random."""
        if self._settings.goals == "fixed":
            self._set_goal(self._fixed)
        else:
            goal = int(self._stream.integers(len(self._goals))) if episode is None else episode % len(self._goals)
            self._set_goal(goal)
        observation, _ = self._simulator.reset()
        if self._starts:
            self._learned |= self._simulator.settling.take_learned()
            if len(self._learned) >= _AT_ONCE:
                self._save_learned()
        self._steps, self._running = 0, True
        if self._unstable():
            raise SimulationError(self._complaint("while the arm settled at its start"))
        self._last = self._observe(observation)
        return self._last

    def step(self, action: Array) -> Step:
        """Move the arm.

        Raises:
            RuntimeError: the episode has ended, or none was started.
            SimulationError: the physics became unstable in training; an evaluation's episode ends there.
        """
        if not self._running:
            raise RuntimeError(f"{self._task}: no episode is running; call reset() before step()")
        clipped = np.minimum(np.maximum(np.asarray(action, dtype=np.float32), _LOWEST), _HIGHEST)
        observation, reward, _, _, info = self._simulator.step(clipped)
        self._steps += 1
        if self._unstable():
            if self._purpose == "training":
                raise SimulationError(self._complaint(f"at step {self._steps}, action {clipped.tolist()}"))
            # Measuring must not end a run: the episode is over where it broke, and has not succeeded.
            self._running = False
            return Step(self._last, 0.0, 0.0, True, False, False)
        raw = float(reward)
        shown = raw if self._normaliser is None else self._normaliser(raw)
        truncated = self._steps == self._settings.horizon
        self._running = not truncated
        self._last = self._observe(observation)
        return Step(self._last, shown, raw, False, truncated, bool(info["success"]))

    def state(self) -> State:
        """Simulator, goal, normaliser, random stream and step count."""
        return {
            "simulator": metaworld_state.take(self._simulator, self._pristine),
            "normaliser": None if self._normaliser is None else [self._normaliser.mean, self._normaliser.variance],
            "stream": generator_state(self._stream),
            "steps": self._steps,
            "running": self._running,
        }

    def load_state(self, state: State) -> None:
        """Continue from `state`."""
        metaworld_state.put(self._simulator, self._pristine, state["simulator"])
        if self._normaliser is not None:
            self._normaliser.mean, self._normaliser.variance = state["normaliser"]
        load_generator_state(self._stream, state["stream"])
        self._steps, self._running = int(state["steps"]), bool(state["running"])

    def close(self) -> None:
        """Free the simulator."""
        self._save_learned()
        self._simulator.close()

    def _save_learned(self) -> None:
        if self._starts:
            self._starts.save(settled=self._learned)
        self._learned = {}

    def _set_goal(self, index: int) -> None:
        metaworld_simulators.set_goal(self._simulator, self._task, self._goals[index])

    def _observe(self, observation: Array) -> Array:
        return (observation[COMPACT] if self._settings.observation_size == 12 else observation).astype(np.float32)

    def _unstable(self) -> bool:
        """Meta-World would report reward 0 and no success, MuJoCo would start anew by itself; both without a flag."""
        return self._simulator._did_see_sim_exception or any(self._alarms.tolist())

    def _complaint(self, when: str) -> str:
        return f"{self._task}: the physics became unstable {when} of an episode"


def _alarms() -> slice:
    """The warnings after which MuJoCo resets the simulation by itself; their numbers follow each other."""
    from mujoco import mjtWarning  # type: ignore[import-untyped]

    return slice(int(mjtWarning.mjWARN_BADQPOS), int(mjtWarning.mjWARN_BADQACC) + 1)


def _make_simulator(task: str, reward_version: str) -> Any:
    return metaworld_simulators.make_fast(task, reward_version)
