"""Linear layers of one network, or of the networks of several seeds at once: one batched product moves all of them.

A seed in a stack must have the bits of that seed alone. A batched product has those of single ones for most sizes, not
for all (the matrix library chooses its ways by size, processor and threads), so the machine is asked, once for each
size. What is not equal is multiplied seed by seed. On a GPU no such promise is given: there it is always one product.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
        if self.weight.is_cuda:
            return torch.baddbmm(self.bias.unsqueeze(1), input, self.weight.mT)
        exact = _exact(*input.shape, self.weight.shape[1], torch.get_num_threads())
        return _product(input, self.weight, self.bias, exact)


class Exact(NamedTuple):
    """Which batched products have the bits of single ones."""

    output: bool = True
    inputs: bool = True  # the inputs' gradient
    weight: bool = True  # the weights'


def room(seeds: int, shapes: Sequence[torch.Size], like: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Room for some tensors of every seed: all of it, flat, and a view (seeds, *shape) of each.

    A seed's part of each is contiguous and begins where an allocation may begin; what lies between stays zero.
    """
    sizes = [-(-shape.numel() // ALIGNMENT) * ALIGNMENT for shape in shapes]
    flat = torch.zeros(seeds * sum(sizes), dtype=like.dtype, device=like.device)
    parts = torch.split(flat, [seeds * size for size in sizes])
    return flat, [
        part.view(seeds, -1)[:, : shape.numel()].view(seeds, *shape) for part, shape in zip(parts, shapes, strict=True)
    ]


class _Product(torch.autograd.Function):
    """The linear layers of all seeds: one batched product where that is exact, else each seed's by itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, exact: Exact) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.exact = exact
        if exact.output:
            return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        each = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
        return torch.stack([functional.linear(*one) for one in each])

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            _products(back, weight, ctx.exact.inputs) if needs_x else None,
            _products(back.mT, x, ctx.exact.weight) if needs_weight else None,
            back.sum(1) if needs_bias else None,
            None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor, exact: Exact) -> Tensor:
    product: Tensor = _Product.apply(x, weight, bias, exact)  # type: ignore[no-untyped-call]
    return product


def _products(left: Tensor, right: Tensor, batched: bool) -> Tensor:
    """(seeds, n, m) and (seeds, m, k) -> (seeds, n, k)."""
    if batched:
        return torch.bmm(left, right)
    return torch.stack([one.mm(other) for one, other in zip(left.unbind(), right.unbind(), strict=True)])


@functools.cache
def _exact(seeds: int, rows: int, inputs: int, outputs: int, threads: int) -> Exact:
    """Which batched products have the bits of single ones, tried on drawn numbers.

    Another order of summation changes some of so many sums: that none is changed by chance is not to be expected.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [torch.Size(shape) for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))]
    _, (x, weight, bias, back) = room(seeds, shapes, torch.empty(0))
    for given in (x, weight, bias, back):
        given.copy_(torch.randn(given.shape, generator=generator))
    together = _with_gradients(lambda *given: _product(given[0], given[1], given[2], Exact()), [x, weight, bias], back)
    same = [True] * len(together)
    for seed in range(seeds):
        alone = _with_gradients(functional.linear, [x[seed], weight[seed], bias[seed]], back[seed])
        same = [
            so_far and torch.equal(one[seed], other) for so_far, one, other in zip(same, together, alone, strict=True)
        ]
    output, of_inputs, of_weight, of_bias = same
    if not of_bias:
        raise AssertionError(f"sums over {rows} rows of {outputs} depend on how many seeds are summed at once")
    return Exact(output, of_inputs, of_weight)


@torch.enable_grad()
def _with_gradients(product: Callable[..., Tensor], given: list[Tensor], back: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in given]
    output = product(*leaves)
    return [output, *torch.autograd.grad(output, leaves, back)]
