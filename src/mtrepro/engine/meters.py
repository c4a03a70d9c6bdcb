"""Running means of what a method reports, kept on its device: nothing waits for it until somebody asks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Meters:
    """Sums and maxima of named scalars since they were last taken."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.maxima: dict[str, Tensor] = {}  # since the start of the run: a passing explosion is not forgotten

    @torch.no_grad()
    def add(self, **values: Tensor) -> None:
        """Add one update's scalars."""
        self.count += 1
        for name, value in values.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.maxima[name] = torch.maximum(self.maxima[name], value) if name in self.maxima else value

    def take(self) -> dict[str, float]:
        """The means since the last call, by name; empty where nothing was added."""
        means = {name: float(total) / self.count for name, total in sorted(self.sums.items())} if self.count else {}
        self.count, self.sums = 0, {}
        return means

    def trouble(self, name: str, limit: float) -> str | None:
        """Why training cannot go on: a value that was NaN or infinite upwards, or a scalar that was above its limit.

        A sum that is not finite counts too; what happened at any time of the run is not forgotten.
        """
        values = [*self.sums.values(), *self.maxima.values()]
        if values and not torch.isfinite(torch.stack(values)).all():
            return "a loss is not finite"
        largest = float(self.maxima[name]) if name in self.maxima else 0.0
        return f"the {name.replace('_', ' ')} reached {largest:.3g}, above {limit:.3g}" if largest > limit else None

    def state(self) -> dict[str, Any]:
        """Everything."""
        return {"count": self.count, "sums": dict(self.sums), "maxima": dict(self.maxima)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.count = state["count"]
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.maxima = {name: value.to(self.device) for name, value in state["maxima"].items()}
