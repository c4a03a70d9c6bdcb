"""Random streams by name: every random number of a run comes from one of these, none from a global generator.

A stream depends on the run's seed and its own name alone, so that a new stream changes no older one.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch


def seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """The seed sequence of the stream `names` in a run with this seed."""
    digest = hashlib.sha256("/".join(str(name) for name in names).encode()).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of its own for the stream `names`."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *names)))


def torch_stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for the stream `names`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(seed_sequence(seed, *names).generate_state(1, np.uint64)[0]) & (2**63 - 1))
    return generator


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The whole state of a numpy generator, as numbers and strings."""
    return dict(generator.bit_generator.state)


def load_generator_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Continue a numpy generator where `state` was taken."""
    generator.bit_generator.state = state
