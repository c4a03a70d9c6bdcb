"""Milliseconds of one update of the Dreamers, the world model's share and the behaviour's, at v1's size and small."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from mtrepro.engine.execution import Execution
from mtrepro.engine.replay import Transitions
from mtrepro.methods import Problem
from mtrepro.methods.dreamer import Dreamer
from mtrepro.methods.meta_dreamer import MetaDreamer
from mtrepro.methods.multi_task_dreamer import MultiTaskDreamer
from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model.agent import DreamerAgent
from mtrepro.world_model.model import ModelLoss
from mtrepro.world_model.outer import Outer
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds

CPU = torch.device("cpu")
ACTIONS, FRAMES = 8, 300  # Ant's actions; frames drawn from
V2 = {
    "latent": "categorical",
    "latent_size": 32,
    "latent_classes": 32,
    "recurrent_cell": "layer_norm_gru",
    "picture_activation": "elu",
    "kl_balance": 0.8,
    "actor_distribution": "truncated_normal",
    "critic_on_start": True,
    "slow_critic_every": 100,
}
SMALL = {"picture_channels": 8, "width": 128, "recurrent_size": 128, "hidden_size": 128, "feedforward_size": 256}
PAIR = {**SMALL, "sequences": 4, "length": 25}  # of each of two tasks
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "v1's size, 8 x 25": ("dreamer", {"sequences": 8, "length": 25}),
    "the same with v2's latents and actor, 8 x 25": ("dreamer", {"sequences": 8, "length": 25, **V2}),
    "small, 16 x 32": ("dreamer", {"sequences": 16, "length": 32, **SMALL}),
    "small, two tasks apart, 8 x 25": ("multi_task_dreamer", {**PAIR, "sharing": "separate"}),
    "small, two tasks in one, 8 x 25": ("multi_task_dreamer", {**PAIR, "sharing": "shared"}),
    "small, two tasks in one, Transformer, 8 x 25": (
        "multi_task_dreamer",
        {**PAIR, "sharing": "embedded", "state_space": "transformer"},
    ),
    "small, two tasks, two inner steps, second order, 8 x 25": (
        "meta_dreamer",
        {**PAIR, "support_sequences": 4, "inner_steps": 2, "order": "second"},
    ),
}
WHOLE, MODEL, BEHAVIOUR = "one update", "of it the world model", "of it actor and critic"


def measure(effort: Effort) -> Topic:
    """Updates with one and with two threads."""
    methods = {name: make_dreamer(method, **changed) for name, (method, changed) in ARMS.items()}

    def timed(name: str, threads: int) -> float:
        torch.set_num_threads(threads)
        methods[name].learn()  # a change of threads is paid for here
        methods[name].behaving.clear()
        return 1000 * seconds(methods[name].learn, max(1, effort.updates // 4), effort.limit)

    rows, behaving = [], dict[str, list[float]]()

    def both_parts(name: str, threads: int) -> float:
        whole = timed(name, threads)
        behaving.setdefault(f"{name}/{threads}", []).append(1000 * float(np.mean(methods[name].behaving)))
        return whole

    both = [(name, threads) for threads in range(1, effort.threads + 1) for name in methods]
    found = in_turn(effort.repeats, {f"{name}/{threads}": partial(both_parts, name, threads) for name, threads in both})
    for name, threads in both:
        whole, behaviour = found[f"{name}/{threads}"], behaving[f"{name}/{threads}"]
        model = [a - b for a, b in zip(whole, behaviour, strict=True)]
        share = {"% of update": ratios(behaviour, whole, 100)}
        rows.append(Row(f"{name}: {WHOLE}", "ours", "ms", whole, threads))
        rows.append(
            Row(f"{name}: {MODEL}", "ours", "ms", model, threads, 1, {"% of update": ratios(model, whole, 100)})
        )
        rows.append(Row(f"{name}: {BEHAVIOUR}", "ours", "ms", behaviour, threads, 1, share))
    notes = (
        f"One `learn`: draw, world model, imagination of 15 steps, actor, critic; 64 x 64 pictures, {ACTIONS} actions, "
        "fp32. Sizes: sequences x frames, of all tasks together. Tasks apart have a model each behind one encoder, "
        "computed one after the other.",
        "The world model's share holds the draw. What limits it: convolutions at full resolution, then products of the "
        "imagined rows, both bound by memory on two cores.",
    )
    return Topic("One update of the Dreamers on the CPU", notes, tuple(rows))


class Timed(DreamerAgent[Any]):
    """An agent that notes how long it takes from the world models' step to the end of each update."""

    behaving: list[float]

    def learn(self) -> None:
        """One update."""
        super().learn()
        self.behaving.append(time.perf_counter() - self._stepped)

    def descend_models(self, losses: Sequence[ModelLoss]) -> torch.Tensor:
        """The models' own step."""
        norm = super().descend_models(losses)
        self._stepped = time.perf_counter()
        return norm


class TimedDreamer(Timed, Dreamer):
    """Dreamer, timed."""


class TimedMultiTaskDreamer(Timed, MultiTaskDreamer):
    """The multi-task Dreamer, timed."""


class TimedMetaDreamer(MetaDreamer):
    """Meta-Dreamer, timed alike: what comes behind the outer step is the behaviour's."""

    behaving: list[float]

    def learn(self) -> None:
        """One update."""
        super().learn()
        self.behaving.append(time.perf_counter() - self._stepped)

    def _learn_curiosity(self, outers: Sequence[Outer]) -> dict[str, torch.Tensor]:
        self._stepped = time.perf_counter()
        return super()._learn_curiosity(outers)


TIMED: dict[str, Any] = {
    "dreamer": TimedDreamer,
    "multi_task_dreamer": TimedMultiTaskDreamer,
    "meta_dreamer": TimedMetaDreamer,
}


def make_arm(arm: str, device: torch.device, execution: Execution, seed: int = 0) -> Any:
    """The Dreamer of one of `ARMS`."""
    name, changed = ARMS[arm]
    return make_dreamer(name, device, execution, seed, **changed)


def make_dreamer(
    name: str, device: torch.device = CPU, execution: Execution | None = None, seed: int = 0, **changed: Any
) -> Timed:
    """A Dreamer with its default settings and some random frames; of two tasks, if it takes them."""
    tasks = 1 if name == "dreamer" else 2
    given = read_method_file(name).settings | {"replay_frames": 2 * FRAMES * tasks} | changed
    settings = cast(Any, resolve_settings(name, given, f"config/methods/{name}.yaml: settings"))
    mask = np.ones((tasks, ACTIONS), np.bool_)
    names = tuple(f"task-{index}" for index in range(tasks))
    problem = Problem(names, (64, 64, 3), np.dtype(np.uint8), ACTIONS, mask, 500, execution=execution)
    method = TIMED[name](settings, problem, seed, device)
    method.behaving = []
    stream, flags = np.random.default_rng(0), np.zeros(tasks, np.bool_)
    for _ in range(FRAMES):
        seen, following = stream.integers(256, size=(2, tasks, 64, 64, 3), dtype=np.uint8)
        action = stream.uniform(-1, 1, (tasks, ACTIONS)).astype(np.float32)
        reward = stream.normal(size=tasks).astype(np.float32)
        method.replay.add(Transitions(seen, action, reward, following, flags, flags))
    return cast(Timed, method)
