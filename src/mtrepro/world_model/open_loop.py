"""Open-loop prediction: what a world model believes will be seen, told nothing but the actions.

    s_t ~ q(s_t | s_{t-1}, a_{t-1}, x_t)   while it sees, t < `seen`
    s_t ~ p(s_t | s_{t-1}, a_{t-1})        from there on
    x^_t = mean of p(x_t | s_t)

Hafner et al., "Dream to Control: Learning Behaviors by Latent Imagination", ICLR 2020, section 5 and figure 4: five
frames are seen, 45 are predicted. The authors draw the states; here each is the likeliest one, q's and p's mode, so
that a picture depends on nothing but the weights and the episode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrepro.world_model.meta_reward import Accompanied
from mtrepro.world_model.model import WorldModel


@torch.no_grad()
def open_loop(model: WorldModel, pictures: Tensor, a: Tensor, task: Tensor, seen: int) -> Tensor:
    """What the model sees in the first `seen` frames of some windows, and what it predicts of the others.

    Args:
        pictures: uint8 (T, B, side, side, 3); those from `seen` on change nothing.
        a: (T, B, actions): the action that led to each frame; zeros to an episode's first.
        task: int64 (B,).
        seen: how many frames it sees, at least 1.

    Returns:
        uint8, as `pictures`: the means of p(x | s), rounded. As in training, nothing before a window is known.
    """
    # What follows beside it serves the reward model alone.
    dynamics = model.dynamics.own if isinstance(model.dynamics, Accompanied) else model.dynamics
    e, still = model.embed(pictures[:seen]), a.new_zeros(len(task), dynamics.latents.draws)
    state, features = dynamics.begin(model.code(task)), list[Tensor]()
    for t in range(len(a)):
        state = dynamics.see(state, a[t], e[t], None) if t < seen else dynamics.imagine(state, a[t], still)
        features.append(state.features)
    x = model.decoder(torch.cat(features)).float().reshape(*pictures.shape[:2], 3, *pictures.shape[2:4])
    shown: Tensor = ((x + 0.5).nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
    return shown
