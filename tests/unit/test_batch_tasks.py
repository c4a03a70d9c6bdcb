"""Rows grouped by task: there and back, with gradients, against loops over the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrepro.networks.tasks import BatchTasks, Groups, StackedLinear

BATCHES = {
    "uneven, one task empty": [3, 0, 3, 2, 0, 3, 3, 2, 0, 0],
    "the first and the last empty": [1, 2, 1, 2, 2],
    "one task alone": [2, 2, 2],
    "one row": [0],
    "as many of each": [0, 1, 2, 3, 3, 2, 1, 0],
}
batches = pytest.mark.parametrize("task", BATCHES.values(), ids=BATCHES.keys())


def rows(count: int, width: int, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, width, generator=generator, dtype=torch.float64, requires_grad=grad)


def naive(given: Tensor, task: list[int], count: int) -> Tensor:
    """Blocks filled row by row: each row behind those of its task before it, the rest zero."""
    longest = max(task.count(t) for t in range(count))
    blocks = [
        [given[i] for i, other in enumerate(task) if other == t]
        + [torch.zeros_like(given[0])] * (longest - task.count(t))
        for t in range(count)
    ]
    return torch.stack([torch.stack(block) for block in blocks])


@batches
def test_blocks_hold_each_tasks_rows_in_order_and_zeros_behind(task: list[int]) -> None:
    given = rows(len(task), 3)
    blocks = Groups(torch.tensor(task), 4).group(given)
    assert torch.equal(blocks, naive(given, task, 4))


@batches
def test_there_and_back_is_the_same_batch(task: list[int]) -> None:
    given, groups = rows(len(task), 3), Groups(torch.tensor(task), 4)
    assert torch.equal(groups.ungroup(groups.group(given)), given)


@batches
def test_what_stands_in_the_padding_is_never_read_and_gets_no_gradient(task: list[int]) -> None:
    groups, given = Groups(torch.tensor(task), 4), rows(len(task), 2)
    padding = groups.group(torch.ones_like(given)) == 0
    blocks = groups.group(given).masked_fill(padding, float("nan")).requires_grad_()
    out = groups.ungroup(blocks)
    assert torch.equal(out, given)
    (gradient,) = torch.autograd.grad(out.sum(), blocks)
    assert torch.equal(gradient == 0, padding)


@batches
def test_gradients_are_those_of_a_naive_gather(task: list[int]) -> None:
    groups, given = Groups(torch.tensor(task), 4), rows(len(task), 2, grad=True)
    weights = rows(4 * groups.longest, 2).view(4, groups.longest, 2)
    (measured,) = torch.autograd.grad((groups.group(given).sin() * weights).sum(), given)
    (expected,) = torch.autograd.grad((naive(given, task, 4).sin() * weights).sum(), given)
    torch.testing.assert_close(measured, expected, rtol=1e-12, atol=1e-12)
    torch.autograd.gradcheck(groups.group, (given,))
    blocks = rows(4 * groups.longest, 2).view(4, groups.longest, 2).requires_grad_()
    torch.autograd.gradcheck(groups.ungroup, (blocks,))


@batches
def test_a_stack_of_layers_through_groups_is_each_row_through_its_own_layer(task: list[int]) -> None:
    layer, groups = StackedLinear(4, 3, 2).double(), Groups(torch.tensor(task), 4)
    with torch.no_grad():
        layer.weight.copy_(rows(12, 2).view(4, 3, 2))
        layer.bias.copy_(rows(4, 2).view(4, 1, 2))
    given = rows(len(task), 3, grad=True)
    measured = groups.ungroup(layer(groups.group(given)))
    expected = torch.stack([given[i] @ layer.weight[t] + layer.bias[t, 0] for i, t in enumerate(task)])
    torch.testing.assert_close(measured, expected, rtol=1e-12, atol=1e-12)
    moved: Any = [given, layer.weight, layer.bias]
    for one, other in zip(
        torch.autograd.grad(measured.square().sum(), moved),
        torch.autograd.grad(expected.square().sum(), moved),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    absent = [t for t in range(4) if t not in task]
    gradient = torch.autograd.grad(groups.ungroup(layer(groups.group(given))).sum(), layer.bias)[0]
    assert not gradient[absent].any(), "a task without rows moves nothing"


@batches
def test_rows_of_a_table_and_one_hots(task: list[int]) -> None:
    tasks, table = BatchTasks(torch.tensor(task), 4), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(tasks.one_hot, torch.from_numpy(np.eye(4, dtype=np.float32)[task]))
    assert torch.equal(tasks.rows(table), table[task])
