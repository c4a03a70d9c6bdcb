"""Random streams by name: every random number of a run comes from one of these, none from a global generator.

A stream depends on the run's seed and its own name alone, so that a new stream changes no older one. Nothing here
imports torch: planning and the worker processes of the environments use it, too.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """The seed sequence of the stream `names`; any seed from 0 up is a seed like any other."""
    digest = hashlib.sha256("/".join(str(name) for name in names).encode()).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of its own for the stream `names`."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *names)))


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The whole state of a generator, as numbers and strings."""
    return copy.deepcopy(dict(generator.bit_generator.state))


def load_generator_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Continue a generator where `state` was taken."""
    generator.bit_generator.state = copy.deepcopy(dict(state))
