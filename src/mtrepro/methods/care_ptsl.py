"""CARE-PTSL: CARE with projected layers; it imports mtrepro.methods.care because all else of it is CARE.

Somerville Roberts, Di, "Projected Task-Specific Layers for Multi-Task Reinforcement Learning", ICRA 2024. Layers:
networks/projected_layers.py; encoder and gradients are CARE's. With the published initialisation two of the paper's
ablation arms never train most of their task-specific layers; docs/methods/care_ptsl.md says which and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import nn

from mtrepro.methods import Problem
from mtrepro.methods.care import Care
from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.soft_actor_critic.care_settings import CareSettings
from mtrepro.soft_actor_critic.projection_settings import Initialisation, Projection, Residual, projection_conflicts


class Settings(CareSettings):
    """Every hyper-parameter of CARE-PTSL; the defaults are in config/methods/care_ptsl.yaml."""

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


class CarePtsl(Care):
    """CARE whose actor and critics are projected task-specific layers."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        self.ptsl = settings
        super().__init__(settings, problem, seed, device)

    def body(self, inputs: int, outputs: int) -> nn.Module:
        """What stands on the encoding: shared layers with task-specific ones beside them."""
        its = self.ptsl
        return ProjectedLayers(
            inputs, its.width, its.depth, outputs, self.problem.tasks, its.projection_size,
            its.projection, its.residual, its.initialisation,
        )  # fmt: skip
