"""Lambda-returns of imagined trajectories, and how much each moment counts."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_returns(r: Tensor, v: Tensor, gamma: Tensor, lambda_: float) -> Tensor:
    """V_t = r_t + gamma_t ((1 - lambda) v_{t+1} + lambda V_{t+1}), V_H = v_H: v1 eq. 6, v2 eq. 4.

    As in the published code, r_t is the reward that came with moment t, so V_t and v_t contain it.

    Shapes: r, gamma (H, ...) at moments 0 to H - 1, v (H + 1, ...) at moments 0 to H -> (H, ...).
    """
    following, returns = v[-1], list[Tensor]()
    for t in reversed(range(len(r))):
        following = r[t] + gamma[t] * torch.lerp(v[t + 1], following, lambda_)
        returns.append(following)
    return torch.stack(returns[::-1])


def weights(gamma: Tensor, alive: Tensor) -> Tensor:
    """How much each imagined moment counts: w_1 = alive, w_{t+1} = w_t gamma_t (v1: the chance to get there at all).

    Shapes: gamma (K, ...) at moments 1 to K, alive (...) -> (K, ...), without gradient.
    """
    return torch.cat([alive.unsqueeze(0), gamma[:-1]]).cumprod(0).detach()
