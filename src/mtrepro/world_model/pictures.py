"""Pictures in and out: the convolutional encoder and the transposed-convolutional decoder of v1, for three sizes.

Each encoder layer has kernel 4, stride 2, no padding, and doubles the channels, down to 2 x 2; the decoder goes from
1 x 1 back up. The papers' pictures are 64 x 64; smaller ones take fewer layers of the same kind.
"""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from mtrepro.errors import SpecificationError

DECODER_KERNELS = {16: (6, 6), 32: (5, 6, 6), 64: (5, 5, 6, 6)}  # by the picture's side, all with stride 2
ACTIVATIONS: dict[str, type[nn.ReLU] | type[nn.ELU]] = {"relu": nn.ReLU, "elu": nn.ELU}


def centred(pictures: Tensor) -> Tensor:
    """uint8 (..., side, side, 3) -> float (..., 3, side, side) in [-0.5, 0.5]."""
    return pictures.movedim(-1, -3).float() / 255 - 0.5


def refuse_other_pictures(shape: tuple[int, ...], kind: str, where: str) -> None:
    """Raise where observations are not pictures of a size that there is an encoder for.

    Raises:
        SpecificationError: names what was found and what would do.
    """
    if kind == "uint8" and len(shape) == 3 and shape[0] == shape[1] and shape[0] in DECODER_KERNELS and shape[2] == 3:
        return
    sizes = ", ".join(f"{side} x {side}" for side in DECODER_KERNELS)
    raise SpecificationError(
        f"{where}: sees colour pictures of {sizes} alone; this benchmark shows {kind} of the shape {shape}\n"
        "  choose a benchmark of pictures, such as toy-pixels, or the picture's size in its settings"
    )


class Encoder(nn.Module):
    """e = relu(conv(... relu(conv(x)))), flat. Shapes: (batch, 3, side, side) -> (batch, size)."""

    def __init__(self, side: int, channels: int, activation: str) -> None:
        super().__init__()
        widths = [3, *(channels * 2**layer for layer in range(len(DECODER_KERNELS[side])))]
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Conv2d(width, following, 4, stride=2), ACTIVATIONS[activation](inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.size = 2 * 2 * widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        e: Tensor = self.layers(x)
        return e


class Decoder(nn.Module):
    """The mean of p(x | s), a normal of unit variance. Shapes: (batch, features) -> (batch, 3, side, side)."""

    def __init__(self, features: int, side: int, channels: int, activation: str) -> None:
        super().__init__()
        kernels = DECODER_KERNELS[side]
        size = 4 * channels * 2 ** (len(kernels) - 1)  # as many numbers as the encoder gives
        widths = [size, *(channels * 2**layer for layer in reversed(range(len(kernels) - 1))), 3]
        self.enter = nn.Linear(features, size)
        layers: list[Any] = []
        for (width, following), kernel in zip(itertools.pairwise(widths), kernels, strict=True):
            layers += [nn.ConvTranspose2d(width, following, kernel, stride=2), ACTIVATIONS[activation](inplace=True)]
        self.first, self.layers = layers[0], nn.Sequential(*layers[1:-1])  # the picture itself is not bent

    def forward(self, s: Tensor) -> Tensor:
        """On a single pixel a transposed convolution is a matrix product: as one it takes half the time."""
        weight, bias = self.first.weight, self.first.bias  # (size, channels, kernel, kernel), (channels,)
        size, channels, kernel, _ = weight.shape
        flat = self.enter(s) @ weight.permute(0, 2, 3, 1).reshape(size, -1)
        x: Tensor = self.layers((flat.view(-1, kernel, kernel, channels) + bias).permute(0, 3, 1, 2))
        return x
