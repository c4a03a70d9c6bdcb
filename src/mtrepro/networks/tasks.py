"""The tasks of a batch: as indices, as one-hot rows, and its rows grouped by task for per-task parameters."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class BatchTasks:
    """Which task each row of a batch belongs to; what follows from it is worked out once, when first asked."""

    def __init__(self, index: Tensor, count: int, longest: int | None = None) -> None:
        self.index, self.count = index, count  # (batch,) int64; number of tasks
        self.longest = longest  # rows of the longest task, or more; None asks the device for it

    @functools.cached_property
    def one_hot(self) -> Tensor:
        """(batch, tasks)."""
        return functional.one_hot(self.index, self.count).to(torch.get_default_dtype())

    @functools.cached_property
    def groups(self) -> Groups:
        """The rows by task."""
        return Groups(self.index, self.count, self.longest)

    def rows(self, table: Tensor) -> Tensor:
        """Each row's line of a table: (tasks, n) -> (batch, n).

        A product with the one-hot matrix: exact for a finite table in full precision; its gradient is a
        product too, the same bits each time.
        """
        return self.one_hot @ table


class Groups:
    """The rows of a batch in blocks, one for each task, all as long as the longest: what batched products need.

    A batch drawn uniformly has unequal numbers of rows for its tasks; the rest of a block is zero and never read.
    """

    def __init__(self, task: Tensor, count: int, longest: int | None = None) -> None:
        rows = torch.arange(len(task), device=task.device)
        # `bincount` looks at its input before it counts, which a GPU's recording must not; a sum has the same numbers.
        sizes = torch.bincount(task, minlength=count) if longest is None else functional.one_hot(task, count).sum(0)
        self.count, self.longest = count, int(sizes.max()) if longest is None else longest
        order = torch.argsort(task, stable=True)
        first = sizes.cumsum(0) - sizes  # where each task begins in that order
        of = task[order]
        self.slot = torch.empty_like(task)  # (batch,): row i lies at slot[i] of the flattened blocks
        self.slot[order] = of * self.longest + rows - first[of]
        self.row = task.new_full((count * self.longest,), len(task))  # its inverse; the row behind the last is zero
        self.row[self.slot] = rows

    def group(self, rows: Tensor) -> Tensor:
        """(batch, n) -> (tasks, longest, n)."""
        return _moved(rows, self.row, self.slot, True).view(self.count, self.longest, rows.shape[1])

    def ungroup(self, blocks: Tensor) -> Tensor:
        """(tasks, longest, n) -> (batch, n), in the order of the batch."""
        return _moved(blocks.flatten(0, 1), self.slot, self.row, False)


class _Moved(torch.autograd.Function):
    """Rows in another order, with rows of zeros between them or without those: (a, n) -> (b, n).

    Where each row is taken at most once, its gradient is moved back, and nothing has to be added up. Of stacked seeds
    (seeds, a, n) -> (seeds, b, n): still whole rows, where `vmap` by itself would make single numbers of them.
    """

    @staticmethod
    def forward(rows: Tensor, index: Tensor, back: Tensor, padded: bool) -> Tensor:
        """Row index[i] of `rows` at i; with `padded` there is a row of zeros behind the last one."""
        given = functional.pad(rows, (0, 0, 0, 1)) if padded else rows
        if given.dim() == 2:
            return given.index_select(0, index)
        seeds, length, width = given.shape
        begin = length * torch.arange(seeds, device=index.device).unsqueeze(1)
        return given.flatten(0, 1).index_select(0, (begin + index).flatten()).view(seeds, -1, width)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        _, index, back, ctx.padded = inputs
        ctx.save_for_backward(index, back)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        index, back = ctx.saved_tensors
        return _moved(gradient, back, index, not ctx.padded), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
        rows, index, back = (
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip(given[:3], in_dims[:3], strict=True)
        )
        return _moved(rows, index, back, given[3]), 0


def _moved(rows: Tensor, index: Tensor, back: Tensor, padded: bool) -> Tensor:
    moved: Tensor = _Moved.apply(rows, index, back, padded)  # type: ignore[no-untyped-call]
    return moved


class StackedLinear(nn.Module):
    """y = x W_i + b_i, a stack of linear layers as one batched product: one for each task, or for each expert.

    Shapes: (count, rows, inputs) -> (count, rows, outputs).
    """

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(count, 1, outputs))

    def forward(self, blocks: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, blocks, self.weight)

    def initialise(self, generator: torch.Generator) -> None:
        """Xavier-uniform for each matrix by itself, zero biases (mtrl)."""
        xavier_uniform(self.weight, generator)
        nn.init.zeros_(self.bias)


def chosen(table: Tensor, index: Tensor) -> Tensor:
    """Each row's number: (tasks,) -> (batch,); of stacked seeds (seeds, tasks) -> (seeds, batch), each from its own.

    The gradient adds the rows up in their order, for a seed in a stack as for a seed alone.
    """
    if table.dim() == 1:
        return table[index]
    seeds, tasks = table.shape
    return table.flatten()[index + tasks * torch.arange(seeds, device=index.device).unsqueeze(1)]


@torch.no_grad()
def xavier_uniform(stack: Tensor, generator: torch.Generator) -> None:
    """Fill a stack of matrices (n, inputs, outputs), each within +-sqrt(6 / (inputs + outputs))."""
    bound = (6 / (stack.shape[1] + stack.shape[2])) ** 0.5
    stack.uniform_(-bound, bound, generator=generator)
