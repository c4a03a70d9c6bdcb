"""What every state-space model gives: what the next moment will be, before and after it is seen.

`WorldModel` chooses between the recurrent one (recurrent.py) and the Transformer (transformer.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrepro.world_model.latents import Categorical, Gaussian, Latents
from mtrepro.world_model.settings import DreamerSettings


class State(NamedTuple):
    """s = [h, z, c], and what else a model must know to go on; before an episode's first frame all but c are zeros."""

    h: Tensor  # (..., size)
    z: Tensor  # (..., latents.size)
    c: Tensor  # (..., code): which task it is; no numbers where the model is not told
    memory: tuple[Tensor, ...] = ()  # the model's own

    @property
    def features(self) -> Tensor:
        """What every head sees: (..., features)."""
        return torch.cat([self.h, self.z, self.c], dim=-1)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it holds, in order."""
        return self.h, self.z, self.c, *self.memory

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        """The same of every tensor changed."""
        h, z, c, *memory = map(change, self.tensors)
        return State(h, z, c, tuple(memory))


class Followed(NamedTuple):
    """A sequence of frames, understood."""

    states: State  # (T, B, ...), z drawn from the posterior
    posterior: Tensor  # (T, B, latents.outputs)
    prior: Tensor  # (T, B, latents.outputs)


class StateSpaceModel(nn.Module, ABC):
    """A state-space model with h of `size` numbers, told `code` numbers about its task."""

    def __init__(self, settings: DreamerSettings, code: int) -> None:
        super().__init__()
        self.latents = make_latents(settings)
        self.size, self.code = settings.recurrent_size, code
        self.features = self.size + self.latents.size + code

    def begin(self, c: Tensor) -> State:
        """The state before an episode's first frame. Shapes: c (rows, code)."""
        return State(c.new_zeros(len(c), self.size), c.new_zeros(len(c), self.latents.size), c)

    @abstractmethod
    def imagine(self, state: State, a: Tensor, noise: Tensor) -> State:
        """The next moment as the model believes it, z ~ p(z | h). Shapes: a (rows, actions), noise (rows, draws)."""

    @abstractmethod
    def see(self, state: State, a: Tensor, e: Tensor, noise: Tensor | None) -> State:
        """The next moment, seen: z ~ q(z | ...), or its mode without noise. Shapes: e (rows, embedding)."""

    @abstractmethod
    def follow(self, e: Tensor, a: Tensor, is_first: Tensor, c: Tensor, noise: Tensor) -> Followed:
        """`see` frame after frame; where an episode begins, nothing before it counts.

        Shapes: e (T, B, embedding), a (T, B, actions), is_first (T, B) bool, c (B, code), noise (T, B, latents.draws).
        """

    def starts(self, states: State) -> State:
        """Every frame of `Followed.states`, (T, B, ...), as a start of imagination: T B rows, without gradient."""
        return states.map(lambda each: each.detach().flatten(0, 1))


def make_latents(settings: DreamerSettings) -> Latents:
    """The latents that the settings name."""
    if settings.latent == "gaussian":
        return Gaussian(settings.latent_size)
    assert settings.latent_classes is not None, "`conflicts` refuses it"
    return Categorical(settings.latent_size, settings.latent_classes)
