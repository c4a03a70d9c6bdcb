"""Linear layers of one network, or of the networks of several seeds at once: one batched product moves all of them.

A seed in a stack must have the bits of that seed alone. A batched product has those of single ones for most sizes, not
for all (the matrix library chooses its ways by size, processor and threads), so the machine is asked, once for each
size. What is not equal is multiplied seed by seed. On a GPU nothing is stacked here: soft_actor_critic/mapped.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

ALIGNMENT = 16  # floats: the library takes other ways, with other bits, through memory that begins elsewhere


class Layers(nn.Sequential):
    """Linear layers with an activation between each two: (..., inputs) -> (..., outputs).

    Of stacked seeds: (seeds, batch, inputs) -> (seeds, batch, outputs), y = x W^T + b with W (seeds, outputs, inputs)
    and b (seeds, outputs).
    """

    def forward(self, input: Tensor) -> Tensor:
        layers = list(self)
        linear, between = layers[::2], layers[1::2]
        weight: Any = linear[0].weight
        if weight.dim() == 2:
            output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return output
        if len(linear) == len(between) or not all(isinstance(layer, nn.ReLU) for layer in between):
            raise NotImplementedError("seeds are stacked where a ReLU stands between each two layers")
        weights: list[Any] = [layer.weight for layer in linear]
        biases: list[Any] = [layer.bias for layer in linear]
        exact = _all_exact(input.shape[:2], tuple(weight.shape[1:] for weight in weights), torch.get_num_threads())
        return _through(input, exact, weights, biases)


class Exact(NamedTuple):
    """Which batched products have the bits of single ones."""

    output: bool = True
    turned: bool = False  # the output, where it is computed the other way round: W x^T
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


class _Through(torch.autograd.Function):
    """The linear layers of all seeds with ReLU between them, as one node of autograd.

    At sizes at which stacking pays, a node for each layer would cost as much as its product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, exact: tuple[Exact, ...], *parameters: Tensor) -> Tensor:
        weights = parameters[: len(exact)]
        *inputs, output = _values(x, exact, weights, parameters[len(exact) :])
        ctx.save_for_backward(*inputs, *weights)
        ctx.exact = exact
        return output

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> Any:
        exact, saved = ctx.exact, ctx.saved_tensors
        count = len(exact)
        needs_x, _, *needs = ctx.needs_input_grad
        of_weights: list[Tensor | None] = [None] * count
        of_biases: list[Tensor | None] = [None] * count
        back = back.contiguous()  # sums take another order through memory that lies otherwise
        for layer in reversed(range(count)):
            x, weight, its = saved[layer], saved[count + layer], exact[layer]
            if needs[layer]:
                of_weights[layer] = _products(back.mT, x, its.weight)
                of_biases[layer] = back.sum(1)
            if layer:
                back = _products(back, weight, its.inputs)
                _stop_where_zero(back, x, 0, grad_input=back)
        return _products(back, saved[count], exact[0].inputs) if needs_x else None, None, *of_weights, *of_biases


_stop_where_zero = torch.ops.aten.threshold_backward.grad_input


def _values(x: Tensor, exact: Sequence[Exact], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """What goes into each layer, and what comes out of the last."""
    values = [x]
    for weight, bias, its in zip(weights, biases, exact, strict=True):
        if len(values) > 1:
            values[-1].relu_()
        values.append(_output(values[-1], weight, bias, its))
    return values


def _through(x: Tensor, exact: tuple[Exact, ...], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    if not torch.is_grad_enabled():
        return _values(x, exact, weights, biases)[-1]
    output: Tensor = _Through.apply(x, exact, *weights, *biases)  # type: ignore[no-untyped-call]
    return output


def _output(x: Tensor, weight: Tensor, bias: Tensor, exact: Exact) -> Tensor:
    """x W^T + b: (seeds, batch, inputs) -> (seeds, batch, outputs), contiguous and its own."""
    if exact.output:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    if exact.turned:
        return torch.baddbmm(bias.unsqueeze(2), weight, x.mT).mT.contiguous()
    each = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
    return torch.stack([functional.linear(*one) for one in each])


def _products(left: Tensor, right: Tensor, batched: bool) -> Tensor:
    """(seeds, n, m) and (seeds, m, k) -> (seeds, n, k)."""
    if batched:
        return torch.bmm(left, right)
    return torch.stack([one.mm(other) for one, other in zip(left.unbind(), right.unbind(), strict=True)])


@functools.cache
def _all_exact(batch: tuple[int, ...], sizes: tuple[tuple[int, ...], ...], threads: int) -> tuple[Exact, ...]:
    """Of the layers with weights (seeds, outputs, inputs) of these `sizes`, each without its seeds."""
    return tuple(_exact(batch[0], batch[1], inputs, outputs, threads) for outputs, inputs in sizes)


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
    ways = [Exact(), Exact(output=False, turned=True)]
    together, turned = (
        _with_gradients(lambda x, weight, bias, way=way: _through(x, (way,), [weight], [bias]), [x, weight, bias], back)
        for way in ways
    )
    alone = [_with_gradients(functional.linear, [x[k], weight[k], bias[k]], back[k]) for k in range(seeds)]
    output, of_inputs, of_weight, of_bias, of_turned = (
        all(torch.equal(all_of_them[seed], single[index]) for seed, single in enumerate(alone))
        for all_of_them, index in zip([*together, turned[0]], [0, 1, 2, 3, 0], strict=True)
    )
    if not of_bias:
        raise AssertionError(f"sums over {rows} rows of {outputs} depend on how many seeds are summed at once")
    return Exact(output, of_turned, of_inputs, of_weight)


@torch.enable_grad()
def _with_gradients(product: Callable[..., Tensor], given: list[Tensor], back: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in given]
    output = product(*leaves)
    return [output, *torch.autograd.grad(output, leaves, back)]
