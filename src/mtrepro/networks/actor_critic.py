"""How an actor and a pair of critics are put together: an encoder of what is seen, and a body on top of it.

actor(s, t) = body(encoder(s, t), t)        critics(s, a, t) = body_k([encoder(s, t), a], t), k = 1, 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrepro.networks.tasks import BatchTasks


class Seen(NamedTuple):
    """What networks see of a batch."""

    observation: Tensor  # (batch, observation), flat
    tasks: BatchTasks
    codes: Tensor | None = None  # (tasks, code): the task encoder's output, where a method has one

    @property
    def code(self) -> Tensor:
        """Each row's task code: (batch, code)."""
        assert self.codes is not None, "this method has no task encoder"
        return self.tasks.rows(self.codes)

    def stopped(self) -> Seen:
        """The same, with no gradient into the task encoder."""
        return self if self.codes is None else self._replace(codes=self.codes.detach())


class Observation(nn.Module):
    """No encoder: the observation itself, with the task's one-hot behind it where asked."""

    def __init__(self, one_hot: bool = False) -> None:
        super().__init__()
        self.one_hot = one_hot

    def forward(self, seen: Seen) -> Tensor:
        return torch.cat([seen.observation, seen.tasks.one_hot], dim=-1) if self.one_hot else seen.observation


class Same(nn.Module):
    """A body that is the same network for every task."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        output: Tensor = self.network(inputs)
        return output


class Actor(nn.Module):
    """(batch, 2 actions): mean and raw log standard deviation."""

    def __init__(self, encoder: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.encoder, self.body = encoder, body

    def forward(self, seen: Seen) -> Tensor:
        output: Tensor = self.body(self.encoder(seen), seen)
        return output


class Critics(nn.Module):
    """Two bodies over one encoder: (2, batch) values."""

    def __init__(self, encoder: nn.Module, make_body: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.bodies = nn.ModuleList(make_body() for _ in range(2))

    def forward(self, seen: Seen, action: Tensor) -> Tensor:
        inputs = torch.cat([self.encoder(seen), action], dim=-1)
        return torch.stack([body(inputs, seen).squeeze(-1) for body in self.bodies], dim=-2)


class Networks(NamedTuple):
    """What a method of the family builds; `agent.py` trains it."""

    actor: Actor
    critics: Critics
    actor_trains: Iterable[nn.Parameter]  # what the actor loss moves
    task_encoder: nn.Module | None = None  # () -> (tasks, code); moved by the critic loss
    task_encoder_rate: float = 0.0  # its learning rate, where there is one
    encoder_target_rate: float = 0.0  # tau of the critics' encoder, where it has parameters
