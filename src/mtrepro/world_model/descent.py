"""One step of an optimiser with its gradients' norm limited, as both Dreamers do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrepro.engine.adam import Adam


def descend(optimiser: Adam, loss: Tensor, limit: float, decay: float = 0.0) -> Tensor:
    """`descend_along` the gradient of `loss`; no other parameter's gradient is computed or kept.

    Returns:
        |g| before it was limited; scalar.
    """
    if not optimiser.parameters:  # all of them are frozen
        return torch.zeros_like(loss.detach())
    return descend_along(optimiser, torch.autograd.grad(loss, optimiser.parameters), limit, decay)


@torch.no_grad()
def descend_along(optimiser: Adam, gradients: Sequence[Tensor], limit: float, decay: float = 0.0) -> Tensor:
    """w <- (1 - decay) w, then Adam along g min(1, limit / |g|), |g| over all of the optimiser's parameters.

    Returns:
        |g| before it was limited; scalar.
    """
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    shortened = torch._foreach_mul(list(gradients), limit / norm.clamp(min=limit))
    if decay:
        torch._foreach_mul_(list[Tensor](optimiser.parameters), 1 - decay)
    optimiser.descend(shortened)
    return norm
