"""How far recorded updates lead away from eager ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mtrepro.engine.compilation import Recorder
from mtrepro.engine.execution import Execution

UPDATES = 100
TOLERANCE = 0.01  # of how far the eager updates move a group of parameters

Make = Callable[[Execution], Any]


def distance(make: Make, recorder: Recorder, updates: int = UPDATES) -> float:
    """The largest ||recorded - eager|| / ||eager - start|| of any group of parameters after so many updates.

    Raises:
        RuntimeError: the recording failed, so there is nothing to compare.
    """
    eager, recorded = make(Execution()), make(execution := Execution(recorder=recorder))
    start = _groups(eager)
    for method in (eager, recorded):
        for _ in range(updates):
            method.learn()
    if execution.fallback is not None:
        raise RuntimeError(f"not recorded: {execution.fallback}")
    found = zip(start, _groups(eager), _groups(recorded), strict=True)
    return max(float((b - a).norm() / (a - origin).norm()) for origin, a, b in found)


def _groups(method: Any) -> list[Tensor]:
    """Each group of parameters as one vector."""
    groups = method.parameter_groups().values()
    return [torch.cat([each.detach().double().flatten() for each in group]) for group in groups]
