"""The Transformer state-space model without its kept keys and values, as the published code imagines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mtrepro.world_model.imagination import Imagined, Noise
from mtrepro.world_model.policies import Actor
from mtrepro.world_model.state_space import State
from mtrepro.world_model.transformer import TransformerModel


def imagine_without_cache(model: TransformerModel, actor: Actor, states: State, mask: Tensor, noise: Noise) -> Imagined:
    """What `imagine` gives from `model.starts(states)`, by running the whole window again at every step.

    Args:
        states: (T, B, ...) of `Followed.states`.
        noise: of T B rows, row t B + b beginning at frame t of sequence b.
    """
    a, episode = states.memory
    frames, sequences = episode.shape
    parts = []
    for t in range(frames):  # all starts at one frame have windows of one length
        rows = slice(t * sequences, (t + 1) * sequences)
        window = (states.z[: t + 1].detach(), a[: t + 1].detach(), states.c[: t + 1].detach(), episode[: t + 1])
        parts.append(_from_window(model, actor, window, mask, Noise(noise.latent[:, rows], noise.action[:, rows])))
    return Imagined(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))


def _from_window(
    model: TransformerModel, actor: Actor, window: tuple[Tensor, ...], mask: Tensor, noise: Noise
) -> Imagined:
    z, a, c, episode = window
    h = model._attend(model._tokens(z, a, c, episode), episode)[0][-1].detach()
    features, outputs, raw = [State(h, z[-1], c[-1]).features], list[Tensor](), list[Tensor]()
    for latent, uniform in zip(noise.latent, noise.action, strict=True):
        outputs.append(actor(features[-1].detach()))
        policy = actor.policy(outputs[-1])
        raw.append(policy.raw(uniform))
        a = torch.cat([a, (mask * policy.action(raw[-1])).unsqueeze(0)])
        z, c, episode = (torch.cat([each, each[-1:]]) for each in (z, c, episode))  # the last z is not looked at
        h = model._attend(model._tokens(z, a, c, episode), episode)[0][-1]
        z = torch.cat([z[:-1], model.latents.sample(model.prior(h), latent).unsqueeze(0)])
        features.append(State(h, z[-1], c[-1]).features)
    return Imagined(torch.stack(features), torch.stack(outputs), torch.stack(raw))


def sequences(model: TransformerModel, frames: int, rows: int, actions: int) -> tuple[Tensor, ...]:
    """Random e, a, is_first, c and noise for `follow`; an episode begins at frame 0, and at 3 of sequence 1."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    is_first = torch.zeros(frames, rows, dtype=torch.bool)
    is_first[0, 0] = is_first[3, 1] = True
    e = normal(frames, rows, model.posterior_hidden.in_features)
    c = functional.one_hot(torch.arange(rows) % max(model.code, 1), max(model.code, 1)).float()[:, : model.code]
    return e, normal(frames, rows, actions), is_first, c, normal(frames, rows, model.latents.draws)
