"""The one loop: act, observe, learn, evaluate. It knows no method by name, no file and no clock.

    while steps are left:   learn what is owed -> evaluate if due -> act -> step the environments -> observe

Several seeds of one arm may go through it in step, so that a method can do their updates at once; nothing passes
between them. On a CPU each has the bits that it has alone, whoever is beside it.

Between any two of these the monitor may save the trainer's whole state or stop it; what it answers never changes a
result. With stale policies the last owed update is computed while the environments move, by what the policy was before:

    while steps are left:   learn what is owed but one -> evaluate if due -> act -> step the environments and learn the
                            one, side by side -> observe
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import SimulationError
from mtrepro.benchmarks.held_out import training_part
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.vector import VectorEnvironment, VectorStep
from mtrepro.engine.execution import execution
from mtrepro.engine.replay import Transitions
from mtrepro.episodes import RunningEpisodes
from mtrepro.evaluating import Evaluation, Evaluator
from mtrepro.methods import Method, Problem
from mtrepro.methods._loading import make_method
from mtrepro.updates import Updates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mtrepro.engine.clock import Part
    from mtrepro.engine.records import Storage
    from mtrepro.methods import Weights
    from mtrepro.specification import Specification

TROUBLE_EVERY = 100  # vector steps between two looks at the method's health; fixed, so that equal runs stop alike


class Stopped(Exception):
    """The monitor asked the loop to end here; the trainer's state can be saved and continued."""


class _ActionsNotFiniteError(Exception):
    """The policy broke between two looks at the method's health; no simulator must see its actions."""


