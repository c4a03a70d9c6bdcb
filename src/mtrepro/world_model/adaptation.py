"""Adapting a world model to a task by a few gradient steps, through which gradients may pass.

    theta_0 = theta,  theta_{k+1} = theta_k - alpha g_k min(1, limit / |g_k|),  g_k = d L(support; theta_k) / d theta_k

Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017 (1703.03400),
section 2.2, with the gradient's length limited: the loss is a sum over pixels, and unlimited steps on it explode with
their number. Second order: d theta_K / d theta is differentiated through; first order: it is taken for the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Parameters = dict[str, Tensor]  # by their names in the module
Result = TypeVar("Result")


def parameters_of(module: nn.Module) -> Parameters:
    """Its own, as they are: gradients reach them."""
    return dict(module.named_parameters())


def apart(parameters: Parameters) -> Parameters:
    """The same numbers, from which no gradient passes back."""
    return {name: each.detach() for name, each in parameters.items()}


def under(module: nn.Module, parameters: Parameters, use: Callable[[], Result]) -> Result:
    """What `use` gives while `parameters` stand in the place of the module's own, by `torch.func.functional_call`."""
    stand_in = {f"module.{name}": each for name, each in parameters.items()}
    return cast(Result, torch.func.functional_call(_Using(module), stand_in, (use,)))


def adapt(
    module: nn.Module,
    parameters: Parameters,
    loss: Callable[[], Tensor],
    steps: int,
    rate: float,
    limit: float,
    second_order: bool = False,
) -> Parameters:
    """theta_K.

    Args:
        parameters: theta_0; every one must require a gradient.
        loss: L(support) of the module with whatever parameters stand in it; scalar.
        steps: K; with 0 what comes back is `parameters`.
        rate: alpha.
        limit: the length that no step's gradient exceeds.
    """
    for _ in range(steps):
        gradients = torch.autograd.grad(
            under(module, parameters, loss), list(parameters.values()), create_graph=second_order
        )
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
        step = rate * limit / length.clamp(min=limit)
        parameters = {
            name: each - step * gradient for (name, each), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


class _Using(nn.Module):
    """functional_call reaches a module's `forward` alone; this one lets anything be called there."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, use: Callable[[], Any]) -> Any:
        return use()
