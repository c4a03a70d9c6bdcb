"""The world model: encoder, state-space model, decoder, reward and, where asked, continue; and the loss of all of them.

    loss = kl_scale KL - picture_scale log p(x | s) - reward_scale log p(r | s) - continue_scale log p(c | s)

v1 eq. 10, v2 eq. 2. Pictures and rewards are normals of unit variance, so each of these terms is half a squared error,
summed over the picture; the constants of the normals are left out, they move nothing. Means are over frames and
sequences. Where products are computed in bf16 (engine/precision.py), what comes out of a network is made fp32 again
before a distribution or a loss sees it: that is what each `unrounded` is for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine.precision import unrounded
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.world_model.latents import divergence_loss
from mtrepro.world_model.layers import dense
from mtrepro.world_model.pictures import Decoder, Encoder, centred
from mtrepro.world_model.recurrent import RecurrentModel
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import Followed, StateSpaceModel
from mtrepro.world_model.transformer import TransformerModel


class ModelLoss(NamedTuple):
    """The loss, what it is made of, and the states it was computed from."""

    total: Tensor
    parts: dict[str, Tensor]  # by name, each a scalar before its scale
    followed: Followed


class WorldModel(nn.Module):
    """What a Dreamer knows of its world.

    Args:
        side: pixels of a picture's side.
        actions: numbers in an action.
        codes: gives each task its code, from its one-hot row; None: the model is not told its task.
    """

    def __init__(self, settings: DreamerSettings, side: int, actions: int, codes: nn.Linear | None = None) -> None:
        super().__init__()
        self.settings = settings
        channels, activation, width = settings.picture_channels, settings.picture_activation, settings.width
        self.encoder = Encoder(side, channels, activation)
        kind = RecurrentModel if settings.state_space == "recurrent" else TransformerModel
        self.codes, code = codes, 0 if codes is None else codes.out_features
        self.dynamics: StateSpaceModel = kind(settings, self.encoder.size, actions, code)
        self.decoder = Decoder(self.dynamics.features, side, channels, activation)
        self.reward = dense(self.dynamics.features, width, settings.reward_depth, 1)
        with_continue = settings.continue_scale is not None
        self.continues = dense(self.dynamics.features, width, settings.continue_depth, 1) if with_continue else None

    def embed(self, pictures: Tensor) -> Tensor:
        """e of each picture. Shapes: uint8 (..., side, side, 3) -> (..., embedding)."""
        return self._embed(centred(pictures))

    def code(self, task: Tensor) -> Tensor:
        """c of each task, or no numbers where the model is not told. Shapes: int64 (rows,) -> (rows, code)."""
        if self.codes is None:
            return self.decoder.enter.weight.new_zeros(len(task), 0)
        c: Tensor = self.codes(functional.one_hot(task, self.codes.in_features).to(self.codes.weight.dtype))
        return unrounded(c)

    def rewards(self, features: Tensor) -> Tensor:
        """Mean of p(r | s). Shapes: (..., features) -> (...)."""
        r: Tensor = self.reward(features).squeeze(-1)
        return unrounded(r)

    def discounts(self, features: Tensor) -> Tensor:
        """gamma, or what the continue model expects of it: gamma times the chance that the task goes on."""
        if self.continues is None:
            return torch.full_like(features[..., 0], self.settings.discount)
        return torch.sigmoid(unrounded(self.continues(features).squeeze(-1)))

    def loss(self, batch: Sequences, noise: Tensor) -> ModelLoss:
        """Follow the sequences and score every frame. Shapes: noise (T, B, latents.draws)."""
        settings, x = self.settings, centred(batch.observation)
        c = self.code(batch.task)
        followed = self.dynamics.follow(self._embed(x), batch.action, batch.is_first, c, noise)
        features = followed.states.features
        errors = self.decoder(features.flatten(0, 1)) - x.flatten(0, 1)
        latents = self.dynamics.latents
        parts = {
            "picture_loss": 0.5 * errors.square().sum() / len(errors),
            "reward_loss": 0.5 * (self.rewards(features) - batch.reward).square().mean(),
            "kl": divergence_loss(latents, followed.posterior, followed.prior, settings.kl_balance, settings.free_nats),
        }
        total = settings.kl_scale * parts["kl"] + settings.picture_scale * parts["picture_loss"]
        total = total + settings.reward_scale * parts["reward_loss"]
        if self.continues is not None and settings.continue_scale is not None:
            parts["continue_loss"] = functional.binary_cross_entropy_with_logits(
                unrounded(self.continues(features).squeeze(-1)), settings.discount * (1 - batch.terminated)
            )
            total = total + settings.continue_scale * parts["continue_loss"]
        return ModelLoss(total, parts, followed)

    def _embed(self, x: Tensor) -> Tensor:
        e: Tensor = self.encoder(x.flatten(0, -4))
        return unrounded(e.reshape(*x.shape[:-3], -1))
