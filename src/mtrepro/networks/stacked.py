"""Linear layers of one network, or of the networks of several seeds at once: one batched product moves all of them.

A seed in a stack must have the bits of that seed alone. A batched product has those of single ones for most sizes, not
for all (the matrix library chooses its ways by size, processor and threads), so the machine is asked, once for each
size. What is not equal is multiplied seed by seed. On a GPU no such promise is given: there it is always one product.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ALIGNMENT = 16  # floats: the library takes other ways, with other bits, through memory that begins elsewhere


class Linear(nn.Linear):
    """y = x W^T + b: (batch, inputs) -> (batch, outputs).

    Of stacked seeds: (seeds, batch, inputs) -> (seeds, batch, outputs), with W (seeds, outputs, inputs) and
    b (seeds, outputs).
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return functional.linear(input, self.weight, self.bias)
        if self.weight.is_cuda or _batched_is_exact(*input.shape, self.weight.shape[1], torch.get_num_threads()):
            return _batched(input, self.weight, self.bias)
        product: Tensor = _EachAlone.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product


def aligned(seeds: int, shape: torch.Size, like: Tensor) -> Tensor:
    """Room for a tensor of every seed, (seeds, *shape), each of them contiguous and where an allocation may begin."""
    numbers = shape.numel()
    room = torch.empty(seeds, -(-numbers // ALIGNMENT) * ALIGNMENT, dtype=like.dtype, device=like.device)
    return room[:, :numbers].view(seeds, *shape)


def _batched(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


@functools.cache
def _batched_is_exact(seeds: int, rows: int, inputs: int, outputs: int, threads: int) -> bool:
    """Whether the batched product and its gradients have the bits of single ones, tried on drawn numbers.

    Another order of summation changes some of so many sums: that none is changed by chance is not to be expected.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = (seeds, rows, inputs), (seeds, outputs, inputs), (seeds, outputs), (seeds, rows, outputs)
    *given, back = (torch.randn(shape, generator=generator) for shape in shapes)
    room = [given[0], *(aligned(seeds, each.shape[1:], each).copy_(each) for each in given[1:])]
    together = _with_gradients(_batched, room, back)
    for seed in range(seeds):
        alone = _with_gradients(functional.linear, [each[seed].clone() for each in given], back[seed].clone())
        if not all(torch.equal(one[seed], other) for one, other in zip(together, alone, strict=True)):
            return False
    return True


@torch.enable_grad()
def _with_gradients(product: Any, given: list[Tensor], back: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in given]
    output = product(*leaves)
    return [output, *torch.autograd.grad(output, leaves, back)]


class _EachAlone(torch.autograd.Function):
    """The same, each seed's products by themselves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        output = x.new_empty(*x.shape[:2], weight.shape[1])
        for one, matrix, offset, into in zip(x, weight, bias, output, strict=True):
            into.copy_(functional.linear(one, matrix, offset))
        return output

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            torch.stack([g.mm(w) for g, w in zip(back, weight, strict=True)]) if wanted[0] else None,
            torch.stack([g.t().mm(one) for g, one in zip(back, x, strict=True)]) if wanted[1] else None,
            torch.stack([g.sum(0) for g in back]) if wanted[2] else None,
        )
