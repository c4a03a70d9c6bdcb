"""In which precision the matrix products of an update are computed; everything else of it stays in fp32.

bf16 keeps fp32's range with 8 of its 24 digits. Parameters, moments, losses and what is drawn are fp32 in both: torch's
autocast rounds the operands of each product, forwards and backwards, and adds up in fp32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Name = Literal["fp32", "bf16"]


class Precision(NamedTuple):
    """The precision of products on one kind of device."""

    name: Name
    device: str  # torch's name of the kind: cpu, cuda

    def products(self) -> contextlib.AbstractContextManager[Any]:
        """A context whose products round as asked. Parameters must not change inside: their rounded copies are kept."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def of(self, network: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """network(*inputs), its products in this precision and its output in fp32."""
        if self.name == "fp32":
            return network(*inputs)
        with self.products():
            return unrounded(network(*inputs))


def unrounded(output: Tensor) -> Tensor:
    """What a network gave in bf16, in fp32; what is no bf16 stays as it is."""
    return output.float() if output.dtype == torch.bfloat16 else output


def in_full(network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """network(*inputs) in fp32, also within `products`: for what would add up rounding step after step."""
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device):
        return network(*inputs)
    with torch.autocast(device, enabled=False):
        return network(*(each.float() for each in inputs))


def processor_kernels() -> str:
    """Which bf16 instructions the processor offers: products may round otherwise with others."""
    found = [
        name
        for name, there in (
            ("amx", torch.cpu._is_amx_tile_supported()),
            ("avx512_bf16", torch.cpu._is_avx512_bf16_supported()),
        )
        if there
    ]
    return " ".join(found) or "none"
