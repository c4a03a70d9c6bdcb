"""The replay on a device, tried on the CPU: the rows, the checkpoint and the blocks of the one in main memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrepro.engine.device_replay import BLOCK, DeviceReplay
from mtrepro.engine.replay import Replay, Sampling
from mtrepro.engine.streams import numpy_stream
from mtrepro.networks.tasks import BatchTasks, StackedLinear
from tests.unit.test_replay import CPU, step


def pair(sampling: Sampling) -> tuple[Replay, DeviceReplay]:
    kinds = (Replay, DeviceReplay)
    host, device = (kind(12, 3, (2,), 1, sampling, numpy_stream(0, "test"), CPU) for kind in kinds)
    assert isinstance(device, DeviceReplay)
    return host, device


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_it_draws_the_same_rows_and_saves_the_same_state(sampling: Sampling) -> None:
    host, device = pair(sampling)
    for number in range(7):  # more than it holds
        host.add(step(number))
        device.add(step(number))
    for mine, its in zip(host.draw(60), device.draw(60), strict=True):
        assert torch.equal(mine, its)
    _, other = pair(sampling)
    other.load_state(host.state())
    for mine, its in zip(host.draw(60), other.draw(60), strict=True):
        assert torch.equal(mine, its)
    device.draw(60)
    for key, value in host.state().items():
        assert np.array_equal(value, device.state()[key]), key


def test_the_longest_task_is_known_without_the_device_in_few_different_lengths() -> None:
    _, device = pair("uniform")
    device.add(step(0))
    for _ in range(20):
        counted = int(torch.bincount(device.draw(150).task).max())
        assert device.longest is not None
        assert counted <= device.longest < counted + BLOCK and device.longest % BLOCK == 0


def test_longer_blocks_give_every_row_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    task = torch.randint(3, (50,), generator=generator)
    rows, layer = torch.randn(50, 4, generator=generator), StackedLinear(3, 4, 2)
    layer.initialise(generator)

    def through(longest: int | None) -> torch.Tensor:
        groups = BatchTasks(task, 3, longest).groups
        return groups.ungroup(layer(groups.group(rows)))

    exact = int(torch.bincount(task).max())
    assert torch.equal(through(None), through(exact))
    torch.testing.assert_close(through(None), through(64))
