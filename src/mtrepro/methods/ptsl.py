"""PTSL without CARE: plain multi-task soft actor-critic whose layers have projected task-specific layers beside them.

Somerville Roberts, Di, "Projected Task-Specific Layers for Multi-Task Reinforcement Learning", ICRA 2024. Layers:
networks/projected_layers.py. The paper has them on top of CARE alone (care_ptsl.py); nobody has published this arm.
"""

from __future__ import annotations

from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation
from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.projection_settings import ProjectionSettings


class Settings(ProjectionSettings):
    """Every hyper-parameter of PTSL without CARE; the defaults are in config/methods/ptsl.yaml."""


class Ptsl(SoftActorCritic[Settings]):
    """Soft actor-critic on projected task-specific layers."""

    def build(self) -> Networks:
        """The observation alone goes in: the task enters by its own layers."""
        observation, actions = self.problem.observation_size, self.problem.action_size
        actor = Actor(Observation(), self._body(observation, 2 * actions))
        critics = Critics(Observation(), lambda: self._body(observation + actions, 1))
        return Networks(actor, critics, actor.parameters())

    def _body(self, inputs: int, outputs: int) -> ProjectedLayers:
        return ProjectedLayers(inputs, outputs, self.problem.tasks, self.settings)
