"""Multi-head multi-task soft actor-critic: one trunk for all tasks, and a small network of every task's own on top.

Yu et al., "Meta-World", CoRL 2019 (multi-head SAC), in the form of mtrl, whose heads have two linear layers each, in
the actor and in both critics. The task enters by the choice of the head alone. Equations: docs/methods/multi_head.md.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation, Seen
from mtrepro.networks.mlp import mlp
from mtrepro.networks.tasks import StackedLinear
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.settings import SacSettings


class Settings(SacSettings):
    """Every hyper-parameter of the multi-head agent; the defaults are in config/methods/multi_head.yaml."""

    width: int = Field(gt=0, description="units of each hidden layer, of trunk and heads")
    depth: int = Field(ge=0, description="hidden layers of the trunk; one more layer gives its output")
    head_layers: int = Field(ge=1, description="linear layers of each task's head, the output layer counted")


class MultiHead(SoftActorCritic[Settings]):
    """Soft actor-critic with a head for each task."""

    def build(self) -> Networks:
        """A trunk with heads for the actor, and one for each critic."""
        observation, actions = self.problem.observation_size, self.problem.action_size
        actor = Actor(Observation(), self._body(observation, 2 * actions))
        critics = Critics(Observation(), lambda: self._body(observation + actions, 1))
        return Networks(actor, critics, actor.parameters())

    def _body(self, inputs: int, outputs: int) -> TrunkAndHeads:
        width, depth, head_layers = self.settings.width, self.settings.depth, self.settings.head_layers
        return TrunkAndHeads(inputs, width, depth, head_layers, outputs, self.problem.tasks)


class TrunkAndHeads(nn.Module):
    """h = relu(trunk(x)), y = H_t(h): (batch, inputs) -> (batch, outputs).

    Each row goes through its own task's head alone; mtrl sends every row through all heads and picks one.
    """

    def __init__(self, inputs: int, width: int, depth: int, head_layers: int, outputs: int, tasks: int) -> None:
        super().__init__()
        self.trunk = mlp(inputs, width, depth, width)
        self.hidden = nn.ModuleList(StackedLinear(tasks, width, width) for _ in range(head_layers - 1))
        self.output = StackedLinear(tasks, width, outputs)

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        groups = seen.tasks.groups
        h = groups.group(torch.relu(self.trunk(inputs)))  # (tasks, rows, width)
        for layer in self.hidden:
            h = torch.relu(layer(h))
        return groups.ungroup(self.output(h))
