"""Vector steps a second of the whole loop, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.engine.clock import Part
from mtrepro.paths import root
from mtrepro.specification import Evaluation as EvaluationSettings
from mtrepro.specification import Specification, resolve_benchmark, resolve_settings
from mtrepro.study import load_study, read_benchmark_file, read_method_file
from mtrepro.training import Evaluation, Stopped, Trainer
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds

PARTS = ("environment", "policy", "update")
_WARM = 3  # steps with an update before anything is measured
CPU = torch.device("cpu")
_FAR = 1_000_000_000  # steps: no evaluation and no end falls into what is measured


def measure(effort: Effort) -> Topic:
    """MT10 at full size with and without workers, and the demo."""
    full, small = full_size(effort), demo()
    demo_threads = demo_study().study.resources.threads
    with ExitStack() as stack:
        courses = {
            "MT10, 0 workers": Course(full, effort, effort.steps, workers=0, threads=effort.threads),
            "MT10, 2 workers": Course(full, effort, effort.steps, workers=2, threads=effort.threads),
            "demo, 0 workers": Course(small, effort, effort.demo_steps, workers=0, threads=demo_threads),
        }
        for course in courses.values():
            stack.callback(course.trainer.close)
        whole = in_turn(effort.repeats, {name: course.measure for name, course in courses.items()})
    rows = tuple(
        Row(name, "ours", "ms", whole[name], course.threads, max(course.trainer.workers, 1), course.beside(whole[name]))
        for name, course in courses.items()
    )
    notes = (
        "A vector step moves every task once and makes one update; the trainer's own loop, after the random phase.",
        "environment, policy, update: inside the loop. parts alone: the three called by themselves, in turn with the "
        "loop, and added. rest: everything else, such as storing the transitions.",
        "MT10: 400 x 3, batch 1280, 500-step episodes, none of whose resets falls into what is measured. demo: 3 "
        "tasks, 64 x 2, batch 192, whole 150-step episodes with their resets.",
    )
    return Topic("Training from end to end on the CPU", notes, rows)


class Course:
    """A trainer in its learning phase. Each measurement goes some steps on, then calls each part by itself as often."""

    def __init__(
        self,
        specification: Specification,
        effort: Effort,
        steps: int,
        workers: int,
        threads: int,
        device: torch.device = CPU,
    ) -> None:
        self.steps, self.threads, self.limit = steps, threads, effort.limit
        self.found: dict[str, list[float]] = {name: [] for name in (*PARTS, "rest", "parts alone")}
        torch.set_num_threads(threads)
        # The random phase is as short as the batch allows: it is not what is measured.
        changed = {"random_steps": effort.random_steps, "first_updates": 0}
        specification = specification.model_copy(update={"settings": specification.settings | changed})
        self.trainer = Trainer(specification, device, workers)
        none = np.zeros((len(self.trainer.tasks), 1))
        self.trainer.evaluations.append(Evaluation(0, none, none.astype(np.bool_), {}))  # so that none is due at step 0
        self._advance(1)
        self.watches = self._attach_watches()
        self._advance(effort.random_steps - 1 + _WARM)

    def measure(self) -> float:
        """Milliseconds of a whole step; the parts are noted beside."""
        torch.set_num_threads(self.threads)
        for watch in self.watches.values():
            watch.seconds = 0.0
        before, begun = self.trainer.step, time.perf_counter()
        self._advance(self.steps, self.limit)
        each = 1000 / (self.trainer.step - before)
        whole = each * (time.perf_counter() - begun)
        inside = {name: each * watch.seconds for name, watch in self.watches.items()}
        for name, value in (*inside.items(), ("rest", whole - sum(inside.values())), ("parts alone", self._alone())):
            self.found[name].append(value)
        return whole

    def beside(self, whole: list[float]) -> dict[str, list[float]]:
        """The further columns of the row."""
        columns = {f"{name}, ms": values for name, values in self.found.items()}
        speed, against = [1000 / value for value in whole], ratios(whole, self.found["parts alone"])
        return {"steps/s": speed, **columns, "whole / alone": against}

    def _alone(self) -> float:
        trainer = self.trainer
        actions = trainer.method.act(trainer.observation, trainer.tasks, True)
        calls: list[Callable[[], Any]] = [
            lambda: self._environments().step(actions),
            lambda: trainer.method.act(trainer.observation, trainer.tasks, True),
            trainer.method.learn,
        ]
        total = 1000 * sum(seconds(call, self.steps, self.limit) for call in calls)
        trainer.method.owed = 0  # the updates by themselves were not owed
        return total

    def _advance(self, steps: int, limit: float = float("inf")) -> None:
        try:
            self.trainer.run(StopAt(self.trainer.step + steps, time.perf_counter() + limit))
        except Stopped:
            return
        raise RuntimeError(f"training ended by itself: {self.trainer.diverged}")

    def _attach_watches(self) -> dict[str, Stopwatch]:
        method: Any = self.trainer.method
        environments: Any = self._environments()
        watches = {"environment": environments.step, "policy": method.act, "update": method.learn}
        attached = {name: Stopwatch(call) for name, call in watches.items()}
        environments.step, method.act, method.learn = attached.values()
        return attached

    def _environments(self) -> VectorEnvironment:
        assert self.trainer.training is not None
        return self.trainer.training


class Stopwatch:
    """A call that adds up its time."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.seconds = call, 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        answer = self.call(*arguments, **named)
        self.seconds += time.perf_counter() - begun
        return answer


class StopAt:
    """A monitor that ends the loop after a step and its update: this one, or the first after a moment."""

    def __init__(self, step: int, moment: float) -> None:
        self.step, self.moment = step, moment

    def enter(self, part: Part) -> None:
        """The stopwatches take the time."""

    def beat(self, trainer: Trainer) -> None:
        if trainer.method.owed <= trainer.may_wait() and (
            trainer.step >= self.step or time.perf_counter() > self.moment
        ):
            raise Stopped

    def beat_within_evaluation(self) -> None:
        raise AssertionError("no evaluation is due")


def demo_study() -> Any:
    """config/demo.yaml, resolved."""
    return load_study(root() / "config" / "demo.yaml")


def demo() -> Specification:
    """The first run of the demo."""
    return _endless(demo_study().runs[0].specification)


def full_size(effort: Effort, method: str = "mt_sac", **changed: Any) -> Specification:
    """A method as its file says, on MT10 as Meta-World defines it; endless unless `changed` ends it."""
    file = read_benchmark_file("mt10-v3", "make bench")
    tasks = effort.tasks if isinstance(effort.tasks, str) else list(effort.tasks)
    family, settings = resolve_benchmark({"family": file.family, **file.settings, "tasks": tasks}, "make bench")
    chosen = resolve_settings(method, read_method_file(method).settings, "make bench")
    content = {
        "schema_version": 1,
        "method": method,
        "settings": chosen.model_dump(mode="json"),
        "benchmark": {"family": family, **settings.model_dump(mode="json")},
        "seed": 1,
        "budget": _FAR,
        "evaluation": {"every": _FAR, "episodes": 1},
        "metrics_every": 500,
    }
    return Specification.model_validate(content | changed)


def _endless(specification: Specification) -> Specification:
    evaluation = EvaluationSettings(every=_FAR, episodes=1)
    return specification.model_copy(update={"budget": _FAR, "evaluation": evaluation})
