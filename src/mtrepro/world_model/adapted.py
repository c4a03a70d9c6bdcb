"""A Meta-Dreamer that has adapted: what an evaluation asks after its inner steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtrepro.methods import Array, Episode
from mtrepro.world_model.adaptation import Parameters, under

if TYPE_CHECKING:
    from mtrepro.methods.meta_dreamer import MetaDreamer


class AdaptedDreamer:
    """Meta-Dreamer with a world model for each task; see the protocol `Adapted`. The actor is the agent's own."""

    def __init__(self, agent: MetaDreamer, before: Parameters, adapted: Sequence[Parameters]) -> None:
        self.agent, self.before, self.adapted = agent, before, adapted

    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """The agent's actions, each task's states being those of its adapted model."""
        memory = {} if memory is None else memory
        chosen = np.zeros((len(task), self.agent.problem.action_size), np.float32)
        for row, index in enumerate(task.tolist()):
            rows, its = slice(row, row + 1), memory.setdefault(str(row), {})
            chosen[rows] = under(
                self.agent.model,
                self.adapted[index],
                lambda rows=rows, its=its: self.agent.act(observation[rows], task[rows], explore=False, memory=its),  # type: ignore[misc]
            )
        return chosen

    @torch.no_grad()
    def judge(self, task: int, episode: Episode) -> dict[str, float]:
        """The model's loss on an episode before and after it adapted."""
        loss = self.agent.loss_of_episodes(task, [episode])
        before, after = (under(self.agent.model, its, loss).total for its in (self.before, self.adapted[task]))
        return {"model_loss": float(before), "adapted_model_loss": float(after)}
