"""Modular and fractional transfer: what each group of a fresh Dreamer takes from a trained one.

    copy       W = W_source
    fraction   W = W_random + omega W_source
    fresh      W = W_random
    rows       W = W_source for the inputs from z, and for the bias; W_random for the inputs from a
    frozen     W = W_source, and it never moves

Sasso, Sabatelli, Wiering, "Fractional Transfer Learning for Deep Model-Based Reinforcement Learning", 2021
(2108.06526), and "Multi-Source Transfer Learning for Deep Model-Based Reinforcement Learning", 2022 (2205.14410).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtrepro.errors import SpecificationError
from mtrepro.methods import Weights
from mtrepro.validation import unknown

PAGE = "docs/methods/transfer.md"


@torch.no_grad()
def take(
    groups: Mapping[str, Mapping[str, nn.Parameter]],
    source: Weights,
    treatments: Mapping[str, str],
    omega: float,
    from_z: int,
    where: str = "sources.source",
) -> None:
    """Let freshly initialised groups take what their treatments say; all fit, or none is touched.

    Args:
        groups: the fresh ones; those without a treatment stay fresh.
        treatments: by group.
        omega: share of the source in a fraction.
        from_z: how many inputs of the layer that actions enter come from z: these stand first.
        where: what messages call the source.

    Raises:
        SpecificationError: a group that the source does not have or that has another shape there, both of which are
            named; or more actions here than the source had.
    """
    taken = {group: mine for group, mine in groups.items() if treatments.get(group, "fresh") != "fresh"}
    for group, mine in taken.items():
        _refuse_misfits(group, mine, source, treatments[group], from_z, where)
    for group, mine in taken.items():
        for name, parameter in mine.items():
            theirs = source[group][name].to(parameter.device)
            match treatments[group]:
                case "fraction":
                    parameter.add_(omega * theirs)
                case "rows" if parameter.dim() == 2:
                    parameter[:, :from_z] = theirs[:, :from_z]
                case treatment:
                    parameter.copy_(theirs)
                    parameter.requires_grad_(treatment != "frozen")


def _refuse_misfits(
    group: str, mine: Mapping[str, nn.Parameter], source: Weights, treatment: str, from_z: int, where: str
) -> None:
    if group not in source:
        raise unknown(where, "group", group, source, PAGE)
    for name, parameter in mine.items():
        theirs = source[group].get(name)
        found = None if theirs is None else tuple(theirs.shape)
        here = tuple(parameter.shape)
        if treatment == "rows" and len(here) == 2 and found is not None and found[0] == here[0]:
            if found[1] >= here[1]:
                continue
            raise SpecificationError(
                f"{where}: {here[1] - from_z} actions here, {found[1] - from_z} in the source\n"
                f"  a target may have fewer, not more: group {group}, {name}: {here} here, {found} in the source\n"
                f"  see {PAGE}"
            )
        if found != here:
            raise SpecificationError(
                f"{where}: group {group}, {name}: {here} here, {found or 'nothing'} in the source\n"
                "  give both runs the same architecture, or let the group be fresh"
                f"{_hint(group)}\n  see {PAGE}"
            )


def _hint(group: str) -> str:
    return " or take its `rows`, where the actions differ" if group == "dynamics_enter" else ""


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two groups hold the same numbers."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
