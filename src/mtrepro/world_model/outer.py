"""What one task is given in an update of Meta-Dreamer, and what it gives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mtrepro.engine.sequence_replay import Sequences
from mtrepro.world_model.adaptation import Parameters
from mtrepro.world_model.imagination import Noise
from mtrepro.world_model.model import ModelLoss


class Draw(NamedTuple):
    """What chance gives to one task of an update; the rest of it is a function of these tensors and the state."""

    support: Sequences
    query: Sequences
    on_support: Tensor | None  # noise of the support's z, (T, B, latents.draws); None without inner steps
    on_query: Tensor
    imagined: Noise | None = None  # of T B trajectories; drawn after all tasks' sequences


class Outer(NamedTuple):
    """What one task gives to an update."""

    query: Sequences
    adapted: Parameters  # theta_i, from which no gradient passes back
    loss: ModelLoss  # of the query under theta_i
    before: Tensor  # the query's loss under theta; scalar
    gradients: tuple[Tensor, ...]  # of the loss with respect to theta
