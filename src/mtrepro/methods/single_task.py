"""One soft actor-critic for every task, all of them trained side by side: what multi-task agents are measured against.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018. N agents share nothing but the process: their
parameters are stacked, so that one batched product moves all of them; each sees, stores and draws its own task alone.
docs/methods/single_task.md has the equations; a test compares N stacked agents with N single ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from mtrepro.methods import Problem
from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation, Seen
from mtrepro.networks.tasks import BatchTasks, StackedLinear
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.settings import SacSettings


class Settings(SacSettings):
    """Every hyper-parameter of the single-task agents; the defaults are in config/methods/single_task.yaml."""

    width: int = Field(gt=0, description="units of each hidden layer of every agent")
    depth: int = Field(ge=0, description="hidden layers of the actor and of each critic of every agent")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if self.replay_sampling != "stratified":
            yield "replay_sampling", "single agents draw batches of one size: only `stratified` gives each its share"
        if not self.temperature_per_task:
            yield "temperature_per_task", "single agents share no temperature: only `true` makes sense here"


class SingleTask(SoftActorCritic[Settings]):
    """As many independent agents as tasks; `batch` is shared equally among them."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device)
        self.temperature_weight = float(problem.tasks)

    def build(self) -> Networks:
        """Stacks of actors and of critics."""
        observation, actions = self.problem.observation_size, self.problem.action_size
        actor = Actor(Observation(), self._body(observation, 2 * actions))
        critics = Critics(Observation(), lambda: self._body(observation + actions, 1))
        return Networks(actor, critics, actor.parameters())

    def weigh(self, losses: Tensor, tasks: BatchTasks) -> Tensor:
        """The batch's mean becomes the sum of the agents' own means: each descends as if it were alone."""
        return losses * self.problem.tasks

    def _body(self, inputs: int, outputs: int) -> Stack:
        return Stack(inputs, self.settings.width, self.settings.depth, outputs, self.problem.tasks)


class Stack(nn.Module):
    """A fully connected network for each task: (batch, inputs) -> (batch, outputs), each row through its task's own."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, tasks: int) -> None:
        super().__init__()
        sizes = itertools.pairwise([inputs, *[width] * depth, outputs])
        self.layers = nn.ModuleList(StackedLinear(tasks, size, following) for size, following in sizes)

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        groups = seen.tasks.groups
        *hidden, output = self.layers
        x = groups.group(inputs)  # (tasks, rows, inputs)
        for layer in hidden:
            x = torch.relu(layer(x))
        return groups.ungroup(output(x))
