"""Toy: point masses in a square, in numpy, on which the engine's tests run and an agent learns within seconds.

Task t turns every action by the angle 2 pi t / tasks, so the best action depends on the task: an agent that does not
know its task cannot steer. The point moves by 0.2 a step at most; the square is [-1, 1] x [-1, 1].

    position' = clip(position + 0.2 R_t action),  reward = 1 - |position' - goal|,  success = |position' - goal| < 0.15
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mtrepro.benchmarks import Array, Purpose, State, Step
from mtrepro.engine.streams import generator_state, load_generator_state, numpy_stream

PACKAGES = ("numpy",)
SPEED = 0.2  # length of one step in the square
NEAR = 0.15  # distance at which the goal counts as reached
PIXELS = 16  # side of the picture


class Settings(BaseModel):
    """Everything that decides what the toy benchmark does."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    tasks: int = Field(3, ge=1, le=64, description="number of tasks; each turns the actions by its own angle")
    kind: Literal["state", "pixels"] = Field("state", description="observe four numbers, or a 16 x 16 colour picture")
    horizon: int = Field(20, ge=1, description="steps of an episode at most")
    goals: Literal["fixed", "random"] = Field("random", description="one goal per task and seed, or one each episode")
    goal_visible: bool = Field(True, description="whether the observation shows the goal")
    padded_action: bool = Field(False, description="the last task moves on a line: it has no second action")
    terminates: bool = Field(False, description="whether reaching the goal ends the episode")
    evaluation_episodes: int = Field(5, ge=1, description="episodes per task at each evaluation")

    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(f"toy-{index}" for index in range(self.tasks))


class Benchmark:
    """The toy benchmark; see the protocol in `benchmarks/__init__.py`."""

    stock = False  # there is one simulator only

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks = settings.task_names()
        pixels = settings.kind == "pixels"
        self.observation_shape: tuple[int, ...] = (PIXELS, PIXELS, 3) if pixels else (4,)
        self.observation_dtype: np.dtype[Any] = np.dtype(np.uint8 if pixels else np.float32)
        self.action_size = 2
        self.action_mask: NDArray[np.bool_] = np.ones((settings.tasks, 2), dtype=np.bool_)
        if settings.padded_action:
            self.action_mask[-1, 1] = False
        self.horizon = settings.horizon
        self.evaluation_episodes = settings.evaluation_episodes

    def check(self) -> None:
        """Nothing to compare."""

    def make(self, task: int, purpose: Purpose) -> PointMass:
        """The environment of one task."""
        angle = 2 * np.pi * task / len(self.tasks)
        on_a_line = not bool(self.action_mask[task, 1])
        return PointMass(self.settings, self.seed, self.tasks[task], angle, on_a_line, purpose)


class PointMass:
    """One toy task; see the protocol `Environment`."""

    def __init__(
        self, settings: Settings, seed: int, name: str, angle: float, on_a_line: bool, purpose: Purpose
    ) -> None:
        self._settings, self._seed, self._name, self._on_a_line = settings, seed, name, on_a_line
        cosine, sine = np.cos(angle), np.sin(angle)
        self._axes = np.array([[cosine, sine], [-sine, cosine]])  # row i: where action i pushes
        self._stream = numpy_stream(seed, "toy", name, purpose)
        self._fixed_goal = self._place(numpy_stream(seed, "toy", name, "goal"))
        self._position, self._goal = np.zeros(2), self._fixed_goal
        self._steps, self._running = 0, False

    def reset(self, episode: int | None = None) -> Array:
        """Start an episode from a random place; start k is the same each time it is asked for."""
        stream = self._stream if episode is None else numpy_stream(self._seed, "toy", self._name, "start", episode)
        self._position = self._place(stream)
        self._goal = self._place(stream) if self._settings.goals == "random" else self._fixed_goal
        self._steps, self._running = 0, True
        return self._observe()

    def step(self, action: Array) -> Step:
        """Move the point.

        Raises:
            RuntimeError: the episode has ended, or none was started.
        """
        if not self._running:
            raise RuntimeError(f"{self._name}: no episode is running; call reset() before step()")
        push = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        along = push[0] * self._axes[0] + (0.0 if self._on_a_line else push[1] * self._axes[1])
        self._position = np.clip(self._position + SPEED * along, -1.0, 1.0)
        self._steps += 1
        away = self._position - self._goal
        distance = float(np.sqrt(away[0] * away[0] + away[1] * away[1]))
        success = distance < NEAR
        terminated = success and self._settings.terminates
        truncated = not terminated and self._steps == self._settings.horizon
        self._running = not (terminated or truncated)
        return Step(self._observe(), 1.0 - distance, 1.0 - distance, terminated, truncated, success)

    def state(self) -> State:
        """Position, goal, step count and random stream."""
        return {
            "position": self._position.copy(),
            "goal": self._goal.copy(),
            "steps": self._steps,
            "running": self._running,
            "stream": generator_state(self._stream),
        }

    def load_state(self, state: State) -> None:
        """Continue from `state`."""
        self._position, self._goal = np.array(state["position"]), np.array(state["goal"])
        self._steps, self._running = int(state["steps"]), bool(state["running"])
        load_generator_state(self._stream, state["stream"])

    def close(self) -> None:
        """Nothing to free."""

    def _place(self, stream: np.random.Generator) -> NDArray[np.float64]:
        """A random place that the task can reach: in the square, or on the line of its only action."""
        place = stream.uniform(-0.9, 0.9, size=2)
        return place[0] * self._axes[0] if self._on_a_line else place

    def _observe(self) -> Array:
        shown = self._goal if self._settings.goal_visible else np.zeros(2)
        if self._settings.kind == "state":
            return np.concatenate([self._position, shown]).astype(np.float32)
        picture = np.zeros((PIXELS, PIXELS, 3), dtype=np.uint8)
        picture[:, :, 0] = _blob(self._position)
        if self._settings.goal_visible:
            picture[:, :, 1] = _blob(self._goal)
        return picture


def _blob(place: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A soft spot (PIXELS, PIXELS) around a place in the square; soft, so that less than a pixel's move shows."""
    centre = (place + 1.0) * 0.5 * (PIXELS - 1)
    row, column = (np.maximum(0.0, 1.0 - np.abs(np.arange(PIXELS) - c) / 2.0) for c in centre)
    blob: NDArray[np.uint8] = np.rint(255.0 * row[:, None] * column[None, :]).astype(np.uint8)
    return blob
