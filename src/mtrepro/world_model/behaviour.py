"""Actor and critic, and their losses on imagined trajectories.

    actor   - mean w_t (V_t, through the dynamics, or log pi(a_{t-1} | s_{t-1}) stop(V_t - v_{t-1})), + entropy
    critic  1/2 mean w_t (v(stop(s_t)) - stop(V_t))^2

v1 eq. 7 and 8; v2 eq. 5 and 6. The first moment was not imagined, so no action of the actor led to it: the actor's
sum begins with moment 1, as in both published codes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtrepro.engine.precision import unrounded
from mtrepro.world_model.imagination import Imagined
from mtrepro.world_model.layers import dense
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.policies import Actor
from mtrepro.world_model.returns import lambda_returns, weights
from mtrepro.world_model.settings import DreamerSettings


class Judged(NamedTuple):
    """What imagined trajectories are worth."""

    actor_loss: Tensor
    features: Tensor  # (K, N, features): the moments that the critic learns at, without gradient
    returns: Tensor  # (K, N): V there, without gradient
    weights: Tensor  # (K, N)
    entropy: Tensor  # scalar, for the eye


class Behaviour(nn.Module):
    """Actor, critic and, where asked, a slow copy of the critic which gives the values."""

    def __init__(self, settings: DreamerSettings, features: int, actions: int) -> None:
        super().__init__()
        self.settings = settings
        self.actor = Actor(settings, features, actions)
        self.critic = dense(features, settings.width, settings.critic_depth, 1)
        self.slow_critic: nn.Sequential | None = None

    def begin_slow_critic(self) -> None:
        """Copy the critic, once it is initialised, if the settings ask for a slow one."""
        if self.settings.slow_critic_every is not None:
            self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)

    @torch.no_grad()
    def follow_critic(self, updates: int) -> None:
        """Move the slow critic where it is due after so many updates."""
        if self.slow_critic is None or updates % (self.settings.slow_critic_every or 1):
            return
        for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, self.settings.slow_critic_share)

    def judge(
        self,
        model: WorldModel,
        imagined: Imagined,
        alive: Tensor,
        mask: Tensor,
        bonus: Callable[[Tensor], Tensor] | None = None,
    ) -> Judged:
        """The actor's loss, and what the critic is to learn.

        Args:
            alive: (N,) 0.0 where the task had ended at the start: what follows does not count.
            mask: (actions,) or (N, actions), 0.0 where the task has no such action.
            bonus: (..., features) -> (...), a reward beside the model's.
        """
        settings, s = self.settings, imagined.features
        r, v, gamma = model.rewards(s[:-1]), self._values(s), model.discounts(s[:-1])
        if bonus is not None:
            r = r + bonus(s[:-1])
        gamma = torch.cat([settings.discount * alive.unsqueeze(0), gamma[1:]])  # at the start it is known
        returns = lambda_returns(r, v, gamma, settings.return_lambda)
        w = weights(gamma[1:], alive)  # moments 1 to H - 1

        policy = self.actor.policy(imagined.outputs[:-1])
        raw = imagined.raw[:-1].detach()
        objective = (1 - settings.reinforce_share) * returns[1:]
        if settings.reinforce_share:
            advantage = (returns[1:] - v[:-2]).detach()
            log_pi = (mask * policy.log_probability(raw)).sum(-1)
            objective = objective + settings.reinforce_share * log_pi * advantage
        entropy = (mask * policy.entropy(imagined.raw[:-1])).sum(-1)
        if settings.entropy_scale:
            objective = objective + settings.entropy_scale * entropy
        actor_loss = -(w * objective).mean()

        if settings.critic_on_start:
            w = torch.cat([torch.ones_like(w[:1]), settings.discount * w])
        skipped = 0 if settings.critic_on_start else 1
        return Judged(
            actor_loss, s[skipped:-1].detach(), returns[skipped:].detach(), w, entropy.detach().mean()
        )  # fmt: skip

    def critic_loss(self, judged: Judged) -> Tensor:
        """The critic's loss; scalar."""
        errors: Tensor = unrounded(self.critic(judged.features).squeeze(-1)) - judged.returns
        return 0.5 * (judged.weights * errors.square()).mean()

    def _values(self, features: Tensor) -> Tensor:
        """v of (..., features): (...)."""
        v: Tensor = (self.slow_critic or self.critic)(features).squeeze(-1)
        return unrounded(v)
