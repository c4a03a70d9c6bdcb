"""GPU and GL: what training and rendering can use. Neither is needed: state-based training runs on the CPU."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator

from mtrepro.benchmarks import pixels_gl
from mtrepro.doctor import Finding

SECONDS = 60.0  # that a tool may take to answer
BACKENDS = (*pixels_gl.WINDOWLESS, "glfw")  # glfw opens a window through GLX


def torch_and_gpu() -> Iterator[Finding]:
    """torch's build, the driver and the GPUs that torch can use."""
    driver = _driver()
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", "note", "not installed: this environment can analyse, not train")
        return
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    capability = torch.backends.cpu.get_cpu_capability()
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding("torch", "ok", f"{torch.__version__}, built for {built}; CPU instructions {capability}")
    if usable:
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("GPU", "ok", f"{', '.join(names)}; driver {driver or 'not known (no nvidia-smi)'}")
    elif driver:
        why = f": {str(said[0].message).splitlines()[0]}" if said else ""
        advice = f"install a driver that knows {built}, or in a container start it with `--nv`"
        yield Finding("GPU", "problem", f"driver {driver} is there, but torch cannot use it{why}", advice)
    else:
        yield Finding("GPU", "note", "none: training runs on the CPU, where every promise about bits holds")


def gl() -> Iterator[Finding]:
    """Which GL backends render for MuJoCo; each is tried in a process of its own, because a broken one may abort it."""
    if importlib.util.find_spec("mujoco") is None:
        yield Finding("GL", "note", "not tried: mujoco is not installed")
        return
    # All at once: each spends its time in loading.
    tries = {
        backend: pixels_gl.start(backend) for backend in BACKENDS if backend != "glfw" or os.environ.get("DISPLAY")
    }
    results = {backend: pixels_gl.outcome(process) for backend, process in tries.items()}
    works = [backend for backend, reason in results.items() if reason is None]
    failed = [f"{backend}: {reason}" for backend, reason in results.items() if reason is not None]
    if "glfw" not in tries:
        failed.append("glfw: not tried, there is no display")
    if works:
        found = f"MuJoCo renders with {', '.join(works)}"
        yield Finding("GL", "ok", "\n".join([found, *failed]))
    else:
        found = "MuJoCo cannot render; training from states needs no GL, only pictures and videos do"
        advice = "for pictures: the system packages libegl1 (with a GPU) or libosmesa6 (without)"
        yield Finding("GL", "note", "\n".join([found, *failed]), advice)


def _driver() -> str | None:
    """The NVIDIA driver's version, or None where nvidia-smi finds none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return said[0] if said else None
