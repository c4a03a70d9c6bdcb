"""Layers of stacked seeds beside the same layers of each seed alone, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtrepro.networks import stacked
from mtrepro.networks.mlp import mlp
from mtrepro.networks.stacked import Layers, lend_rooms, room

SEEDS, ROWS, INPUTS = 3, 32, 7


def stack_of(networks: list[Layers]) -> Layers:
    """One network whose parameters are those of all."""
    stack = mlp(networks[0][0].in_features, 16, 2, 1)  # type: ignore[arg-type]
    rows = list(zip(*(network.parameters() for network in networks), strict=True))
    _, views = room(SEEDS, [its[0].shape for its in rows], torch.empty(0))
    for parameter, view, its in zip(stack.parameters(), views, rows, strict=True):
        view.copy_(torch.stack([each.detach() for each in its]))
        parameter.data = view
    return stack


def inputs() -> Tensor:
    return torch.randn(SEEDS, ROWS, INPUTS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("of_parameters", [True, False])
def test_a_stack_has_outputs_and_gradients_of_each_alone(of_parameters: bool) -> None:
    torch.manual_seed(0)
    networks = [mlp(INPUTS, 16, 2, 1) for _ in range(SEEDS)]
    stack = stack_of(networks).requires_grad_(of_parameters)
    x = inputs().requires_grad_()
    output = stack(x)
    wanted = [x, *stack.parameters()] if of_parameters else [x]
    found = torch.autograd.grad(output.square().sum(), wanted)
    with torch.no_grad():
        assert torch.equal(stack(x), output)
    for seed, network in enumerate(networks):
        own = x.detach()[seed].requires_grad_()
        alone = network(own)
        assert torch.equal(output[seed], alone)
        expected = torch.autograd.grad(alone.square().sum(), [own, *network.parameters()])
        for mine, its in zip(found, expected, strict=False):
            assert torch.equal(mine[seed], its)


@pytest.mark.parametrize(("inputs", "part"), [(53, 16), (16, None), (7, None)])
def test_where_few_inputs_need_gradients_few_are_computed_with_the_bits_of_all(inputs: int, part: int | None) -> None:
    torch.manual_seed(0)
    networks = [mlp(inputs, 16, 2, 1) for _ in range(SEEDS)]
    stack, x = stack_of(networks).requires_grad_(False), torch.randn(SEEDS, ROWS, inputs).requires_grad_()
    (whole,) = torch.autograd.grad(stack(x).square().sum(), [x])
    stack.live = 4
    (found,) = torch.autograd.grad(stack(x).square().sum(), [x])
    assert torch.equal(found[..., -4:], whole[..., -4:])
    computed = stacked._exact_last(4, x.shape, 16, torch.get_num_threads())
    assert computed in (part, None)  # None also where this machine's library would give other bits
    assert torch.equal(
        found[..., : inputs - (computed or inputs)], torch.zeros(SEEDS, ROWS, inputs - (computed or inputs))
    )


def test_a_room_for_gradients_is_used_once_and_a_second_use_adds_to_it() -> None:
    torch.manual_seed(0)
    stack = stack_of([mlp(INPUTS, 16, 2, 1) for _ in range(SEEDS)])
    parameters, x = list(stack.parameters()), inputs()
    expected = torch.autograd.grad(stack(x).sum(), parameters)
    rooms = [torch.zeros_like(parameter) for parameter in parameters]
    lend_rooms(parameters, rooms)
    found = torch.autograd.grad(stack(x).sum(), parameters)
    assert all(each.data_ptr() == its.data_ptr() for each, its in zip(found, rooms, strict=True))
    assert all(torch.equal(each, its) for each, its in zip(found, expected, strict=True))
    lend_rooms(parameters, rooms)
    twice = torch.autograd.grad(stack(x).sum() + stack(x).sum(), parameters)
    assert all(torch.equal(each, 2 * its) for each, its in zip(twice, expected, strict=True))


def test_what_is_not_exact_for_stacked_seeds_is_refused() -> None:
    stack = mlp(INPUTS, 16, 1, 1, nn.Tanh)
    for parameter in stack.parameters():
        parameter.data = parameter.data.expand(SEEDS, *parameter.shape)
    with pytest.raises(NotImplementedError, match="a ReLU stands between each two"):
        stack(inputs())


def test_a_slice_of_layers_is_those_layers() -> None:
    layers = mlp(3, 4, 2, 1)
    x = torch.randn(5, 3)
    assert torch.equal(layers[4:](layers[:4](x)), layers(x))
