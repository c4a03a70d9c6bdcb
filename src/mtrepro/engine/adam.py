"""Adam by torch's own fused kernel, without torch's optimiser class.

`torch.optim.Adam` imports torch's compiler when it is constructed: about four seconds of every process that trains,
on two cores, for nothing that a run uses. The kernel is the same, so the bits are; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Adam:
    """Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  w <- w - rate m_hat / (sqrt(v_hat) + eps)
    """

    stacked = False  # whether parameters are those of several seeds, (seeds, *shape)

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters)
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]  # m
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]  # v
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def minimise(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`, with respect to these parameters alone.

        No other parameter's gradient is computed or kept; one that `loss` does not reach stays where it is.
        """
        gradients = torch.autograd.grad(loss, self.parameters, torch.ones_like(loss), allow_unused=True)
        self.descend(gradients)

    @torch.no_grad()
    def descend(self, gradients: Iterable[Tensor | None]) -> None:
        """One step along given gradients, one for each parameter in order; None leaves a parameter as it is."""
        given = list(gradients)
        used = [index for index, gradient in enumerate(given) if gradient is not None]
        if not used:
            return
        torch._foreach_add_([self.steps[index] for index in used], 1)
        self._move(
            [self.parameters[index] for index in used],
            # The kernel goes through memory as it lies: of a gradient that lies otherwise it would take other elements.
            [gradient.contiguous() for gradient in given if gradient is not None],
            [self.first[index] for index in used],
            [self.second[index] for index in used],
            [self.steps[index] for index in used],
        )

    def _move(self, *state: Sequence[Tensor]) -> None:
        """Move parameters; also given: their gradients, both moments, and how many steps there were with this one."""
        parameters, gradients, first, second, steps = map(list, state)
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            lr=self.rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> list[Tensor]:
        """What a step changes beside the parameters."""
        return [*self.first, *self.second, *self.steps]

    def state(self) -> dict[str, Any]:
        """Moments and step counts."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        for name in ("first", "second", "steps"):
            for mine, saved in zip(getattr(self, name), state[name], strict=True):
                mine.copy_(saved)
