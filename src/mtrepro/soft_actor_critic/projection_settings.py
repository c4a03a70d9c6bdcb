"""The settings of methods with projected task-specific layers. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

Projection = Literal["shared", "independent"]
Residual = Literal["none", "sum", "linear", "project"]
Initialisation = Literal["published_init", "lora_init"]


def projection_conflicts(size: int, width: int, depth: int, residual: Residual) -> Iterator[tuple[str, str]]:
    """A projection that would widen what it should narrow (the first layer's input apart), a residual of nothing."""
    if depth == 0 and residual != "none":
        yield (
            "residual",
            f"without a hidden layer (depth: 0) there is nothing for {residual!r} to take over; use 'none'",
        )
    if depth and size > width:
        yield (
            "projection_size",
            f"{size} units are more than the {width} of the layer that they project; use {width} or fewer",
        )
