"""Torch's random streams by name, beside numpy's in `streams.py`."""

from __future__ import annotations

import numpy as np
import torch

from mtrepro.engine.streams import seed_sequence


def torch_stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for the stream `names`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(seed_sequence(seed, *names).generate_state(1, np.uint64)[0]) & (2**63 - 1))
    return generator
