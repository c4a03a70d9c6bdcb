"""The recurrent state-space model: what the next moment will be, before and after it is seen.

Hafner et al., "Learning Latent Dynamics for Planning from Pixels", ICML 2019 (1811.04551), as v1 and v2 use it:

    h_t = cell(elu(W [z_{t-1}, a_{t-1}]), h_{t-1})
    prior      p(z_t | h_t)       = latents(W elu(W h_t))
    posterior  q(z_t | h_t, e_t)  = latents(W elu(W [h_t, e_t]))
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.world_model.latents import Categorical, Gaussian, Latents
from mtrepro.world_model.layers import LayerNormGru
from mtrepro.world_model.settings import DreamerSettings


class State(NamedTuple):
    """s = [h, z]; at an episode's start all zeros."""

    h: Tensor  # (..., recurrent_size)
    z: Tensor  # (..., latents.size)

    @property
    def features(self) -> Tensor:
        """What every head sees: (..., features)."""
        return torch.cat([self.h, self.z], dim=-1)


class Followed(NamedTuple):
    """A sequence of frames, understood."""

    states: State  # (T, B, ...), z drawn from the posterior
    posterior: Tensor  # (T, B, latents.outputs)
    prior: Tensor  # (T, B, latents.outputs)


class StateSpaceModel(nn.Module):
    """The recurrent state-space model."""

    def __init__(self, settings: DreamerSettings, embedding: int, actions: int) -> None:
        super().__init__()
        self.latents = make_latents(settings)
        recurrent, hidden = settings.recurrent_size, settings.hidden_size
        self.recurrent_size, self.features = recurrent, recurrent + self.latents.size
        self.enter = nn.Linear(self.latents.size + actions, hidden)
        cell = nn.GRUCell if settings.recurrent_cell == "gru" else LayerNormGru
        self.cell = cell(hidden, recurrent)
        self.prior_hidden = nn.Linear(recurrent, hidden)
        self.prior_output = nn.Linear(hidden, self.latents.outputs)
        self.posterior_hidden = nn.Linear(recurrent + embedding, hidden)
        self.posterior_output = nn.Linear(hidden, self.latents.outputs)

    def begin(self, rows: int) -> State:
        """The state before an episode's first frame: zeros."""
        zeros = self.enter.weight.new_zeros
        return State(zeros(rows, self.recurrent_size), zeros(rows, self.latents.size))

    def advance(self, state: State, a: Tensor) -> Tensor:
        """h of the next moment. Shapes: a (rows, actions) -> (rows, recurrent_size)."""
        h: Tensor = self.cell(functional.elu(self.enter(torch.cat([state.z, a], dim=-1))), state.h)
        return h

    def prior(self, h: Tensor) -> Tensor:
        """p(z | h). Shapes: (..., recurrent_size) -> (..., latents.outputs)."""
        outputs: Tensor = self.prior_output(functional.elu(self.prior_hidden(h)))
        return outputs

    def imagine(self, state: State, a: Tensor, noise: Tensor) -> State:
        """The next moment as the model believes it: z ~ p(z | h)."""
        h = self.advance(state, a)
        return State(h, self.latents.sample(self.prior(h), noise))

    def see(self, state: State, a: Tensor, e: Tensor, noise: Tensor | None) -> State:
        """The next moment, seen: z ~ q(z | h, e), or its mode without noise. Shapes: e (rows, embedding)."""
        h = self.advance(state, a)
        outputs = self.posterior_output(functional.elu(self.posterior_hidden(torch.cat([h, e], dim=-1))))
        return State(h, self.latents.mode(outputs) if noise is None else self.latents.sample(outputs, noise))

    def follow(self, e: Tensor, a: Tensor, is_first: Tensor, noise: Tensor) -> Followed:
        """`see` frame after frame; where an episode begins, nothing before it counts.

        What does not depend on the frame before is computed for all frames at once: the embedding's half of the
        posterior's hidden layer, and the prior.

        Shapes: e (T, B, embedding), a (T, B, actions), is_first (T, B) bool, noise (T, B, latents.draws).
        """
        from_h, from_e = torch.split(self.posterior_hidden.weight, [self.recurrent_size, e.shape[-1]], dim=1)
        seen = functional.linear(e, from_e, self.posterior_hidden.bias)
        keep = (~is_first).unsqueeze(-1).to(e.dtype)
        state, states, posterior = self.begin(e.shape[1]), list[State](), list[Tensor]()
        for t in range(len(e)):
            state = State(keep[t] * state.h, keep[t] * state.z)
            h = self.advance(state, keep[t] * a[t])
            outputs = self.posterior_output(functional.elu(functional.linear(h, from_h) + seen[t]))
            state = State(h, self.latents.sample(outputs, noise[t]))
            states.append(state)
            posterior.append(outputs)
        followed = State(torch.stack([state.h for state in states]), torch.stack([state.z for state in states]))
        return Followed(followed, torch.stack(posterior), self.prior(followed.h))


def make_latents(settings: DreamerSettings) -> Latents:
    """The latents that the settings name."""
    if settings.latent == "gaussian":
        return Gaussian(settings.latent_size)
    assert settings.latent_classes is not None, "`conflicts` refuses it"
    return Categorical(settings.latent_size, settings.latent_classes)
