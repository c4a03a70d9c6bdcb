"""The Gaussian policy squashed by tanh, as the soft actor-critic family samples and scores it (mtrl's form)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """Actions drawn from a policy and how likely they were."""

    action: Tensor  # (batch, actions) in [-1, 1]
    log_probability: Tensor  # (batch,)


def split(output: Tensor, lowest: float, highest: float) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation from an actor's output.

    log_std = tanh(raw), mapped affinely onto [lowest, highest]; mtrl: [-20, 2].
    Shapes: (batch, 2 actions) -> two of (batch, actions).
    """
    mean, raw = output.chunk(2, dim=-1)
    return mean, lowest + 0.5 * (highest - lowest) * (torch.tanh(raw) + 1.0)


def sample(output: Tensor, noise: Tensor, lowest: float, highest: float) -> Sample:
    """a = tanh(mu + sigma eps), log pi(a) = sum [log N(eps) - log sigma - log(relu(1 - a^2) + 1e-6)].

    Shapes: output (batch, 2 actions), noise (batch, actions) standard normal.
    """
    mean, log_std = split(output, lowest, highest)
    action = torch.tanh(mean + log_std.exp() * noise)
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_probability = log_normal - torch.log(torch.relu(1 - action.square()) + 1e-6)
    return Sample(action, log_probability.sum(-1))


def mode(output: Tensor) -> Tensor:
    """tanh(mu): the action without noise. Shapes: (batch, 2 actions) -> (batch, actions)."""
    return torch.tanh(output.chunk(2, dim=-1)[0])
