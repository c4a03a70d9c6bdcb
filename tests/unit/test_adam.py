"""Our Adam is torch's Adam, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtrepro.engine.adam import Adam


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 20), nn.Tanh(), nn.Linear(20, 3))


def test_fifty_steps_give_the_bits_of_torchs_own_fused_adam() -> None:
    ours, theirs = _network(), _network()
    adam, peer = Adam(ours.parameters(), 3e-3), torch.optim.Adam(theirs.parameters(), 3e-3, fused=True)
    for step in range(50):
        inputs = torch.randn(16, 7, generator=torch.Generator().manual_seed(step))
        adam.minimise(ours(inputs).square().mean())
        peer.zero_grad()
        theirs(inputs).square().mean().backward()
        peer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_one_step_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    Adam([weight], rate=0.1).minimise((3 * weight).sum())
    # the first step is rate * g / (|g| + eps), whatever the gradient's size
    assert weight.item() == pytest.approx(2.0 - 0.1, abs=1e-6)


def test_a_parameter_that_the_loss_does_not_reach_stays_and_does_not_age() -> None:
    reached, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    adam = Adam([reached, other], 0.1)
    adam.minimise(reached.sum())
    assert torch.equal(other, torch.ones(2)) and adam.steps[1].item() == 0
    assert not torch.equal(reached, torch.ones(2))


def test_a_loaded_state_continues_to_the_same_bits() -> None:
    one, two = _network(), _network()
    first, second = Adam(one.parameters(), 1e-2), Adam(two.parameters(), 1e-2)
    for _ in range(3):
        first.minimise(one(torch.ones(1, 7)).sum())
    two.load_state_dict(one.state_dict())
    second.load_state(first.state())
    for network, adam in ((one, first), (two, second)):
        adam.minimise(network(torch.ones(1, 7)).square().sum())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_gradient_that_lies_otherwise_in_memory_moves_the_elements_that_it_belongs_to() -> None:
    start, gradient = torch.zeros(2, 3), torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    Adam([one], 0.1).descend([gradient])
    Adam([two], 0.1).descend([gradient.t().contiguous().t()])
    assert torch.equal(one, two) and torch.equal(one.sign(), -gradient.sign())
