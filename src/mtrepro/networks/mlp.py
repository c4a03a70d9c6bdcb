"""Fully connected networks, and how their parameters begin in mtrl."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from mtrepro.networks.stacked import Layers


def mlp(inputs: int, width: int, depth: int, outputs: int, activation: type[nn.Module] = nn.ReLU) -> Layers:
    """`depth` hidden layers of `width` units, each activated, and one that is not; depth 0 is one linear layer.

    Shapes: (..., inputs) -> (..., outputs).
    """
    sizes = [inputs, *[width] * depth]
    layers: list[nn.Module] = []
    for size, following in itertools.pairwise(sizes):
        layers += [nn.Linear(size, following), activation()]
    return Layers(*layers, nn.Linear(sizes[-1], outputs))


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all parameters from `generator` alone: Xavier-uniform weights and zero biases for linear layers (mtrl).

    A module with an `initialise(generator)` of its own fills the parameters that are directly its own.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        elif callable(own := getattr(layer, "initialise", None)):
            own(generator)
