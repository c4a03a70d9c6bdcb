"""Running means of what a method reports, kept on its device: nothing waits for it until somebody asks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Names = tuple[str, ...]


class Meters:
    """Sums and maxima of named scalars since they were last taken; those that come together lie in one tensor."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.count = 0
        self.sums: dict[Names, Tensor] = {}  # each (names,)
        self.maxima: dict[Names, Tensor] = {}  # since the start of the run: a passing explosion is not forgotten

    @torch.no_grad()
    def add(self, **values: Tensor) -> None:
        """Add one update's scalars."""
        self.add_row(tuple(values), torch.stack(list(values.values())).double())

    def add_row(self, names: Names, value: Tensor) -> None:
        """Add one update's scalars, (names,) in double precision, which no graph holds."""
        self.count += 1
        self.sums[names] = self.sums[names] + value if names in self.sums else value
        self.maxima[names] = torch.maximum(self.maxima[names], value) if names in self.maxima else value

    def take(self) -> dict[str, float]:
        """The means since the last call, by name; empty where nothing was added."""
        means = {name: total / self.count for name, total in sorted(_scalars(self.sums).items())} if self.count else {}
        self.count, self.sums = 0, {}
        return means

    def trouble(self, name: str, limit: float) -> str | None:
        """Why training cannot go on: a value that was NaN or infinite upwards, or a scalar that was above its limit.

        A sum that is not finite counts too; what happened at any time of the run is not forgotten.
        """
        values = [*self.sums.values(), *self.maxima.values()]
        if values and not torch.isfinite(torch.cat(values)).all():
            return "a loss is not finite"
        largest = _scalars(self.maxima).get(name, 0.0)
        return f"the {name.replace('_', ' ')} reached {largest:.3g}, above {limit:.3g}" if largest > limit else None

    def state(self) -> dict[str, Any]:
        """Everything."""
        kept = {"sums": self.sums, "maxima": self.maxima}
        listed = {key: [[list(names), values] for names, values in its.items()] for key, its in kept.items()}
        return {"count": self.count, **listed}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.count = state["count"]
        self.sums, self.maxima = (
            {tuple(names): values.to(self.device) for names, values in state[key]} for key in ("sums", "maxima")
        )


def _scalars(stacked: dict[Names, Tensor]) -> dict[str, float]:
    """By name; one look at the device for each tensor."""
    read = [(names, values.tolist()) for names, values in stacked.items()]
    return {name: value for names, values in read for name, value in zip(names, values, strict=True)}
