"""The settings of methods with projected task-specific layers. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from mtrepro.soft_actor_critic.settings import SacSettings

Projection = Literal["shared", "independent"]
Residual = Literal["none", "sum", "linear", "project"]
Initialisation = Literal["published_init", "lora_init"]


class ProjectionSettings(SacSettings):
    """The hyper-parameters of a soft actor-critic on projected task-specific layers."""

    width: int = Field(gt=0, description="units of each shared hidden layer of the actor and of each critic")
    depth: int = Field(ge=0, description="shared hidden layers of the actor and of each critic")
    projection_size: int = Field(
        gt=0,
        description="p: units of every task-specific layer, at most `width`; what the first layer gets may be narrower",
    )
    projection: Projection = Field(description="one pair of projections for all layers, or a pair for each layer")
    residual: Residual = Field(description="what a task-specific layer takes over from the one before it")
    initialisation: Initialisation = Field(description="published_init leaves parts untrained; lora_init trains all")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if self.depth == 0 and self.residual != "none":
            yield (
                "residual",
                f"without a hidden layer (depth: 0) there is nothing for {self.residual!r} to take over; use 'none'",
            )
        if self.depth and self.projection_size > self.width:
            yield (
                "projection_size",
                f"{self.projection_size} units are more than the {self.width} of the layer that they project; "
                f"use {self.width} or fewer",
            )
