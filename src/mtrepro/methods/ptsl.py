"""PTSL without CARE: plain multi-task soft actor-critic whose layers have projected task-specific layers beside them.

Somerville Roberts, Di, "Projected Task-Specific Layers for Multi-Task Reinforcement Learning", ICRA 2024. Layers:
networks/projected_layers.py. The paper has them on top of CARE alone (care_ptsl.py); nobody has published this arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field

from mtrepro.methods import Problem
from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation
from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.projection_settings import Initialisation, Projection, Residual, projection_conflicts
from mtrepro.soft_actor_critic.settings import SacSettings


class Settings(SacSettings):
    """Every hyper-parameter of PTSL without CARE; the defaults are in config/methods/ptsl.yaml."""

    width: int = Field(gt=0, description="units of each shared hidden layer")
    depth: int = Field(ge=0, description="shared hidden layers of the actor and of each critic")
    projection_size: int = Field(
        gt=0,
        description="p: units of every task-specific layer, at most `width`; what the first layer gets may be narrower",
    )
    projection: Projection = Field(description="one pair of projections for all layers, or a pair for each layer")
    residual: Residual = Field(description="what a task-specific layer takes over from the one before it")
    initialisation: Initialisation = Field(description="published_init leaves parts untrained; lora_init trains all")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        yield from projection_conflicts(self.projection_size, self.width, self.depth, self.residual)


class Ptsl(SoftActorCritic):
    """Soft actor-critic on projected task-specific layers."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        self.settings = settings
        super().__init__(settings, problem, seed, device)

    def build(self) -> Networks:
        """The observation alone goes in: the task enters by its own layers."""
        observation, actions = self.problem.observation_size, self.problem.action_size
        actor = Actor(Observation(), self._body(observation, 2 * actions))
        critics = Critics(Observation(), lambda: self._body(observation + actions, 1))
        return Networks(actor, critics, actor.parameters())

    def _body(self, inputs: int, outputs: int) -> ProjectedLayers:
        its = self.settings
        return ProjectedLayers(
            inputs, its.width, its.depth, outputs, self.problem.tasks, its.projection_size,
            its.projection, its.residual, its.initialisation,
        )  # fmt: skip
