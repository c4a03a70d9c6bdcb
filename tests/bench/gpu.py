"""How fast it is on this machine's GPU: `make bench-gpu`. Prints and writes results/bench/gpu*.json; judges no time."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtrepro.engine.clock import Part
from mtrepro.engine.compilation import CudaGraphs, Recorder
from mtrepro.engine.execution import Execution, be_deterministic
from mtrepro.paths import root, shown
from mtrepro.specification import Evaluation, Learner
from mtrepro.training import Trainer
from mtrepro.updates import Updates
from tests.bench.agreement import UPDATES, distance
from tests.bench.dreamer import ARMS as DREAMERS
from tests.bench.dreamer import make_arm
from tests.bench.family import ARMS
from tests.bench.measuring import FULL, QUICK, Effort, Row, Topic, in_turn, ratios, record, seconds, write
from tests.bench.showing import show
from tests.bench.training import Course, full_size
from tests.bench.update import make_method

SEEDS = (1, 8)
CORES = 16
CARE_STEPS = 100_000
NO_GPU = 69  # the exit status where there is nothing to measure
MakeRecorder = Callable[[], Recorder]


def measure_updates(
    effort: Effort, device: torch.device, recorder: MakeRecorder, arms: Sequence[str] = (), **changed: Any
) -> Topic:
    """Updates a second of every method, eager and recorded, of one seed and of eight in one process, all in turn."""
    makers = {name: partial(_make_actor_critic, effort, device, name, changed) for name in ARMS}
    makers |= {f"Dreamer, {name}": partial(make_arm, name, device) for name in DREAMERS}
    rows: list[Row] = []
    for name, make in makers.items():
        if not arms or name in arms:
            rows += _rows_of(name, make, effort, recorder)
    notes = (
        "MT10, 39 numbers, batch 1280 of all tasks, default settings, fp32; Dreamer: 64 x 64 pictures. Eight seeds: "
        "eight agents in one process, one update each, counted together: mapped over the seeds, or in turn. "
        "x one seed: updates a second of eight beside those of one.",
        f"apart: largest distance of a group of parameters after {UPDATES} recorded updates from the eager ones, in % "
        "of the way that the eager ones went; nothing where recording failed, and the row's updates are then eager.",
    )
    return Topic(f"Updates on {_name(device)}", notes, tuple(rows))


def measure_training(effort: Effort, device: torch.device, workers: Sequence[int] = (0, CORES - 1)) -> Topic:
    """Vector steps of MT-SAC end to end: without and with workers, serial and with policies one update old."""
    arrangements = {
        f"{words}, {count} workers": (Learner(stale_policy=stale), count)
        for stale, words in ((False, "serial"), (True, "stale policy"))
        for count in workers
    }
    with ExitStack() as stack:
        courses = {}
        for name, (learner, count) in arrangements.items():
            specification = full_size(effort, learner=learner)
            courses[name] = Course(specification, effort, effort.steps, count, effort.threads, device)
            stack.callback(courses[name].trainer.close)
        whole = in_turn(effort.repeats, {name: course.measure for name, course in courses.items()})
    rows = tuple(
        Row(name, "ours", "ms", whole[name], course.threads, course.trainer.workers + 1, course.beside(whole[name]))
        for name, course in courses.items()
    )
    notes = (
        "A vector step of MT-SAC, 400 x 3, batch 1280: every task moves once, one update.",
        "processes: as many as have tasks.",
        "A GPU computes while the program goes on: `update` is the time to ask for one, `policy` holds the wait.",
    )
    return Topic(f"Training from end to end on {_name(device)}", notes, rows)


def measure_care(effort: Effort, device: torch.device, steps: int | None = None, evaluations: int = 5) -> Topic:
    """A complete MT10 run of CARE, evaluations and all."""
    steps = steps or (CARE_STEPS if effort.name == "full" else CARE_STEPS // 50)
    evaluation = Evaluation(every=steps // evaluations, episodes=1)
    trainer = Trainer(full_size(effort, "care", budget=steps, evaluation=evaluation), device, CORES - 1)
    begun = time.perf_counter()
    try:
        trainer.run(_Nobody())
    finally:
        trainer.close()
    took = time.perf_counter() - begun
    beside = {"steps/s": [steps / took], "success at the end": [float(trainer.evaluations[-1].success.mean())]}
    row = Row(f"CARE, {steps:,} vector steps, {trainer.execution.described()}", "ours", "s", [took], 1, CORES, beside)
    notes = (
        f"{evaluations} evaluations and one at the start, one episode of each task; without checkpoints.",
        *([f"It diverged: {trainer.diverged}."] if trainer.diverged else []),
    )
    return Topic(f"A complete MT10 run on {_name(device)}", notes, (row,))


def main(words: Sequence[str] | None = None) -> None:
    """Measure everything, or what is asked for."""
    topics: dict[str, Callable[[Effort, torch.device], Topic]] = {
        "gpu": lambda effort, device: measure_updates(effort, device, CudaGraphs),
        "gpu-training": measure_training,
        "gpu-care": measure_care,
    }
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"all, or some of: {', '.join(topics)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and 2,000 steps of CARE")
    parser.add_argument("--output", type=Path, default=root() / "results" / "bench", help="folder of the JSON files")
    options = parser.parse_args(words)
    if unknown := sorted(set(options.topics) - set(topics)):
        parser.error(f"unknown topic {', '.join(unknown)}; known: {', '.join(topics)}")
    if not torch.cuda.is_available():
        print("bench-gpu: torch finds no GPU here, so there is nothing to measure; `mtrepro doctor` says what it sees")
        raise SystemExit(NO_GPU)
    be_deterministic(torch.device("cuda"))
    for topic in options.topics or topics:
        measure = topics[topic]
        content = record(topic, QUICK if options.quick else FULL, lambda its, of=measure: of(its, torch.device("cuda")))
        show(content)
        print(f"{shown(write(content, options.output))}\n", flush=True)


def _rows_of(name: str, make: Callable[[Execution], Any], effort: Effort, recorder: MakeRecorder) -> list[Row]:
    rates: dict[str, Callable[[], float]] = {}
    learners: dict[str, tuple[Updates, list[Execution]]] = {}
    for mode in ("eager", "graph"):
        for seeds in SEEDS:
            executions = [Execution(recorder=recorder() if mode == "graph" else None) for _ in range(seeds)]
            learners[f"{mode}, {seeds}"] = learn, _ = Updates(), executions
            rates[f"{mode}, {seeds}"] = partial(_rate, learn, [make(each) for each in executions], effort)
    found = in_turn(effort.repeats, rates)
    try:
        apart = {"apart, %": [100 * distance(make, recorder(), min(UPDATES, 5 * effort.updates))]}
    except RuntimeError:
        apart = {}
    return [
        Row(
            f"{name}: {mode}, {_words(seeds, *learners[f'{mode}, {seeds}'])}", "ours", "updates/s", values, 1, 1,
            {
                "x eager": ratios(values, found[f"eager, {seeds}"]), "x one seed": ratios(values, found[f"{mode}, 1"]),
                **(apart if mode == "graph" and seeds == 1 else {}),
            },
        )
        for mode in ("eager", "graph") for seeds in SEEDS if (values := found[f"{mode}, {seeds}"])
    ]  # fmt: skip


def _words(seeds: int, learn: Updates, executions: list[Execution]) -> str:
    """How many seeds there were, and how they really learned."""
    words = f"{seeds} seeds {'in turn' if learn.together is None else 'mapped'}" if seeds > 1 else "1 seed"
    return f"{words}, fell back to eager" if any(each.fallback is not None for each in executions) else words


def _rate(learn: Updates, methods: list[Any], effort: Effort) -> float:
    """Updates a second of all methods together, the last one finished."""

    def finished() -> None:
        for _ in range(max(1, effort.updates)):
            learn(methods)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    learn(methods)  # records, where it is to be recorded
    return len(methods) * max(1, effort.updates) / seconds(finished, 1, effort.limit)


def _make_actor_critic(
    effort: Effort, device: torch.device, name: str, changed: Mapping[str, Any], execution: Execution
) -> Any:
    method, its = ARMS[name]
    filled = min(effort.transitions, 200_000)
    return make_method(method, filled, device=device, execution=execution, **{**its, **changed})


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


class _Nobody:
    """A monitor that lets the run go on."""

    def enter(self, part: Part) -> None:
        pass

    def beat(self, trainer: Trainer) -> None:
        pass

    def beat_within_evaluation(self) -> None:
        pass


if __name__ == "__main__":
    main()
