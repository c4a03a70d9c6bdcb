"""Fully connected and recurrent layers as the Dreamer papers build them, and how their parameters begin."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.networks.mlp import mlp


def dense(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """`depth` hidden layers of `width` units with ELU between, no activation at the end.

    Shapes: (..., inputs) -> (..., outputs).
    """
    return mlp(inputs, width, depth, outputs, nn.ELU)


class Gru(nn.GRUCell):
    """torch's cell, v1's; mapped over seeds it is written out, as torch can map its own only seed by seed.

    r = sigmoid(W_r x + U_r h),  u likewise,  c = tanh(W_c x + r (U_c h)),  h' = c + u (h - c), each with two biases
    """

    mapped = False

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if not self.mapped or hx is None:
            return super().forward(input, hx)
        from_x = functional.linear(input, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        from_h = functional.linear(hx, self.weight_hh, self.bias_hh).chunk(3, dim=-1)
        r, u = (torch.sigmoid(x + h) for x, h in zip(from_x[:2], from_h[:2], strict=True))
        c = torch.tanh(from_x[2] + r * from_h[2])
        return c + u * (hx - c)


class LayerNormGru(nn.Module):
    """v2's recurrent cell: one normalised product for all gates, and an update gate that begins nearly closed.

        [r, c, u] = LayerNorm(W [x, h]),  c = tanh(sigmoid(r) c),  u = sigmoid(u - 1),  h' = u c + (1 - u) h

    Shapes: x (batch, inputs), h (batch, size) -> h' (batch, size).
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + size, 3 * size, bias=False)
        self.norm = nn.LayerNorm(3 * size, eps=1e-3)  # Keras's epsilon

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, c, u = self.norm(self.gates(torch.cat([x, h], dim=-1))).chunk(3, dim=-1)
        c = torch.tanh(torch.sigmoid(r) * c)
        return torch.lerp(h, c, torch.sigmoid(u - 1))


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all parameters from `generator` alone, as Keras does: Glorot-uniform weights, orthogonal recurrent ones,
    zero biases."""
    for layer in network.modules():
        match layer:
            case nn.Linear() | nn.Conv2d() | nn.ConvTranspose2d():
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            case nn.GRUCell():
                nn.init.xavier_uniform_(layer.weight_ih, generator=generator)
                nn.init.orthogonal_(layer.weight_hh, generator=generator)
                nn.init.zeros_(layer.bias_ih)
                nn.init.zeros_(layer.bias_hh)
