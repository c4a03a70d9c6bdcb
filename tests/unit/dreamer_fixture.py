"""What tests of the world model share: small settings, a small Dreamer, and pictures to feed it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from mtrepro.engine.replay import Transitions
from mtrepro.methods import Problem
from mtrepro.methods._loading import make_method
from mtrepro.methods.dreamer import Dreamer
from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model.settings import DreamerSettings
from tests.conftest import SMALL, known_to

V2: dict[str, Any] = {"latent": "categorical", "latent_classes": 4, "recurrent_cell": "layer_norm_gru"}
ACTIONS = 2


def settings(**changed: Any) -> DreamerSettings:
    """Networks of a few units; `changed` goes before."""
    given = read_method_file("dreamer").settings | known_to("dreamer", SMALL) | changed
    return cast(DreamerSettings, resolve_settings("dreamer", given, "settings"))


def problem(actions: int = ACTIONS, side: int = 16) -> Problem:
    """One task of pictures."""
    return Problem(("toy-0",), (side, side, 3), np.dtype(np.uint8), actions, np.ones((1, actions), np.bool_), 20)


def dreamer(given: Problem | None = None, **changed: Any) -> Dreamer:
    """A small Dreamer."""
    chosen = settings(**changed).model_dump(mode="json")
    return cast(Dreamer, make_method("dreamer", chosen, given or problem(), 0, torch.device("cpu")))


def pictures(*shape: int, seed: int = 0) -> Any:
    """Random pictures: uint8 (*shape, 16, 16, 3)."""
    return np.random.default_rng(seed).integers(256, size=(*shape, 16, 16, 3), dtype=np.uint8)


def fill(agent: Dreamer, steps: int = 45, episode: int = 7) -> None:
    """Random steps in episodes of equal length, ended in turn by the task and by the time limit."""
    stream, seen = np.random.default_rng(1), pictures(steps + 1, 1)
    for step in range(steps):
        ends = np.array([step % episode == episode - 1])
        by_task = ends & np.array([step % (2 * episode) < episode])
        action, reward = stream.uniform(-1, 1, (1, ACTIONS)), stream.normal(size=1)
        agent.observe(
            Transitions(
                seen[step],
                action.astype(np.float32),
                reward.astype(np.float32),
                seen[step + 1],
                by_task,
                ends ^ by_task,
            )
        )


def untold(rows: int) -> torch.Tensor:
    """The codes of a model that is not told its task: no numbers."""
    return torch.zeros(rows, 0)
