"""GL without a window, for MuJoCo's pictures: which backend works here, and one context a process.

A backend is tried in a process of its own, because a broken one may abort it; what was found is written into MUJOCO_GL,
so that processes that this one starts need not try again.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import subprocess
import sys
from typing import Any

from mtrepro.errors import MissingError

SECONDS = 60.0  # that a backend may take to answer
WINDOWLESS = ("egl", "osmesa")  # what training renders with, the preferred one first
ADVICE = (
    "install the system packages libegl1 and libegl-mesa0 (EGL), or libosmesa6 (OSMesa); the training image has both\n"
    "  `mtrepro doctor` says what each backend answers; see docs/benchmarks/mujoco.md"
)
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


def start(backend: str) -> subprocess.Popen[str]:
    """Start a process that renders one picture with a backend."""
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


def outcome(process: subprocess.Popen[str]) -> str | None:
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


def find_backend() -> str:
    """The backend that renders here: the one that MUJOCO_GL names, else EGL, else OSMesa; set in MUJOCO_GL from now on.

    Raises:
        MissingError: none renders, or MUJOCO_GL names one that needs a window; says what each answered.
    """
    named = os.environ.get("MUJOCO_GL", "").lower()
    if named in WINDOWLESS:
        return named
    if named:
        raise MissingError(
            f"MUJOCO_GL={named}: training draws without a window; known: {', '.join(WINDOWLESS)}\n"
            "  unset it, and the one that works is found"
        )
    answers = []
    for backend in WINDOWLESS:
        reason = outcome(start(backend))
        if reason is None:
            os.environ["MUJOCO_GL"] = backend
            return backend
        answers.append(f"  {backend}: {reason}")
    raise MissingError("\n".join(["MuJoCo cannot draw: no GL library works here", *answers, f"  {ADVICE}"]))


@functools.cache
def context(size: int) -> Any:
    """This process's GL context, which every camera draws with; `make_current()` before GL is called.

    Raises:
        MissingError: no GL library works here.
    """
    backend = find_backend()
    try:
        made = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
    except Exception as error:  # PyOpenGL fails in many ways where a library is missing
        raise MissingError(f"MuJoCo cannot draw with MUJOCO_GL={backend}: {error}\n  {ADVICE}") from None
    atexit.register(made.free)  # while Python's modules are still there: later, its own finaliser prints errors
    return made


@functools.cache
def renderer(size: int) -> str:
    """What draws here, such as 'egl: llvmpipe (LLVM 15.0.6, 256 bits), 4.5 Mesa 22.3.6': other ones draw other bits."""
    context(size).make_current()
    from OpenGL import GL  # type: ignore[import-untyped]

    words = (GL.glGetString(name) or b"?" for name in (GL.GL_RENDERER, GL.GL_VERSION))
    return f"{find_backend()}: {', '.join(word.decode() for word in words)}"
