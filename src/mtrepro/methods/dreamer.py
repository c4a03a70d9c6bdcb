"""Dreamer: learn a world model from pictures, and the behaviour in what the model imagines. Single task.

v1: Hafner et al., "Dream to Control: Learning Behaviors by Latent Imagination", ICLR 2020; v2: Hafner et al.,
"Mastering Atari with Discrete World Models", ICLR 2021. Which of the two it is, settings say; the defaults are v1's.
The loop is in world_model/agent.py, the equations and their letters in the files beside it; docs/methods/dreamer.md has
a table of them, and says where the papers, their code and these files differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mtrepro.engine import seeding
from mtrepro.engine.adam import Adam
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Problem
from mtrepro.world_model.agent import DreamerAgent, Mind
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.model import ModelLoss, WorldModel
from mtrepro.world_model.settings import DreamerSettings


class Settings(DreamerSettings):
    """Every hyper-parameter of Dreamer; the defaults are in config/methods/dreamer.yaml."""

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if len(tasks) != 1:
            yield "", f"dreamer learns one task, not {len(tasks)}: choose one of the benchmark's ({', '.join(tasks)})"


class Dreamer(DreamerAgent[Settings]):
    """One Dreamer on one task."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "dreamer")

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.minds[0].model

    @property
    def behaviour(self) -> Behaviour:
        """Actor and critic."""
        return self.minds[0].behaviour

    def build(self, seed: int) -> list[Mind]:
        """One model and one behaviour."""
        model = WorldModel(self.settings, self.problem.observation_shape[0], self.problem.action_size)
        behaviour = Behaviour(self.settings, model.dynamics.features, self.problem.action_size)
        initialise(model, seeding.torch_stream(seed, "world model"))
        initialise(behaviour.actor, seeding.torch_stream(seed, "actor"))
        initialise(behaviour.critic, seeding.torch_stream(seed, "critic"))
        return [Mind(model, behaviour)]

    def optimise(self) -> dict[str, Adam]:
        """One for the model, one for the actor, one for the critic."""
        return {
            "world_model": self.adam(self.model.parameters(), self.settings.model_rate),
            "actor": self.adam(self.behaviour.actor.parameters(), self.settings.actor_rate),
            "critic": self.adam(self.behaviour.critic.parameters(), self.settings.critic_rate),
        }

    def draw(self) -> Sequences:
        """Sequences of the task."""
        return self.replay.draw(self.settings.sequences, self.settings.length)

    def descend_models(self, losses: Sequence[ModelLoss]) -> Tensor:
        """The model's own step."""
        return self.descend("world_model", losses[0].total)
