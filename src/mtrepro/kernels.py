"""Which kernels numerical libraries were told to use: implementations of one function that round differently.

A shell may set these variables without its user knowing; a container that is started with --cleanenv has none of them.
"""

from __future__ import annotations

import os

VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)


def told() -> str:
    """The variables that are set, as NAME=VALUE; empty where the libraries choose by the processor."""
    return " ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
