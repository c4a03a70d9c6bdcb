"""CARE-PTSL: CARE with projected layers; it imports mtrepro.methods.care because all else of it is CARE.

Somerville Roberts, Di, "Projected Task-Specific Layers for Multi-Task Reinforcement Learning", ICRA 2024. Layers:
networks/projected_layers.py; encoder and gradients are CARE's. With the published initialisation two of the paper's
ablation arms never train most of their task-specific layers; docs/methods/care_ptsl.md says which and why.
"""

from __future__ import annotations

from torch import nn

from mtrepro.methods.care import Care
from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.soft_actor_critic.care_settings import CareSettings
from mtrepro.soft_actor_critic.projection_settings import ProjectionSettings


class Settings(CareSettings, ProjectionSettings):
    """Every hyper-parameter of CARE-PTSL; the defaults are in config/methods/care_ptsl.yaml."""


class CarePtsl(Care[Settings]):
    """CARE whose actor and critics are projected task-specific layers."""

    def body(self, inputs: int, outputs: int) -> nn.Module:
        """What stands on the encoding: shared layers with task-specific ones beside them."""
        return ProjectedLayers(inputs, outputs, self.problem.tasks, self.settings)
