"""What tests of Meta-Dreamer share: a small one with some frames of several tasks, and one in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrepro.engine.replay import Transitions
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Episode, Problem
from mtrepro.methods._loading import make_method
from mtrepro.methods.meta_dreamer import MetaDreamer
from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model import model, pictures
from mtrepro.world_model.adaptation import Parameters, adapt, parameters_of, under
from tests.conftest import SMALL, known_to
from tests.unit.dreamer_fixture import ACTIONS
from tests.unit.dreamer_fixture import pictures as random_pictures

TASKS = 2
ALL = {"tasks_per_update": None, "inner_steps": 2}
SMOOTH = {"picture_activation": "elu", "continue_scale": 1.0}  # nothing bends, so that differences are derivatives
PARTS = ("encoder", "dynamics", "decoder", "reward", "continues")


def meta_dreamer(tasks: int = TASKS, **changed: Any) -> MetaDreamer:
    """A small Meta-Dreamer with 45 frames and more of each task."""
    given = read_method_file("meta_dreamer").settings | known_to("meta_dreamer", SMALL) | ALL | changed
    settings = resolve_settings("meta_dreamer", given, "settings").model_dump(mode="json")
    names, mask = tuple(f"toy-{task}" for task in range(tasks)), np.ones((tasks, ACTIONS), np.bool_)
    problem = Problem(names, (16, 16, 3), np.dtype(np.uint8), ACTIONS, mask, 20)
    agent = cast(MetaDreamer, make_method("meta_dreamer", settings, problem, 0, torch.device("cpu")))
    stream, seen = np.random.default_rng(1), random_pictures(46, tasks)
    for step in range(45):
        ends, never = np.full(tasks, step % 7 == 6), np.zeros(tasks, np.bool_)
        action = stream.uniform(-1, 1, (tasks, ACTIONS)).astype(np.float32)
        reward = stream.normal(size=tasks).astype(np.float32)
        agent.observe(Transitions(seen[step], action, reward, seen[step + 1], never, ends))
    return agent


def episode(length: int = 8, seed: int = 3) -> Episode:
    """An episode of random pictures."""
    stream = np.random.default_rng(seed)
    action = stream.uniform(-1, 1, (length, ACTIONS)).astype(np.float32)
    return Episode(random_pictures(length + 1, seed=seed), action, stream.normal(size=length).astype(np.float32), False)


class Doubled:
    """The outer loss of one task as a function of theta, in double precision, with fixed sequences and noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
        monkeypatch.setattr(model, "centred", lambda seen: pictures.centred(seen).double())
        self.agent = meta_dreamer(**SMOOTH | changed)
        self.agent.model.double()
        support, query = (_double(each) for each in self.agent.replay.draw_apart(0, (3, 4), 6))
        self.support, self.query = self._loss(support), self._loss(query)
        self.theta = parameters_of(self.agent.model)

    def outer(self, theta: Parameters, steps: int, rate: float, limit: float, second: bool) -> Tensor:
        """L(query; theta after the inner steps)."""
        adapted = adapt(self.agent.model, theta, self.support, steps, rate, limit, second)
        return under(self.agent.model, adapted, self.query)

    def gradients(self, *inner: Any) -> Parameters:
        """The meta-gradient by its parameters' names."""
        found = torch.autograd.grad(self.outer(self.theta, *inner), list(self.theta.values()))
        return dict(zip(self.theta, found, strict=True))

    def _loss(self, batch: Sequences) -> Callable[[], Tensor]:
        latents = self.agent.model.dynamics.latents
        noise = latents.noise(*batch.reward.shape, generator=torch.Generator().manual_seed(5)).double()
        return lambda: self.agent.model.loss(batch, noise).total


def _double(batch: Sequences) -> Sequences:
    return batch._replace(
        action=batch.action.double(), reward=batch.reward.double(), terminated=batch.terminated.double()
    )
