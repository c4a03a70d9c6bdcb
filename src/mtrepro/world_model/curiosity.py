"""A reward for what surprises the world model.

    surprise u_t = mean (mode p(z | h_t) - sg z_t)^2, or KL(q || p) in nats: never negative, without gradient
    reward   i(s) = softplus(f(s)),  which learns min(u_t / std u, limit) by 1/2 mean (i(sg s_t) - sg u)^2

Only where a frame was seen is there a surprise, so for imagined moments f says what it would be. f learns from this
loss alone: neither the critic's loss nor the actor's can move it, nor the model's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine.precision import unrounded
from mtrepro.world_model.latents import Latents
from mtrepro.world_model.layers import dense
from mtrepro.world_model.state_space import Followed


def surprise(latents: Latents, followed: Followed, kind: Literal["latent_error", "divergence"]) -> Tensor:
    """u of every frame: (T, B), from 0 up, without gradient."""
    prior, posterior = followed.prior.detach(), followed.posterior.detach()
    if kind == "divergence":
        return latents.divergence(posterior, prior).clamp(min=0)  # rounding may leave it just below
    return (latents.mode(prior) - followed.states.z.detach()).square().mean(-1)


class Curiosity(nn.Module):
    """i(s), and the running deviation of all surprises so far (Welford's sums).

    Shapes: (..., features) -> (...), from 0 up.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, features: int, width: int, depth: int, limit: float) -> None:
        super().__init__()
        self.head, self.limit = dense(features, width, depth, 1), limit
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        i: Tensor = functional.softplus(unrounded(self.head(features))).squeeze(-1)
        return i

    @torch.no_grad()
    def note(self, surprises: Tensor, weight: Tensor | None = None) -> None:
        """Take more surprises, (n,), into the deviation; those of weight 0.0 instead of 1.0 are none."""
        new = surprises.double()
        n = surprises.numel() if weight is None else weight.sum().double()
        mean = weighted_mean(new, weight)
        squares = (new - mean).square()
        away = mean - self.mean
        total = self.count + n
        self.squares += (squares if weight is None else weight * squares).sum() + away.square() * self.count * n / total
        self.mean += away * n / total
        self.count.copy_(total)

    def deviation(self) -> Tensor:
        """The standard deviation of what was noted, at least 1e-8."""
        return (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=1e-8)

    def loss(self, features: Tensor, surprises: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of f; scalar. Shapes: features (n, features), surprises and weight (n,)."""
        target = (surprises / self.deviation()).clamp(max=self.limit).to(features.dtype)
        errors: Tensor = self(features.detach()) - target.detach()
        return 0.5 * weighted_mean(errors.square(), weight)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """sum w x / sum w, or the plain mean; scalar."""
    return values.mean() if weight is None else (weight * values).sum() / weight.sum()
