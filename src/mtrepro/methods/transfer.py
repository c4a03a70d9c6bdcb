"""Full, modular and fractional transfer: a Dreamer that begins with what another run learnt.

Sasso, Sabatelli, Wiering, "Fractional Transfer Learning for Deep Model-Based Reinforcement Learning", 2021
(2108.06526). Which groups of parameters are copied, added in part, drawn anew or frozen is a table in the settings
(world_model/transferring.py, docs/methods/transfer.md); what trains afterwards is Dreamer, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from mtrepro.methods import Problem
from mtrepro.world_model.groups import named_groups
from mtrepro.world_model.minds import Mind
from mtrepro.world_model.single import SingleDreamer
from mtrepro.world_model.transfer_settings import TransferSettings
from mtrepro.world_model.transferring import take


class Settings(TransferSettings):
    """Every hyper-parameter; the defaults are in config/methods/transfer.yaml."""

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if len(tasks) != 1:
            yield "", f"transfer learns one task, not {len(tasks)}: choose one of the benchmark's ({', '.join(tasks)})"


class Transfer(SingleDreamer[Settings]):
    """A Dreamer that begins with what its source learnt."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "transfer")

    def build(self, seed: int) -> list[Mind]:
        """A fresh Dreamer's, then the source's share."""
        (mind,) = super().build(seed)
        take(
            named_groups(mind.model, mind.behaviour), self.problem.sources["source"], self.settings.treatments(),
            self.settings.share(), mind.model.dynamics.latents.size,
        )  # fmt: skip
        mind.behaviour.begin_slow_critic()  # again: as the critic is now
        return [mind]
