"""Parameters of several seeds as parts of stacked ones, (seeds, *shape), and the optimiser that moves all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtrepro.engine.adam import Adam
from mtrepro.networks.stacked import ALIGNMENT, lend_rooms, room


@torch.no_grad()
def share(tensors: Sequence[Sequence[Tensor]]) -> Tensor:
    """Let tensors of single seeds be what stacked ones consist of; each row has the stacked one first.

    Returns all of them, flat.
    """
    shapes = [seeds[0].shape for _, *seeds in tensors]
    flat, views = room(len(tensors[0]) - 1, shapes, tensors[0][1])
    for view, (stacked, *seeds) in zip(views, tensors, strict=True):
        for part, own in zip(view.unbind(), seeds, strict=True):
            part.copy_(own)
            own.data = part
        stacked.data = view
    return flat


class StackedAdam(Adam):
    """Moves the parameters of all seeds; moments and counts stay each seed's own, as views.

    Elements have nothing to do with each other, so the kernel may take many tensors for one. But it rounds the last
    few of a tensor otherwise, so that this is for tensors alone that have no such rest.
    """

    stacked = True

    def __init__(self, stacked: list[nn.Parameter], those: Sequence[Adam]) -> None:
        first = those[0]
        super().__init__(stacked, first.rate, first.beta1, first.beta2, first.epsilon)
        self.those = those
        counts = [torch.stack(its.steps) for its in those if its.steps]
        assert all(torch.equal(each, counts[0]) for each in counts), "seeds in step have made as many updates"
        shapes = [one.shape for one in first.parameters]
        order = sorted(range(len(shapes)), key=lambda index: shapes[index].numel() % ALIGNMENT > 0)
        whole = sum(len(those) * shape.numel() for shape in shapes if shape.numel() % ALIGNMENT == 0)

        def joined(kind: str) -> tuple[Tensor, list[Tensor]]:
            """What has no rest as one tensor and what has one by itself, for each seed."""
            flat = share([(getattr(self, kind)[i], *(getattr(its, kind)[i] for its in those)) for i in order])
            rest = [getattr(its, kind)[i] for i in order for its in those if shapes[i].numel() % ALIGNMENT]
            return flat, [flat[:whole], *rest] if whole else rest

        self.all = Adam([], first.rate, first.beta1, first.beta2, first.epsilon)
        _, self.all.parameters = joined("parameters")  # type: ignore[assignment]
        _, self.all.first = joined("first")
        _, self.all.second = joined("second")
        self.count, _ = joined("steps")
        flat, views = room(len(those), [shapes[i] for i in order], first.parameters[0])
        self.gradients = [view for _, view in sorted(zip(order, views, strict=True), key=lambda pair: pair[0])]
        rest = [one for i, view in zip(order, views, strict=True) if shapes[i].numel() % ALIGNMENT for one in view]
        self.joined = [flat[:whole], *rest] if whole else rest
        lend_rooms(self.parameters, self.gradients)

    @torch.no_grad()
    def descend(self, gradients: Iterable[Tensor | None]) -> None:
        given = list(gradients)
        lend_rooms(self.parameters, self.gradients)
        if any(gradient is None for gradient in given):
            for seed, its in enumerate(self.those):
                its.descend([None if gradient is None else gradient[seed] for gradient in given])
            return
        for own, gradient in zip(self.gradients, given, strict=True):
            if gradient is not None and gradient.data_ptr() != own.data_ptr():  # else it was written there
                own.copy_(gradient)
        self.count.add_(1)
        steps = [self.those[0].steps[0]] * len(self.joined)  # read alone; all are equal
        self._move(self.all.parameters, self.joined, self.all.first, self.all.second, steps)
