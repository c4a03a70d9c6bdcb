"""Projected task-specific layers (PTSL): shared layers, and beside each a small layer of every task's own.

Somerville Roberts, Di, "Projected Task-Specific Layers for Multi-Task Reinforcement Learning", ICRA 2024. For layer l
and task t, with D_l down to p units, U_l up again, S_l the shared layer and W_lt, b_lt the task's own:

    (1) d_l = x_l D_l                             (2) e_l = r(d_l, d_{l-1}, y_{l-1}),  e_1 = d_1
    (3) y_l = e_l W_lt + b_lt                     (4) x_{l+1} = relu(x_l S_l + s_l + y_l U_l)
    (5) the last layer has no U and no relu: x_L S_L + s_L + y_L, W_Lt: p -> outputs

docs/methods/ptsl.md has the four residuals r, the two initialisations and what the published code does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtrepro.networks.actor_critic import Seen
from mtrepro.networks.tasks import xavier_uniform
from mtrepro.soft_actor_critic.projection_settings import ProjectionSettings


class ProjectedLayers(nn.Module):
    """`depth` hidden layers of `width` units and an output layer, each with its task-specific layer of p units.

    Shapes: (batch, inputs) -> (batch, outputs).
    """

    def __init__(self, inputs: int, outputs: int, tasks: int, settings: ProjectionSettings) -> None:
        super().__init__()
        width, depth, size = settings.width, settings.depth, settings.projection_size
        projection, residual = settings.projection, settings.residual
        sizes = [inputs, *[width] * depth, outputs]
        self.residual, self.initialisation = residual, settings.initialisation
        self.shared = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))  # S_l, s_l
        self.down = _matrices((a, size) for a in (sizes[: min(depth, 1) + 1] if projection == "shared" else sizes[:-1]))
        self.up = _matrices((size, width) for _ in range(min(depth, 1) if projection == "shared" else depth))
        own = [*[size] * depth, outputs]
        self.weight = nn.ParameterList(torch.zeros(tasks, size, b) for b in own)  # W_lt
        self.bias = nn.ParameterList(torch.zeros(tasks, 1, b) for b in own)  # b_lt
        self.mix: nn.Parameter | None = None
        if residual == "linear":
            self.mix = nn.Parameter(torch.zeros(3))  # a1, a2, a3
        elif residual == "project":
            self.mix = nn.Parameter(torch.zeros(3 * size, size))  # R

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        groups, x, last = seen.tasks.groups, inputs, len(self.shared) - 1
        before: tuple[Tensor, Tensor] | None = None
        for layer, (shared, weight, bias) in enumerate(zip(self.shared, self.weight, self.bias, strict=True)):
            d = groups.group(x @ self.down[min(layer, len(self.down) - 1)])  # (tasks, rows, p)
            y = torch.baddbmm(bias, d if before is None else self._residual(d, *before), weight)
            before = d, y
            if layer == last:
                return torch.add(shared(x), groups.ungroup(y))
            x = torch.relu(torch.addmm(shared(x), groups.ungroup(y), self.up[min(layer, len(self.up) - 1)]))
        raise AssertionError("there is always an output layer")

    def _residual(self, d: Tensor, d_before: Tensor, y_before: Tensor) -> Tensor:
        """r(d_l, d_{l-1}, y_{l-1}): what a task-specific layer gets (equation 2)."""
        if self.residual == "none":
            return d
        if self.residual == "sum":
            return d + d_before + y_before
        assert self.mix is not None
        if self.residual == "linear":
            return self.mix[0] * d + self.mix[1] * d_before + self.mix[2] * y_before
        return torch.cat([d, d_before, y_before], dim=-1) @ self.mix

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Fill the projections and the task-specific layers; the shared layers are filled like all linear ones."""
        published = self.initialisation == "published_init"
        for matrix in [*self.up, *self.bias]:
            nn.init.zeros_(matrix)
        for matrix in self.down:
            _fill(matrix, 0.0 if published else None, generator)
        for matrix in self.weight:
            nn.init.normal_(matrix, generator=generator) if published else xavier_uniform(matrix, generator)
        if not published:
            nn.init.zeros_(self.weight[-1])
        if self.residual == "linear" and self.mix is not None:
            nn.init.constant_(self.mix, 1 / 3)
        elif self.mix is not None:
            _fill(self.mix, 0.0 if published else None, generator)


def _matrices(shapes: Iterable[tuple[int, int]]) -> nn.ParameterList:
    return nn.ParameterList(torch.zeros(shape) for shape in shapes)


def _fill(matrix: Tensor, value: float | None, generator: torch.Generator) -> None:
    """All `value`, or Xavier-uniform."""
    if value is None:
        xavier_uniform(matrix.unsqueeze(0), generator)
    else:
        nn.init.constant_(matrix, value)
