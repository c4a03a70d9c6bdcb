"""Dreamer: learn a world model from pictures, and the behaviour in what the model imagines. Single task.

v1: Hafner et al., "Dream to Control: Learning Behaviors by Latent Imagination", ICLR 2020; v2: Hafner et al.,
"Mastering Atari with Discrete World Models", ICLR 2021. Which of the two it is, settings say; the defaults are v1's.
What it does is in world_model/acting.py and agent.py, the equations in the files beside it; docs/methods/dreamer.md has
a table of them, and says where the papers, their code and these files differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from mtrepro.methods import Problem
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.single import SingleDreamer


class Settings(DreamerSettings):
    """Every hyper-parameter of Dreamer; the defaults are in config/methods/dreamer.yaml."""

    LEAVES_WEIGHTS: ClassVar[bool] = True

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if len(tasks) != 1:
            yield "", f"dreamer learns one task, not {len(tasks)}: choose one of the benchmark's ({', '.join(tasks)})"


class Dreamer(SingleDreamer[Settings]):
    """One Dreamer on one task."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "dreamer")
