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

    live: int | None = None  # of stacked seeds: a gradient flows to so many of the last inputs; None: to all

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
        sizes, threads = tuple(weight.shape[1:] for weight in weights), torch.get_num_threads()
        exact = _all_exact(input.shape[:2], sizes, threads)
        last = None if self.live is None else _exact_last(self.live, input.shape, sizes[0][0], threads)
        return _through(input, How(exact, last, taken_rooms([*weights, *biases])), weights, biases)


class Exact(NamedTuple):
    """Which batched products have the bits of single ones."""

    output: bool = True
    turned: bool = False  # the output, where it is computed the other way round: W x^T
    inputs: bool = True  # the inputs' gradient
    weight: bool = True  # the weights'


class How(NamedTuple):
    """How layers are computed."""

    exact: tuple[Exact, ...]  # of each layer
    last: int | None = None  # so many of the last inputs' gradients are enough
    rooms: Sequence[Tensor | None] = ()  # where gradients of weights, then of biases, are written; none: anywhere


def lend_rooms(parameters: Sequence[Tensor], rooms: Sequence[Tensor]) -> None:
    """Let the next gradients of these parameters be written there, (seeds, *shape) each."""
    for parameter, its in zip(parameters, rooms, strict=True):
        parameter.gradient_room = its  # type: ignore[attr-defined]


def taken_rooms(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The rooms that were lent. Each is given once: using parameters again before they move adds to the gradients."""
    if not torch.is_grad_enabled() or not parameters[0].requires_grad:
        return [None] * len(parameters)
    rooms = [getattr(parameter, "gradient_room", None) for parameter in parameters]
    for parameter in parameters:
        parameter.gradient_room = None  # type: ignore[attr-defined]
    return rooms


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
    def forward(ctx: Any, x: Tensor, how: How, *parameters: Tensor) -> Tensor:
        count = len(how.exact)
        *inputs, output = _values(x, how.exact, parameters[:count], parameters[count:])
        ctx.save_for_backward(*inputs, *parameters[:count])
        ctx.how = how
        return output

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> Any:
        how, saved = ctx.how, ctx.saved_tensors
        count = len(how.exact)
        needs_x, _, *needs = ctx.needs_input_grad
        rooms = how.rooms or [None] * 2 * count
        of_weights: list[Tensor | None] = [None] * count
        of_biases: list[Tensor | None] = [None] * count
        back = back.contiguous()  # sums take another order through memory that lies otherwise
        for layer in reversed(range(count)):
            x, weight, its = saved[layer], saved[count + layer], how.exact[layer]
            if needs[layer]:
                of_weights[layer] = _products(back.mT, x, its.weight, rooms[layer])
                of_biases[layer] = torch.sum(back, 1, out=rooms[count + layer])
            if layer:
                back = _products(back, weight, its.inputs)
                _stop_where_zero(back, x, 0, grad_input=back)
        of_x = _of_inputs(back, saved[count], how.exact[0].inputs, how.last) if needs_x else None
        return of_x, None, *of_weights, *of_biases


_stop_where_zero = torch.ops.aten.threshold_backward.grad_input


def _values(x: Tensor, exact: Sequence[Exact], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """What goes into each layer, and what comes out of the last."""
    values = [x]
    for weight, bias, its in zip(weights, biases, exact, strict=True):
        if len(values) > 1:
            values[-1].relu_()
        values.append(_output(values[-1], weight, bias, its))
    return values


def _through(x: Tensor, how: How, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    if not torch.is_grad_enabled():
        return _values(x, how.exact, weights, biases)[-1]
    output: Tensor = _Through.apply(x, how, *weights, *biases)  # type: ignore[no-untyped-call]
    return output


def _output(x: Tensor, weight: Tensor, bias: Tensor, exact: Exact) -> Tensor:
    """x W^T + b: (seeds, batch, inputs) -> (seeds, batch, outputs), contiguous and its own."""
    if exact.output:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    if exact.turned:
        return torch.baddbmm(bias.unsqueeze(2), weight, x.mT).mT.contiguous()
    each = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
    return torch.stack([functional.linear(*one) for one in each])


def _of_inputs(back: Tensor, weight: Tensor, batched: bool, last: int | None) -> Tensor:
    """The gradient (seeds, batch, inputs); zero but for the `last` inputs where so many are enough."""
    if last is None:
        return _products(back, weight, batched)
    all_of_them = back.new_zeros((*back.shape[:2], weight.shape[2]))
    all_of_them[..., -last:] = torch.bmm(back, weight[..., -last:])
    return all_of_them


def _products(left: Tensor, right: Tensor, batched: bool, room: Tensor | None = None) -> Tensor:
    """(seeds, n, m) and (seeds, m, k) -> (seeds, n, k), in `room` where it is given."""
    if batched:
        return torch.bmm(left, right, out=room)
    return torch.stack([one.mm(other) for one, other in zip(left.unbind(), right.unbind(), strict=True)], out=room)


@functools.cache
def _all_exact(batch: tuple[int, ...], sizes: tuple[tuple[int, ...], ...], threads: int) -> tuple[Exact, ...]:
    """Of the layers with weights (seeds, outputs, inputs) of these `sizes`, each without its seeds."""
    return tuple(_exact(batch[0], batch[1], inputs, outputs, threads) for outputs, inputs in sizes)


@functools.cache
def _exact(seeds: int, rows: int, inputs: int, outputs: int, threads: int) -> Exact:
    """Which batched products have the bits of single ones, tried on drawn numbers.

    Another order of summation changes some of so many sums: that none is changed by chance is not to be expected.
    """
    x, weight, bias, back = _drawn(seeds, (rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    ways = [Exact(), Exact(output=False, turned=True)]
    together, turned = (
        _with_gradients(
            lambda x, weight, bias, way=way: _through(x, How((way,)), [weight], [bias]), [x, weight, bias], back
        )
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


@functools.cache
def _exact_last(live: int, batch: tuple[int, ...], outputs: int, threads: int) -> int | None:
    """How many of the last inputs' gradients have, by themselves, the bits of all: at least `live`, or None.

    The library takes other ways through very few columns, so some more are tried; all of them are the slow way.
    """
    seeds, rows, inputs = batch
    weight, back = _drawn(seeds, (outputs, inputs), (rows, outputs))
    alone = [one.mm(other) for one, other in zip(back.unbind(), weight.unbind(), strict=True)]
    for last in range(-(-live // ALIGNMENT) * ALIGNMENT, inputs, ALIGNMENT):
        found = torch.bmm(back, weight[..., -last:])
        if all(torch.equal(part, whole[:, -last:]) for part, whole in zip(found.unbind(), alone, strict=True)):
            return last
    return None


def _drawn(seeds: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Tensors (seeds, *shape) of drawn numbers, which lie as stacked parameters do."""
    generator = torch.Generator().manual_seed(0)
    _, tensors = room(seeds, [torch.Size(shape) for shape in shapes], torch.empty(0))
    for given in tensors:
        given.copy_(torch.randn(given.shape, generator=generator))
    return tensors


@torch.enable_grad()
def _with_gradients(product: Callable[..., Tensor], given: list[Tensor], back: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in given]
    output = product(*leaves)
    return [output, *torch.autograd.grad(output, leaves, back)]
