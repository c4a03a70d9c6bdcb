"""The actor and its two distributions over actions in [-1, 1].

A drawn action keeps its `raw` form, from which its likelihood is computed: undoing a tanh would lose digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine.precision import unrounded
from mtrepro.world_model.layers import dense
from mtrepro.world_model.settings import DreamerSettings

EDGE = 1e-6  # a draw stays this far from where the inverse of the normal's distribution is infinite
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Policy(Protocol):
    """A distribution of actions; every number of the action is independent of the others."""

    def raw(self, noise: Tensor) -> Tensor:
        """A draw, through which gradients pass; `noise` is uniform in [0, 1): (..., actions)."""
        ...

    def action(self, raw: Tensor) -> Tensor:
        """The action that a raw draw stands for: (..., actions) in [-1, 1]."""
        ...

    def mode(self) -> Tensor:
        """The action without noise: (..., actions)."""
        ...

    def log_probability(self, raw: Tensor) -> Tensor:
        """Of each number of the action: (..., actions)."""
        ...

    def entropy(self, raw: Tensor) -> Tensor:
        """Of each number, exactly or estimated from a draw: (..., actions)."""
        ...


class TanhNormal(NamedTuple):
    """a = tanh(u), u ~ N(mu, sigma^2): v1's actor. Its mode here is tanh(mu)."""

    mu: Tensor
    sigma: Tensor

    def raw(self, noise: Tensor) -> Tensor:
        """u = mu + sigma Phi^-1(noise)."""
        return self.mu + self.sigma * _quantile(noise)

    def action(self, raw: Tensor) -> Tensor:
        """tanh(u)."""
        return torch.tanh(raw)

    def mode(self) -> Tensor:
        """tanh(mu)."""
        return torch.tanh(self.mu)

    def log_probability(self, raw: Tensor) -> Tensor:
        """log N(u) - log(1 - tanh(u)^2), the latter as 2 (log 2 - u - softplus(-2 u))."""
        normal = -0.5 * ((raw - self.mu) / self.sigma).square() - self.sigma.log() - HALF_LOG_TWO_PI
        squash: Tensor = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
        return normal - squash

    def entropy(self, raw: Tensor) -> Tensor:
        """Minus the log-probability of the draw: it has no closed form."""
        return -self.log_probability(raw)


class TruncatedNormal(NamedTuple):
    """N(mu, sigma^2) cut to [-1, 1]: v2's actor for continuous actions. mu must lie in [-1, 1]."""

    mu: Tensor
    sigma: Tensor

    def raw(self, noise: Tensor) -> Tensor:
        """a = mu + sigma Phi^-1(Phi(alpha) + noise (Phi(beta) - Phi(alpha)))."""
        below, inside = self._mass()
        return self.mu + self.sigma * _quantile(below + noise * inside)

    def action(self, raw: Tensor) -> Tensor:
        """The draw itself."""
        return raw.clamp(-1, 1)

    def mode(self) -> Tensor:
        """mu."""
        return self.mu

    def log_probability(self, raw: Tensor) -> Tensor:
        """log N(a) - log(Phi(beta) - Phi(alpha))."""
        normal = -0.5 * ((raw - self.mu) / self.sigma).square() - self.sigma.log() - HALF_LOG_TWO_PI
        return normal - self._mass()[1].log()

    def entropy(self, raw: Tensor) -> Tensor:
        """log(sqrt(2 pi e) sigma Z) + (alpha phi(alpha) - beta phi(beta)) / (2 Z), Z = Phi(beta) - Phi(alpha)."""
        alpha, beta = self._edges()
        mass = self._mass()[1]
        slope = alpha * _density(alpha) - beta * _density(beta)
        return HALF_LOG_TWO_PI + 0.5 + (self.sigma * mass).log() + slope / (2 * mass)

    def _edges(self) -> tuple[Tensor, Tensor]:
        """alpha and beta: how many sigma the ends of [-1, 1] are from mu."""
        return (-1 - self.mu) / self.sigma, (1 - self.mu) / self.sigma

    def _mass(self) -> tuple[Tensor, Tensor]:
        """Phi(alpha), and the probability Z between the ends."""
        below, above = (torch.special.ndtr(edge) for edge in self._edges())
        return below, above - below


def _quantile(p: Tensor) -> Tensor:
    """Phi^-1(p), finite."""
    x: Tensor = torch.special.ndtri(p.clamp(EDGE, 1 - EDGE))
    return x


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square() - HALF_LOG_TWO_PI)


class Actor(nn.Module):
    """pi(a | s). Shapes: (..., features) -> outputs (..., 2 actions), which `policy` reads."""

    def __init__(self, settings: DreamerSettings, features: int, actions: int) -> None:
        super().__init__()
        self.settings = settings
        self.body = dense(features, settings.width, settings.actor_depth, 2 * actions)
        self.offset = math.log(math.expm1(settings.actor_initial_std))  # softplus(offset) is the initial std

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.body(features)
        return unrounded(outputs)

    def policy(self, outputs: Tensor) -> Policy:
        """v1: mu = m tanh(x / m), sigma = softplus(y + offset) + min, m the mean's scale.
        v2: mu = tanh(x), sigma = 2 sigmoid(y / 2) + min."""
        x, y = outputs.chunk(2, dim=-1)
        least, scale = self.settings.actor_min_std, self.settings.actor_mean_scale
        if self.settings.actor_distribution == "tanh_normal":
            return TanhNormal(scale * torch.tanh(x / scale), functional.softplus(y + self.offset) + least)
        return TruncatedNormal(torch.tanh(x), 2 * torch.sigmoid(y / 2) + least)
