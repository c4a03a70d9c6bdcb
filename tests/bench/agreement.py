"""How far recorded updates lead away from eager ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrepro.engine.compilation import Recorder
from mtrepro.engine.execution import Execution
from mtrepro.soft_actor_critic import together as actor_critics
from mtrepro.world_model import together as dreamers
from mtrepro.world_model.agent import DreamerAgent

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
    return _apart(start, _groups(eager), _groups(recorded))


def distance_of_seeds(
    make: Callable[[Execution, int], Any], recorders: Sequence[Recorder | None], updates: int, mapped: bool = True
) -> float:
    """The same between seeds mapped together and recorded, and mapped eagerly, or each alone and eager.

    After half of the updates one of them leaves the others.

    Args:
        recorders: one for each seed.
        mapped: whether the eager ones are mapped, too.

    Raises:
        RuntimeError: they cannot be mapped, or the recording failed.
    """
    groups = []
    for its, together in ((recorders, True), ([None] * len(recorders), mapped)):
        executions = [Execution(recorder=recorder) for recorder in its]
        methods = [make(execution, seed) for seed, execution in enumerate(executions)]
        start = [each for method in methods for each in _groups(method)]
        for members in (methods, methods[1:]):
            family: Any = dreamers if isinstance(members[0], DreamerAgent) else actor_critics
            group = family.learn_mapped(members) if together else None
            if together and group is None:
                raise RuntimeError("not mapped")
            for _ in range(updates // 2):
                for each in members if group is None else [group]:
                    each.learn()
        if reasons := [execution.fallback for execution in executions if execution.fallback is not None]:
            raise RuntimeError(f"not recorded: {reasons[0]}")
        groups.append([each for method in methods for each in _groups(method)])
    return _apart(start, groups[1], groups[0])


def _apart(start: list[Tensor], eager: list[Tensor], recorded: list[Tensor]) -> float:
    found = zip(start, eager, recorded, strict=True)
    return max(float((b - a).norm() / (a - origin).norm()) for origin, a, b in found)


def _groups(method: Any) -> list[Tensor]:
    """Each group of parameters as one vector."""
    groups = method.parameter_groups().values()
    return [torch.cat([each.detach().double().flatten() for each in group]) for group in groups]
