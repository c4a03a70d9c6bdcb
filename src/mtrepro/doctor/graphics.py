"""GPU and GL: what training and rendering can use. Neither is needed: state-based training runs on the CPU."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator

from mtrepro.doctor import Finding

SECONDS = 60.0  # that a GL backend or a tool may take to answer
BACKENDS = ("egl", "osmesa", "glfw")  # what MUJOCO_GL may say; glfw opens a window through GLX
RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().shape == (16, 16, 3)
print("rendered", flush=True)
"""


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
    tries = {backend: _start(backend) for backend in BACKENDS if backend != "glfw" or os.environ.get("DISPLAY")}
    results = {backend: _outcome(process) for backend, process in tries.items()}
    works = [backend for backend, reason in results.items() if reason is None]
    failed = [f"{backend}: {reason}" for backend, reason in results.items() if reason is not None]
    if "glfw" not in tries:
        failed.append("glfw: not tried, there is no display")
    if works:
        found = f"MuJoCo renders with {', '.join(works)}; set MUJOCO_GL={works[0]}"
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


def _start(backend: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    if backend == "glfw":
        del environment["PYOPENGL_PLATFORM"]
    return subprocess.Popen(
        [sys.executable, "-c", RENDER],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _outcome(process: subprocess.Popen[str]) -> str | None:
    """None where the backend rendered, else why not."""
    try:
        printed, complaint = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"did not answer within {SECONDS:.0f} s"
    if "rendered" in printed:  # what fails while the process ends, after the picture, is no matter
        return None
    if process.returncode < 0:
        return f"ended by signal {-process.returncode}"
    lines = [line for line in complaint.splitlines() if line and not line[0].isspace()]
    errors = [line for line in lines if "Error" in line and "Exception ignored" not in line]
    reason = (errors or lines or [f"ended with status {process.returncode}"])[0][:160]
    return f"its library is not there ({reason})" if "'NoneType'" in reason else reason  # PyOpenGL's way to say so
