"""MuJoCo's pictures, drawn fast in software: without shadows, reflections and multisampling.

These three are nearly all of a software renderer's time: a shadow map of 4096 x 4096, the floor drawn twice, each pixel
drawn four times. The size of the picture hardly counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import pixels_gl
from mtrepro.benchmarks.pixels_settings import SIDE

_MOST_GEOMS = 1000  # of a scene


class MujocoCamera:
    """A camera on one model.

    Args:
        model: an MjModel; its quality settings are lowered.
        camera: the name or number of one of the model's cameras, or of a free one the fields of its MjvCamera.

    Raises:
        MissingError: no GL library works here.
    """

    def __init__(self, model: Any, camera: str | int | Mapping[str, Any]) -> None:
        import mujoco  # type: ignore[import-untyped]

        self._mujoco, self._model = mujoco, model
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = SIDE
        self._gl = pixels_gl.context(SIDE)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._scene = mujoco.MjvScene(model, _MOST_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._options, self._window = mujoco.MjvOption(), mujoco.MjrRect(0, 0, SIDE, SIDE)
        self._camera = _camera(mujoco, model, camera)

    def picture(self, data: Any) -> NDArray[np.uint8]:
        """(SIDE, SIDE, 3): what the camera sees of an MjData."""
        mujoco = self._mujoco
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._window, self._scene, self._context)
        upside_down = np.empty((SIDE, SIDE, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._window, self._context)
        return upside_down[::-1].copy()

    def close(self) -> None:
        """Free what GL holds for it."""
        self._gl.make_current()
        self._context.free()


def _camera(mujoco: Any, model: Any, camera: str | int | Mapping[str, Any]) -> Any:
    made = mujoco.MjvCamera()
    if isinstance(camera, Mapping):
        mujoco.mjv_defaultFreeCamera(model, made)
        for name, value in camera.items():
            if isinstance(getattr(made, name), np.ndarray):
                getattr(made, name)[:] = value
            else:
                setattr(made, name, value)
        return made
    made.type = mujoco.mjtCamera.mjCAMERA_FIXED
    made.fixedcamid = camera if isinstance(camera, int) else model.camera(camera).id
    return made
