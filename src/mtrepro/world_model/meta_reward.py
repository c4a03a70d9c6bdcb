"""A reward model that asks others, which were trained on other tasks and never move.

    r' = f([s, r_1(s_1), ..., r_N(s_N)])

Sasso, Sabatelli, Wiering, "Multi-Source Transfer Learning for Deep Model-Based Reinforcement Learning", 2022
(2205.14410). s_i is s itself, as the paper draws it, or what source i's own frozen state-space model makes of the same
embeddings and actions: then it means what it meant when r_i was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.world_model.layers import dense
from mtrepro.world_model.recurrent import RecurrentModel
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import Followed, State, StateSpaceModel


class MetaReward(nn.Module):
    """Shapes: (..., features), or (..., features of this run and then of each source) -> (..., 1).

    Args:
        sources: the frozen reward models; gradients pass through them to the features.
        features: numbers in s.
    """

    def __init__(self, sources: Sequence[nn.Module], features: int, width: int, depth: int) -> None:
        super().__init__()
        self.sources = nn.ModuleList(sources).requires_grad_(False)
        self.features = features
        self.body = dense(features + len(sources), width, depth, 1)

    def forward(self, features: Tensor) -> Tensor:
        own, theirs = features[..., : self.features], features[..., self.features :]
        seen = theirs.chunk(len(self.sources), dim=-1) if theirs.shape[-1] else [own] * len(self.sources)
        told = [source(s) for source, s in zip(self.sources, seen, strict=True)]
        r: Tensor = self.body(torch.cat([own, *told], dim=-1))
        return r


class Accompanied(StateSpaceModel):
    """A state-space model beside which frozen ones of other runs follow the same embeddings and actions.

    Where it follows and imagines, their features stand behind its own, in the state's c; acting needs none of them.
    They are followed without chance: where a latent state would be drawn, they take the likeliest.
    """

    def __init__(self, own: StateSpaceModel, others: Sequence[RecurrentModel], settings: DreamerSettings) -> None:
        super().__init__(settings, own.code)
        self.own = own
        self.others = nn.ModuleList(others).requires_grad_(False)

    def begin(self, c: Tensor) -> State:
        """Where an episode begins."""
        return self.own.begin(c)

    def see(self, state: State, a: Tensor, e: Tensor, noise: Tensor | None) -> State:
        """What acting needs: this run's own."""
        return self.own.see(state, a, e, noise)

    def follow(self, e: Tensor, a: Tensor, is_first: Tensor, c: Tensor, noise: Tensor) -> Followed:
        """As its own, with the features of the others in c."""
        followed = self.own.follow(e, a, is_first, c, noise)
        theirs = [self._follow(other, e, a, is_first) for other in self._others()]
        states = followed.states
        return followed._replace(states=states._replace(c=torch.cat([states.c, *theirs], dim=-1)))

    def imagine(self, state: State, a: Tensor, noise: Tensor) -> State:
        """The next moment as each model believes it."""
        own, *theirs = torch.split(state.c, [self.code, *(other.features for other in self._others())], dim=-1)
        following = self.own.imagine(state._replace(c=own), a, noise)
        told = [following.c]
        for other, s in zip(self._others(), theirs, strict=True):
            h, z = torch.split(s, [other.size, other.latents.size], dim=-1)
            still = s.new_zeros(len(s), other.latents.draws)
            told.append(other.imagine(State(h, z, s[:, :0]), _padded(a, other), still).features)
        return following._replace(c=torch.cat(told, dim=-1))

    def starts(self, states: State) -> State:
        """Every frame as a start of imagination."""
        return self.own.starts(states)

    @torch.no_grad()
    def _follow(self, other: RecurrentModel, e: Tensor, a: Tensor, is_first: Tensor) -> Tensor:
        still, none = e.new_zeros(*e.shape[:2], other.latents.draws), e.new_zeros(e.shape[1], 0)
        return other.follow(e, _padded(a, other), is_first, none, still).states.features

    def _others(self) -> list[Any]:
        return list(self.others)


def _padded(a: Tensor, other: RecurrentModel) -> Tensor:
    """Actions as a model knows them whose task had more: the others are zero."""
    return functional.pad(a, (0, other.enter.in_features - other.latents.size - a.shape[-1]))
