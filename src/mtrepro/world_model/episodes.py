"""Whole episodes as sequences, for what is adapted and judged outside of training's replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Array, Episode


def sequences_of(task: int, episodes: Sequence[Episode], length: int, device: torch.device) -> Sequences:
    """Every frame of some episodes of a task, in windows one after another, each of `length` frames.

    As in a replay, episodes lie one behind the other, and a window may run into the next. The last window reaches back
    to be full, so that some frames are in two; fewer frames than `length` make one window of what there is.
    """
    count = sum(len(its.observation) for its in episodes)
    length = min(length, count)
    begins = np.append(np.arange(0, count - length, length), count - length)
    rows = begins + np.arange(length)[:, None]  # (length, windows)

    def windows(columns: Sequence[Array]) -> Tensor:
        return torch.from_numpy(np.concatenate(columns)[rows]).to(device)

    return Sequences(
        windows([its.observation for its in episodes]),
        windows([_led_by(its.action) for its in episodes]),
        windows([_led_by(its.reward) for its in episodes]),
        windows([_led_by(_only_last(its)) for its in episodes]),
        windows([np.arange(len(its.observation)) == 0 for its in episodes]),
        torch.full((len(begins),), task, device=device),
    )


def _led_by(what: Array) -> Array:
    """What led to each frame: nothing to the first."""
    return np.concatenate([np.zeros_like(what[:1]), what])


def _only_last(episode: Episode) -> NDArray[np.float32]:
    """1.0 where the task ended with an action, (T,)."""
    ended = np.zeros(len(episode.reward), np.float32)
    ended[-1] = episode.terminated
    return ended
