"""One layer of causal attention, written out, so that it can be differentiated twice and go on from kept keys.

    q, k, v = W LayerNorm(x),  y = x + W sum_j softmax_j(R_t q . R_j k / sqrt(units)) v_j,  y + W relu(W LayerNorm(y))

R_t turns pairs of units by angles that grow with the moment t (Su et al., "RoFormer", 2021, 2104.09864), so that a
score depends on the distance t - j alone: keys stay valid however long an episode becomes, and a window that begins
in the middle of an episode needs not know where.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SLOWEST = 10_000.0  # the slowest pair of units turns so many times more slowly than the fastest, which turns by 1


class Turn(NamedTuple):
    """R_t for some moments."""

    cosine: Tensor  # (..., 1, units / 2)
    sine: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """R_t x. Shapes: x (..., heads, units)."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cosine - second * self.sine, first * self.sine + second * self.cosine], dim=-1)


class Layer(nn.Module):
    """One layer of `heads` heads, normalised before each product."""

    def __init__(self, size: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads, self.units = heads, size // heads
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.projections = nn.Linear(size, 3 * size, bias=False)
        self.output = nn.Linear(size, size)
        self.feedforward = nn.Sequential(nn.Linear(size, feedforward), nn.ReLU(), nn.Linear(feedforward, size))

    def turn(self, moment: Tensor) -> Turn:
        """R_t for moments (...)."""
        half, weight = self.units // 2, self.output.weight
        speed = SLOWEST ** (-torch.arange(half, device=weight.device, dtype=weight.dtype) / half)
        angle = (moment.to(weight.dtype).unsqueeze(-1) * speed).unsqueeze(-2)
        return Turn(angle.cos(), angle.sin())

    def project(self, x: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """R q, R k and v. Shapes: x (..., size) -> three of (..., heads, units)."""
        q, k, v = self.projections(self.attention_norm(x)).unflatten(-1, (3 * self.heads, self.units)).chunk(3, dim=-2)
        return turn.apply(q), turn.apply(k), v

    def scores(self, q: Tensor, k: Tensor, seen: Tensor) -> Tensor:
        """q . k / sqrt(units), minus infinity where it is not seen.

        Shapes: q (rows, heads, Q, units), k (rows, heads, K, units), seen (rows, Q, K) bool -> (rows, heads, Q, K).
        """
        scores: Tensor = q @ k.transpose(-1, -2) / self.units**0.5
        return scores.masked_fill(~seen.unsqueeze(1), -torch.inf)

    def close(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows the sum over moments. Shapes: x (..., size), attended (..., heads, units) -> (..., size)."""
        y = x + self.output(attended.flatten(-2))
        closed: Tensor = y + self.feedforward(self.feedforward_norm(y))
        return closed
