"""The random policy: uniform actions, nothing learned. The floor that every curve is drawn beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mtrepro.engine import streams
from mtrepro.engine.replay import Transitions
from mtrepro.methods import Array, Problem


class Settings(BaseModel):
    """The random policy has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RandomPolicy:
    """Acts uniformly in [-1, 1]."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        self.owed = 0
        self.seed, self.action_size = seed, problem.action_size

    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Uniform actions, keyed by the moment: no state moves, so an interrupted evaluation repeats itself."""
        noise = streams.numpy_stream(self.seed, "random policy", moment)
        return noise.uniform(-1, 1, (len(task), self.action_size)).astype(np.float32)

    def observe(self, transitions: Transitions) -> None:
        """Learn nothing."""

    def learn(self) -> None:
        """Never owed."""

    def metrics(self) -> dict[str, float]:
        """None."""
        return {}

    def trouble(self) -> str | None:
        """It cannot diverge."""
        return None

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """None."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing moves."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to load."""
