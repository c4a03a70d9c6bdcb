"""A Dreamer's parameters by group and name: what one run can take from another."""

from __future__ import annotations

from torch import nn

from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.model import WorldModel

Groups = dict[str, dict[str, nn.Parameter]]


def named_groups(model: WorldModel, behaviour: Behaviour) -> Groups:
    """Every parameter but those of the slow critic, which is a copy, under its group and its name in it.

    The layer that actions enter and the last layer of each head are groups of their own: they depend on the task.
    """
    dynamics = dict(model.dynamics.named_parameters())
    entering = {name: dynamics.pop(f"enter.{name}") for name in ("weight", "bias")}
    groups: Groups = {
        "encoder": dict(model.encoder.named_parameters()),
        "decoder": dict(model.decoder.named_parameters()),
        "dynamics": dynamics,
        "dynamics_enter": entering,
    }
    heads = {
        "reward": model.reward, "continue": model.continues, "actor": behaviour.actor.body, "critic": behaviour.critic,
    }  # fmt: skip
    for name, head in heads.items():
        if head is not None:
            groups |= head_groups(name, head)
    return groups


def head_groups(name: str, head: nn.Sequential) -> Groups:
    """Those of one head: its hidden layers, and its last one."""
    hidden, output = head[:-1], head[-1]
    return {f"{name}_hidden": dict(hidden.named_parameters()), f"{name}_output": dict(output.named_parameters())}
