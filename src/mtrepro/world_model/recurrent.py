"""The recurrent state-space model.

Hafner et al., "Learning Latent Dynamics for Planning from Pixels", ICML 2019 (1811.04551), as v1 and v2 use it, with
the task's code c where the model is told its task:

    h_t = cell(elu(W [z_{t-1}, a_{t-1}, c]), h_{t-1})
    prior      p(z_t | h_t)       = latents(W elu(W h_t))
    posterior  q(z_t | h_t, e_t)  = latents(W elu(W [h_t, e_t]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine.precision import in_full
from mtrepro.world_model.layers import Gru, LayerNormGru
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import Followed, State, StateSpaceModel


class RecurrentModel(StateSpaceModel):
    """See the base class."""

    def __init__(self, settings: DreamerSettings, embedding: int, actions: int, code: int = 0) -> None:
        super().__init__(settings, code)
        hidden = settings.hidden_size
        self.enter = nn.Linear(self.latents.size + actions + code, hidden)
        cell = Gru if settings.recurrent_cell == "gru" else LayerNormGru
        self.cell = cell(hidden, self.size)
        self.prior_hidden = nn.Linear(self.size, hidden)
        self.prior_output = nn.Linear(hidden, self.latents.outputs)
        self.posterior_hidden = nn.Linear(self.size + embedding, hidden)
        self.posterior_output = nn.Linear(hidden, self.latents.outputs)

    def advance(self, state: State, a: Tensor) -> Tensor:
        """h of the next moment. Shapes: a (rows, actions) -> (rows, size)."""
        x = functional.elu(self.enter(torch.cat([state.z, a, state.c], dim=-1)))
        return in_full(self.cell, x, state.h)  # what is rounded here would be rounded again at every moment

    def prior(self, h: Tensor) -> Tensor:
        """p(z | h). Shapes: (..., size) -> (..., latents.outputs)."""
        outputs: Tensor = self.prior_output(functional.elu(self.prior_hidden(h)))
        return outputs

    def imagine(self, state: State, a: Tensor, noise: Tensor) -> State:
        """z ~ p(z | h)."""
        h = self.advance(state, a)
        return State(h, self.latents.sample(self.prior(h), noise), state.c)

    def see(self, state: State, a: Tensor, e: Tensor, noise: Tensor | None) -> State:
        """z ~ q(z | h, e)."""
        h = self.advance(state, a)
        outputs = self.posterior_output(functional.elu(self.posterior_hidden(torch.cat([h, e], dim=-1))))
        return State(h, self.latents.mode(outputs) if noise is None else self.latents.sample(outputs, noise), state.c)

    def follow(self, e: Tensor, a: Tensor, is_first: Tensor, c: Tensor, noise: Tensor) -> Followed:
        """What does not depend on the frame before is computed for all frames at once: the embedding's half of the
        posterior's hidden layer, and the prior."""
        from_h, from_e = torch.split(self.posterior_hidden.weight, [self.size, e.shape[-1]], dim=1)
        seen = functional.linear(e, from_e, self.posterior_hidden.bias)
        keep = (~is_first).unsqueeze(-1).to(e.dtype)
        state, states, posterior = self.begin(c), list[State](), list[Tensor]()
        for t in range(len(e)):
            state = State(keep[t] * state.h, keep[t] * state.z, c)
            h = self.advance(state, keep[t] * a[t])
            outputs = self.posterior_output(functional.elu(functional.linear(h, from_h) + seen[t]))
            state = State(h, self.latents.sample(outputs, noise[t]), c)
            states.append(state)
            posterior.append(outputs)
        h, z = torch.stack([state.h for state in states]), torch.stack([state.z for state in states])
        return Followed(State(h, z, c.expand(len(e), *c.shape)), torch.stack(posterior), self.prior(h))
