"""The one loop: act, observe, learn, evaluate. It knows no method by name, no file and no clock.

    while steps are left:   learn what is owed -> evaluate if due -> act -> step the environments -> observe

Between any two of these the monitor may save the trainer's whole state or stop it; what it answers never changes a
result. With stale policies the last owed update is computed while the environments move, by what the policy was before:

    while steps are left:   learn what is owed but one -> evaluate if due -> act -> step the environments and learn the
                            one, side by side -> observe
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import SimulationError
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.vector import VectorEnvironment, VectorStep
from mtrepro.engine.execution import execution
from mtrepro.engine.replay import Transitions
from mtrepro.methods import Method, Problem
from mtrepro.methods._loading import make_method

if TYPE_CHECKING:
    import torch

    from mtrepro.engine.records import Storage
    from mtrepro.specification import Specification

TROUBLE_EVERY = 100  # vector steps between two looks at the method's health; fixed, so that equal runs stop alike


class Stopped(Exception):
    """The monitor asked the loop to end here; the trainer's state can be saved and continued."""


class _ActionsNotFiniteError(Exception):
    """The policy broke between two looks at the method's health; no simulator must see its actions."""


class Monitor(Protocol):
    """Looks on: saves when it must, raises `Stopped` when it should."""

    def beat(self, trainer: Trainer) -> None:
        """Called between any two moments at which the state is whole."""
        ...

    def beat_within_evaluation(self) -> None:
        """Called at each step of an evaluation, which is repeated from its start if it is stopped."""
        ...


class Evaluation(NamedTuple):
    """What the policy earned at one moment."""

    step: int
    returns: NDArray[np.float64]  # (tasks, episodes), sums of raw rewards
    success: NDArray[np.bool_]  # (tasks, episodes), true at any time in the episode


class TrainingRow(NamedTuple):
    """One line of training.csv; an empty task means all of them."""

    step: int
    task: str
    metric: str
    value: float