class Monitor(Protocol):
    """Looks on: saves when it must, raises `Stopped` when it should, and may take the time of each part."""

    def enter(self, part: Part) -> None:
        """Called where a part of the work begins, and so the one before it ends."""
        ...

    def beat(self, trainer: Trainer) -> None:
        """Called between any two moments at which the state is whole."""
        ...

    def beat_within_evaluation(self) -> None:
        """Called at each step of an evaluation, which is repeated from its start if it is stopped."""
        ...


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
        sources: Mapping[str, Weights] | None = None,
    ) -> None:
        self.specification = specification
        learner = specification.learner
        self.execution = execution(learner.precision, learner.compile, device, say)
        settings = dict(specification.benchmark)
        self.benchmark = load_benchmark(settings.pop("family"), settings, specification.seed, stock)
        self.trained = training_part(self.benchmark)
        self.tasks = np.arange(len(self.trained.tasks))
        problem = Problem(
            tuple(self.trained.tasks), self.benchmark.observation_shape, self.benchmark.observation_dtype,
            self.benchmark.action_size, self.benchmark.action_mask, self.benchmark.horizon, storage, self.execution,
            sources or {},
        )  # fmt: skip
        self.method: Method = make_method(
            specification.method, specification.settings, problem, specification.seed, device
        )
        self.workers = workers
        self.training: VectorEnvironment | None = None  # made when the first step is taken
        self.evaluating: Evaluator | None = None  # made when it is first asked
        self.beside: ThreadPoolExecutor | None = None  # steps the environments while the method learns
        self.step = 0
        self.observation: Any = None  # (tasks, *shape): what to act on next
        self.episodes = RunningEpisodes(len(self.tasks))
        self.evaluations: list[Evaluation] = []
        self.rows: list[TrainingRow] = []
        self.diverged: str | None = None
        self._through = False

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self._through or self.diverged is not None

    @property
    def progress(self) -> tuple[int, int]:
        """Of two runs of one arm the one with the smaller progress is behind."""
        return self.step, -self.method.owed

    def run(self, monitor: Monitor) -> None:
        """Train to the budget, or until the method diverges (`diverged` then says why).

        Raises:
            Stopped: the monitor asked for it.
        """
        train_in_step([self], [monitor])

    def go_on(self, monitor: Monitor) -> None:
        """From the last update that was owed to the next vector step, or to the end."""
        try:
            monitor.enter("metrics")
            self._note_training()
            if self.diverged is None and self._evaluation_due():
                self.evaluations.append(self._evaluate(monitor))
                monitor.beat(self)
            if self.diverged or self.step >= self.specification.budget:
                self._through = True
                return
            self._advance(monitor)
            monitor.beat(self)
        except _ActionsNotFiniteError:
            self.diverged = "the policy's actions are not finite"
        except SimulationError as error:
            self.diverged = str(error)
            self.training = None  # it has ended itself; the state is whole without it

    def _advance(self, monitor: Monitor) -> None:
        """One vector step: the environment of every task that is trained on moves once."""
        if self.training is None:
            monitor.enter("start-up")
            self.training = VectorEnvironment(self.trained, "training", self.workers)
            self.observation = self.training.reset()
        monitor.enter("policy")
        actions = self.method.act(self.observation, self.tasks, explore=True)
        if not np.isfinite(actions).all():
            raise _ActionsNotFiniteError
        moved = self._move(self.training, actions, monitor)
        monitor.enter("replay")
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

    def _move(self, environments: VectorEnvironment, actions: NDArray[np.float32], monitor: Monitor) -> VectorStep:
        """Step the environments, and compute meanwhile what is still owed: they share nothing, no bit depends on it."""
        if not self.method.owed:
            monitor.enter("environment")
            return environments.step(actions)
        monitor.enter("update")
        self.beside = self.beside or ThreadPoolExecutor(1, "environments")
        moving = self.beside.submit(environments.step, actions)
        try:
            self.method.learn()
        finally:
            monitor.enter("environment")  # as far as it takes longer than the update
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
        """Measure the policy as it is now, in environments that training never sees."""
        if self.evaluating is None:
            monitor.enter("start-up")
            its = self.specification
            self.evaluating = Evaluator(self.benchmark, self.method, its.seed, its.evaluation.episodes, self.workers)
        monitor.enter("evaluation")
        return self.evaluating.evaluate(self.step, monitor.beat_within_evaluation)

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
            "evaluations": [evaluation._asdict() for evaluation in self.evaluations],
            "rows": [tuple(row) for row in self.rows],
            "diverged": self.diverged,
            "execution": self.execution.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.step, self.observation, self.diverged = state["step"], state["observation"], state["diverged"]
        self._through = False
        self.method.load_state(state["method"])
        self.execution.load_state(state["execution"])
        if state["training"] is not None:
            self.training = VectorEnvironment(self.trained, "training", self.workers)
            self.training.load_state(state["training"])
        self.episodes.load_state(state["episodes"])
        self.evaluations = [Evaluation(**evaluation) for evaluation in state["evaluations"]]
        self.rows = [TrainingRow(*row) for row in state["rows"]]

    def close(self) -> None:
        """End the environments and their workers."""
        if self.beside is not None:
            self.beside.shutdown()
        for environments in (self.training, self.evaluating):
            if environments is not None:
                environments.close()


def train_in_step(trainers: Sequence[Trainer], monitors: Sequence[Monitor]) -> None:
    """Train runs of one arm to their ends, each with its monitor; one that is over leaves the others to go on.

    Those that are furthest behind go on first: runs that were saved at different steps are soon in step again.

    Raises:
        Stopped: a monitor asked for it; every trainer's state is whole.
    """
    # with stale policies each does most updates by itself
    learn = Updates(apart=any(trainer.specification.learner.stale_policy for trainer in trainers))
    while running := [
        (trainer, monitor) for trainer, monitor in zip(trainers, monitors, strict=True) if not trainer.over
    ]:
        last = min(trainer.progress for trainer, _ in running)
        behind = [(trainer, monitor) for trainer, monitor in running if trainer.progress == last]
        first, its_monitor = behind[0]
        if first.method.owed > first.may_wait():
            its_monitor.enter("update")
            learn([trainer.method for trainer, _ in behind])
            for trainer, monitor in behind:
                monitor.beat(trainer)
        else:
            for trainer, monitor in behind:
                trainer.go_on(monitor)
