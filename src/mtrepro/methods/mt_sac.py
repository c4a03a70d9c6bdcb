"""Multi-task soft actor-critic: one actor and one pair of critics for all tasks, a temperature for each task.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, as mtrl trains it on Meta-World: the update is
in soft_actor_critic/agent.py. The published command is blind to the task (`task_input: none`); `one_hot` tells the
networks which task it is. docs/methods/mt_sac.md says where the published code, the paper and this file differ.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation, Same
from mtrepro.networks.mlp import mlp
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.settings import SacSettings


class Settings(SacSettings):
    """Every hyper-parameter of MT-SAC; the defaults are in config/methods/mt_sac.yaml."""

    task_input: Literal["none", "one_hot"] = Field(description="how the networks are told the task")
    width: int = Field(gt=0, description="units of each hidden layer")
    depth: int = Field(ge=0, description="hidden layers of the actor and of each critic")


class MtSac(SoftActorCritic[Settings]):
    """Soft actor-critic over all tasks at once."""

    stackable = True

    def build(self) -> Networks:
        """Fully connected actor and critics."""
        one_hot, width, depth = self.settings.task_input == "one_hot", self.settings.width, self.settings.depth
        inputs = self.problem.observation_size + (self.problem.tasks if one_hot else 0)
        actions = self.problem.action_size
        actor = Actor(Observation(one_hot), Same(mlp(inputs, width, depth, 2 * actions)))
        critics = Critics(Observation(one_hot), lambda: Same(mlp(inputs + actions, width, depth, 1)))
        return Networks(actor, critics, actor.parameters())
