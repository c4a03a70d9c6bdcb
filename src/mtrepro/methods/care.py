"""CARE: a mixture of encoders, chosen by what the task's description says.

Sodhani, Zhang, Pineau, "Multi-Task Reinforcement Learning with Context-based Representations", ICML 2021 (algorithm 1).
The published code attends by the task alone, the paper by task and observation; `attention` chooses, and
docs/methods/care.md says what else differs and who receives gradient from which loss.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn

from mtrepro.networks.actor_critic import Actor, Critics, Networks, Same, Seen
from mtrepro.networks.mlp import mlp
from mtrepro.networks.task_encoder import TaskEncoder
from mtrepro.networks.tasks import StackedLinear
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.care_settings import CareSettings


class Settings(CareSettings):
    """Every hyper-parameter of CARE; the defaults are in config/methods/care.yaml."""


S = TypeVar("S", bound=CareSettings)


class Care(SoftActorCritic[S]):
    """Soft actor-critic on a mixture of encoders and a code of the task."""

    def build(self) -> Networks:
        """One mixture for both critics; the actor's has the same experts, stopped, and an attention of its own."""
        its, actions = self.settings, self.problem.action_size
        encoded = its.feature_size + its.code_size
        experts = Experts(its.experts, self.problem.observation_size, its.feature_size, its.expert_depth)
        critics = Critics(Mixture(experts, self._attention()), lambda: self.body(encoded + actions, 1))
        actor = Actor(Mixture(experts, own := self._attention(), stopped=True), self.body(encoded, 2 * actions))
        own.requires_grad_(its.actor_attention == "trained")
        trained = [*actor.body.parameters(), *(parameter for parameter in own.parameters() if parameter.requires_grad)]
        task_encoder = TaskEncoder(its.task_embedding, self.problem.task_names, its.code_size)
        return Networks(actor, critics, trained, task_encoder, its.task_encoder_rate, its.encoder_target_rate)

    def body(self, inputs: int, outputs: int) -> nn.Module:
        """What stands on the encoding: fully connected layers."""
        return Same(mlp(inputs, self.settings.width, self.settings.depth, outputs))

    def _attention(self) -> nn.Module:
        its = self.settings
        return (
            ContextAttention()
            if its.attention == "context"
            else TaskAttention(its.code_size, its.attention_depth, its.experts)
        )


class Mixture(nn.Module):
    """[sum_k alpha_k e_k(s), code_t]: (batch, features + code).

    Args:
        stopped: let no gradient into the experts: the actor's copy (mtrl).
    """

    def __init__(self, experts: Experts, attention: nn.Module, stopped: bool = False) -> None:
        super().__init__()
        self.experts, self.attention, self.stopped = experts, attention, stopped

    def forward(self, seen: Seen) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stopped):
            encodings = self.experts(seen.observation)  # (experts, batch, features)
        alpha = self.attention(encodings, seen)  # (batch, experts)
        z = (alpha.T.unsqueeze(-1) * encodings).sum(0)
        return torch.cat([z, seen.code], dim=1)


class Experts(nn.Module):
    """e_k(s), k encoders side by side: (batch, observation) -> (experts, batch, features)."""

    def __init__(self, experts: int, observation: int, features: int, depth: int) -> None:
        super().__init__()
        sizes = itertools.pairwise([observation, *[features] * (depth + 1)])
        self.layers = nn.ModuleList(StackedLinear(experts, size, following) for size, following in sizes)
        self.count = experts

    def forward(self, observation: Tensor) -> Tensor:
        *hidden, output = self.layers
        x = observation.expand(self.count, *observation.shape)
        for layer in hidden:
            x = torch.relu(layer(x))
        encodings: Tensor = output(x)
        return encodings


class TaskAttention(nn.Module):
    """alpha = softmax(A(code_t)), A fully connected: the published code. Worked out for each task, not each row."""

    def __init__(self, code: int, depth: int, experts: int) -> None:
        super().__init__()
        self.network = mlp(code, code, depth, experts)

    def forward(self, encodings: Tensor, seen: Seen) -> Tensor:
        assert seen.codes is not None
        return seen.tasks.rows(self.network(seen.codes).softmax(1))


class ContextAttention(nn.Module):
    """alpha_k = softmax_k(e_k(s) . stop(code_t)): the paper's algorithm 1. It has no parameters."""

    def forward(self, encodings: Tensor, seen: Seen) -> Tensor:
        return torch.einsum("kbf,bf->bk", encodings, seen.code.detach()).softmax(1)
