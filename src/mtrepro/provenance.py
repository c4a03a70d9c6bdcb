"""What made this result: commit, code, packages, hardware, container."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from mtrepro import images, kernels
from mtrepro.engine.precision import Name, processor_kernels
from mtrepro.paths import root


def machine(device: torch.device, threads: int, precision: Name = "fp32") -> dict[str, Any]:
    """What of the machine the bits of a run depend on: a resume elsewhere is not bit-exact."""
    bf16 = {"bf16_kernels": processor_kernels()} if precision == "bf16" and device.type == "cpu" else {}
    return bf16 | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": kernels.told(),
    }


def collect() -> dict[str, Any]:
    """Commit, packages, hardware and container of this process."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": _hardware(),
        "system": platform.platform(),
        "container": images.container(),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


_PACKAGES = ("torch", "numpy", "scipy", "gymnasium", "metaworld", "mujoco")


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(root()), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no repository: a copy without history


def _dirty() -> str | None:
    """A digest of the uncommitted changes and new files, or None where there are none (or no git)."""
    parts = [_git("diff", "HEAD", "--", "src", "config")]
    new = _git("ls-files", "--others", "--exclude-standard", "--", "src", "config") or ""
    parts += [f"{name}\n{(root() / name).read_bytes().hex()}" for name in new.splitlines()]
    changes = "".join(part for part in parts if part)
    return hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # which of the machine's GPUs the scheduler gave
    return {"processor": _processor(), "cores": os.cpu_count(), "gpu": _gpu(), "visible_gpus": visible}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
