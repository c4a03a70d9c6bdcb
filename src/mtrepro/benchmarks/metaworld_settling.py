"""The arm's way to its start, remembered: 250 substeps of physics that are the same each time a goal comes again.

Where the arm ends is a function of what MuJoCo steps from and of the model's fields that tasks move. The memory holds
that state one substep before the end: the last one is always made, because positions of bodies and sites lag one
substep behind the joints', and everything derived from the state must come out as in the original.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Array

LIMIT = 1000  # remembered starts of a task; the oldest goes first
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
MOVED = ("body_pos", "body_quat", "geom_pos", "geom_quat", "jnt_pos", "eq_data", "qpos0", "dof_damping")


class Settling:
    """What was settled already, for all simulators of one task: they share its model file."""

    def __init__(self) -> None:
        self._memory: dict[bytes, NDArray[np.float64]] = {}
        self._learned: dict[bytes, NDArray[np.float64]] = {}

    def know(self, settled: Mapping[bytes, NDArray[np.float64]]) -> None:
        """Take over starts that another process settled with the same bits."""
        for key, state in settled.items():
            self._keep(key, state)

    def take_learned(self) -> dict[bytes, NDArray[np.float64]]:
        """What was settled here since the last call."""
        learned, self._learned = self._learned, {}
        return learned

    def settle(self, model: Any, data: Any, substeps: int) -> None:
        """Advance the physics; mocap and control are set.

        Args:
            model, data: MjModel and MjData of this task.
            substeps: how many steps of physics, at least one.
        """
        key = self._key(model, data, substeps)
        known = self._memory.get(key)
        if known is not None:
            mujoco.mj_setState(model, data, known, _STATE)
        else:
            alarms = data.warning.number.tolist()
            if substeps > 1:
                mujoco.mj_step(model, data, substeps - 1)
            if data.warning.number.tolist() == alarms:  # warnings are no part of the state: trouble is never remembered
                self._learned[key] = _state(model, data)
                self._keep(key, self._learned[key])
        mujoco.mj_step(model, data, 1)

    def _keep(self, key: bytes, state: NDArray[np.float64]) -> None:
        if len(self._memory) >= LIMIT:
            del self._memory[next(iter(self._memory))]
        self._memory[key] = state

    def _key(self, model: Any, data: Any, substeps: int) -> bytes:
        fields = (*MOVED, "site_pos", "site_quat") if _moved_by_sites(model) else MOVED
        digest = hashlib.blake2b(_state(model, data).tobytes(), digest_size=32)
        for name in fields:
            digest.update(getattr(model, name).tobytes())
        digest.update(substeps.to_bytes(8, "little"))
        return digest.digest()


def _state(model: Any, data: Any) -> Array:
    state = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, state, _STATE)
    return state


def _moved_by_sites(model: Any) -> bool:
    """Whether sites take part in the physics; where not, they stay out of the key, as some move at each reset."""
    return bool(
        (model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_SITE)).any()
        or (model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_SLIDERCRANK)).any()
        or (model.wrap_type == int(mujoco.mjtWrap.mjWRAP_SITE)).any()
        or (model.eq_objtype == int(mujoco.mjtObj.mjOBJ_SITE)).any()
    )
