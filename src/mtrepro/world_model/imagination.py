"""Trajectories that the actor imagines in the world model, without a picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrepro.engine.sequence_replay import Sequences
from mtrepro.world_model.policies import Actor
from mtrepro.world_model.state_space import State, StateSpaceModel


class Imagined(NamedTuple):
    """N trajectories of H steps; moment 0 is where they start. Gradients pass from moment to moment."""

    features: Tensor  # (H + 1, N, features)
    outputs: Tensor  # (H, N, 2 actions): the actor's, at moments 0 to H - 1
    raw: Tensor  # (H, N, actions): what was drawn from them


class Noise(NamedTuple):
    """What chance adds."""

    latent: Tensor  # (H, N, latents.draws), for `latents.sample`
    action: Tensor  # (H, N, actions), uniform in [0, 1)


class Draw(NamedTuple):
    """What chance gives to one update of a mind; the rest of it is a function of these tensors and the state."""

    batch: Sequences
    latent: Tensor  # (T, B, latents.draws), of the sequences' z
    imagined: Noise  # of T B trajectories


def draw_noise(dynamics: StateSpaceModel, horizon: int, rows: int, actions: int, generator: torch.Generator) -> Noise:
    """The noise of `rows` trajectories."""
    uniform = torch.rand(horizon, rows, actions, generator=generator, device=generator.device)
    return Noise(dynamics.latents.noise(horizon, rows, generator=generator), uniform)


def imagine(dynamics: StateSpaceModel, actor: Actor, start: State, mask: Tensor, noise: Noise) -> Imagined:
    """a_t ~ pi(a | stop(s_t)), s_{t+1} ~ p(s | s_t, a_t), for as many steps as there is noise.

    Args:
        start: N states; no gradient passes into them.
        mask: (actions,) or (N, actions), 0.0 where the task has no such action.
    """
    state = start.map(Tensor.detach)
    features, outputs, raw = [state.features], list[Tensor](), list[Tensor]()
    for latent, uniform in zip(noise.latent, noise.action, strict=True):
        outputs.append(actor(features[-1].detach()))
        policy = actor.policy(outputs[-1])
        raw.append(policy.raw(uniform))
        state = dynamics.imagine(state, mask * policy.action(raw[-1]), latent)
        features.append(state.features)
    return Imagined(torch.stack(features), torch.stack(outputs), torch.stack(raw))