class Trainer:
    """A run in progress. Its state is whole whenever the monitor is called."""

    def __init__(
        self,
        specification: Specification,
        device: torch.device,
        workers: int = 0,
        stock: bool = False,
        storage: Storage | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.specification = specification
        learner = specification.learner
        self.execution = execution(learner.precision, learner.compile, device, say)
        settings = dict(specification.benchmark)
        self.benchmark = load_benchmark(settings.pop("family"), settings, specification.seed, stock)
        self.tasks = np.arange(len(self.benchmark.tasks))
        problem = Problem(
            tuple(self.benchmark.tasks), self.benchmark.observation_shape, self.benchmark.observation_dtype,
            self.benchmark.action_size, self.benchmark.action_mask, self.benchmark.horizon, storage, self.execution,
        )  # fmt: skip
        self.method: Method = make_method(
            specification.method, specification.settings, problem, specification.seed, device
        )
        self.workers = workers
        self.training: VectorEnvironment | None = None  # made when the first step is taken
        self.evaluating: VectorEnvironment | None = None
        self.beside: ThreadPoolExecutor | None = None  # steps the environments while the method learns
        self.untouched: Any = None  # the evaluation environments' state before their first episode
        self.step = 0
        self.observation: Any = None  # (tasks, *shape): what to act on next
        self.episodes = _RunningEpisodes(len(self.benchmark.tasks))
        self.evaluations: list[Evaluation] = []
        self.rows: list[TrainingRow] = []
        self.diverged: str | None = None

    def run(self, monitor: Monitor) -> None:
        """Train to the budget, or until the method diverges (`diverged` then says why).

        Raises:
            Stopped: the monitor asked for it.
        """
        try:
            while self.diverged is None:
                while self.method.owed > self.may_wait():
                    self.method.learn()
                    monitor.beat(self)
                self._note_training()
                if self.diverged is None and self._evaluation_due():
                    self.evaluations.append(self._evaluate(monitor))
                    monitor.beat(self)
                if self.diverged or self.step >= self.specification.budget:
                    return
                self._advance()
                monitor.beat(self)
        except _ActionsNotFiniteError:
            self.diverged = "the policy's actions are not finite"
        except SimulationError as error:
            self.diverged = str(error)

    def _advance(self) -> None:
        """One vector step: every task's environment moves once."""
        if self.training is None:
            self.training = VectorEnvironment(self.benchmark, "training", self.workers)
            self.observation = self.training.reset()
        actions = self.method.act(self.observation, self.tasks, explore=True)
        if not np.isfinite(actions).all():
            raise _ActionsNotFiniteError
        moved = self._move(self.training, actions)
        reward = moved.reward.astype(np.float32)
        self.method.observe(
            Transitions(self.observation, actions, reward, moved.next_observation, moved.terminated, moved.truncated)
        )
        self.observation = moved.observation
        self.episodes.add(moved.raw_reward, moved.success, moved.terminated | moved.truncated)
        self.step += 1

    def may_wait(self) -> int:
        """Updates that may wait for the environments' next step, to be computed beside it."""
        return int(self.specification.learner.stale_policy and self.step < self.specification.budget)

    def _move(self, environments: VectorEnvironment, actions: NDArray[np.float32]) -> VectorStep:
        """Step the environments, and compute meanwhile what is still owed: they share nothing, no bit depends on it."""
        if not self.method.owed:
            return environments.step(actions)
        self.beside = self.beside or ThreadPoolExecutor(1, "environments")
        moving = self.beside.submit(environments.step, actions)
        try:
            self.method.learn()
        finally:
            wait([moving])
        return moving.result()

    def _note_training(self) -> None:
        """Look at the method's health and write the training metrics where they are due; once for each step."""
        if self.rows and self.rows[-1].step == self.step:
            return
        due = self.step > 0 and self.step % self.specification.metrics_every == 0
        if due or self.step % TROUBLE_EVERY == 0 or self.step >= self.specification.budget:
            self.diverged = self.method.trouble()
        if due:
            self.rows += [TrainingRow(self.step, "", name, value) for name, value in self.method.metrics().items()]
            for index, values in self.episodes.take():
                task = self.benchmark.tasks[index]
                self.rows += [TrainingRow(self.step, task, name, value) for name, value in values.items()]
            self.rows.append(TrainingRow(self.step, "", "transitions", float(self.step * len(self.tasks))))

    def _evaluation_due(self) -> bool:
        if self.evaluations and self.evaluations[-1].step == self.step:
            return False
        return self.step >= self.specification.budget or self.step % self.specification.evaluation.every == 0

    def _evaluate(self, monitor: Monitor) -> Evaluation:
        """Measure the policy without noise: a function of the policy alone, whenever and however often it is asked."""
        if self.evaluating is None:
            self.evaluating = VectorEnvironment(self.benchmark, "evaluation", self.workers, autoreset=False)
            self.untouched = self.evaluating.state()
        self.evaluating.load_state(self.untouched)
        episodes = self.specification.evaluation.episodes
        returns = np.zeros((len(self.tasks), episodes))
        success = np.zeros((len(self.tasks), episodes), np.bool_)
        for episode in range(episodes):
            observation = self.evaluating.reset(episode)
            running, memory = np.ones(len(self.tasks), np.bool_), dict[str, Any]()
            for moment in itertools.count(episode * self.benchmark.horizon):
                actions = self.method.act(observation, self.tasks, explore=False, moment=moment, memory=memory)
                # A broken policy stands still here. That the run has diverged is training's to find: else it would
                # depend on when it is evaluated.
                moved = self.evaluating.step(np.nan_to_num(actions))
                returns[:, episode] += np.where(running, moved.raw_reward, 0.0)
                success[:, episode] |= running & moved.success
                running &= ~(moved.terminated | moved.truncated)
                observation = moved.observation
                monitor.beat_within_evaluation()
                if not running.any():
                    break
        return Evaluation(self.step, returns, success)

    def latest_success(self) -> float | None:
        """Mean success over tasks and episodes of the last evaluation, for the progress line."""
        return float(self.evaluations[-1].success.mean()) if self.evaluations else None

    def state(self) -> dict[str, Any]:
        """Everything that decides what follows and everything the result files will hold."""
        return {
            "step": self.step,
            "observation": self.observation,
            "method": self.method.state(),
            "training": self.training.state() if self.training else None,
            "episodes": self.episodes.state(),
            "evaluations": [{"step": e.step, "returns": e.returns, "success": e.success} for e in self.evaluations],
            "rows": [tuple(row) for row in self.rows],
            "diverged": self.diverged,
            "execution": self.execution.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.step, self.observation, self.diverged = state["step"], state["observation"], state["diverged"]
        self.method.load_state(state["method"])
        self.execution.load_state(state["execution"])
        if state["training"] is not None:
            self.training = VectorEnvironment(self.benchmark, "training", self.workers)
            self.training.load_state(state["training"])
        self.episodes.load_state(state["episodes"])
        self.evaluations = [Evaluation(e["step"], e["returns"], e["success"]) for e in state["evaluations"]]
        self.rows = [TrainingRow(*row) for row in state["rows"]]

    def close(self) -> None:
        """End the environments and their workers."""
        if self.beside is not None:
            self.beside.shutdown()
        for environments in (self.training, self.evaluating):
            if environments is not None:
                environments.close()


class _RunningEpisodes:
    """Return and success of the training episodes that ended since the last look, for each task."""

    def __init__(self, tasks: int) -> None:
        self.running = np.zeros((2, tasks))  # return and success of the episode under way
        self.ended = np.zeros((3, tasks))  # sums of return and success, and the count, of ended episodes

    def add(self, reward: NDArray[np.float64], success: NDArray[np.bool_], end: NDArray[np.bool_]) -> None:
        """Add one vector step."""
        self.running[0] += reward
        self.running[1] = np.maximum(self.running[1], success)
        self.ended[:2, end] += self.running[:, end]
        self.ended[2, end] += 1
        self.running[:, end] = 0

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Mean return and success by task index, of the tasks in which an episode ended."""
        done = [
            (int(index), {"return": float(total / count), "success": float(wins / count)})
            for index, (total, wins, count) in enumerate(self.ended.T)
            if count
        ]
        self.ended[:] = 0
        return done

    def state(self) -> dict[str, Any]:
        """Everything."""
        return {"running": self.running, "ended": self.ended}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.running[:], self.ended[:] = state["running"], state["ended"]
