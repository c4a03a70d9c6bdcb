"""Random streams of the benchmarks, by name: each depends on the run's seed and its own name alone.

The same streams as `engine/seeding.py` gives, without torch: worker processes and planning import this in no time.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of its own for the stream `names`; any seed from 0 up is a seed like any other."""
    digest = hashlib.sha256("/".join(str(name) for name in names).encode()).digest()
    entropy = [seed, *np.frombuffer(digest, dtype=np.uint32).tolist()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The whole state of a generator, as numbers and strings."""
    return copy.deepcopy(dict(generator.bit_generator.state))


def load_generator_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Continue a generator where `state` was taken."""
    generator.bit_generator.state = copy.deepcopy(dict(state))
