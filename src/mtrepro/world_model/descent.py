"""One step of an optimiser with its gradients' norm limited, as both Dreamers do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrepro.engine.adam import Adam


def descend(optimiser: Adam, loss: Tensor, limit: float, decay: float = 0.0) -> Tensor:
    """`descend_along` the gradient of `loss`; no other parameter's gradient is computed or kept.

    Returns:
        |g| before it was limited; scalar, or (seeds,) of stacked seeds.
    """
    if not optimiser.parameters:  # all of them are frozen
        return torch.zeros_like(loss.detach())
    gradients = torch.autograd.grad(loss, optimiser.parameters, torch.ones_like(loss))
    return descend_along(optimiser, gradients, limit, decay)


@torch.no_grad()
def descend_along(optimiser: Adam, gradients: Sequence[Tensor], limit: float, decay: float = 0.0) -> Tensor:
    """w <- (1 - decay) w, then Adam along g min(1, limit / |g|), |g| over all of the optimiser's parameters.

    Returns:
        |g| before it was limited; scalar, or (seeds,) of stacked seeds, of whom each has its own.
    """
    norm = _norm(optimiser, gradients)
    share = limit / norm.clamp(min=limit)
    if optimiser.stacked:
        shortened = [share.view(-1, *[1] * (gradient.dim() - 1)) * gradient for gradient in gradients]
    else:
        shortened = list(torch._foreach_mul(list(gradients), share))
    if decay:
        torch._foreach_mul_(list[Tensor](optimiser.parameters), 1 - decay)
    optimiser.descend(shortened)
    return norm


def _norm(optimiser: Adam, gradients: Sequence[Tensor]) -> Tensor:
    if not optimiser.stacked:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))  # type: ignore[no-any-return]
    each = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(each), dim=0)  # type: ignore[no-any-return]
