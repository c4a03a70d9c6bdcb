"""Meta-World's own tasks, stepped and reset faster, with the same bits: a layer over the installed package.

`fast_class` makes a subclass of a task's class. What all tasks share (step, observation, reset, touching) is written
again below, without work whose result nobody reads. What is a task's own (rewards, starts) stays its own code: the
same code objects, bound to a namespace in which numpy's norm, SciPy's rotation and the reward helpers are the short
ones of `metaworld_scalars`. Nothing of the package is changed: its own classes, made beside these, are what they were.
docs/benchmarks/metaworld.md says of each part why it is exact; `metaworld_comparison` looks at the start of every run.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

from mtrepro.benchmarks import Array
from mtrepro.benchmarks.metaworld_names import NamedData
from mtrepro.benchmarks.metaworld_scalars import Turn, hstack, norm, tolerance, touches
from mtrepro.benchmarks.metaworld_settling import Settling

_FRAME = 18  # numbers of one frame: hand, grip, two objects with their turns
_DOWN = np.array([1.0, 0.0, 1.0, 0.0])  # the hand's turn, a quaternion that MuJoCo makes a unit one
_LOWEST, _HIGHEST = np.full(3, -1, np.float32), np.full(3, 1, np.float32)
_KEPT = 10  # compiled models, of 21 to 27 MB each: a copy takes 5 ms, compiling one 85 ms
_COMPILED: dict[str, Any] = {}  # as they came from their files, which every simulator of a task starts from
_linalg = types.SimpleNamespace(**{**vars(np.linalg), "norm": norm})
_STAND_INS: dict[int, Any] = {
    id(np): types.SimpleNamespace(**{**vars(np), "linalg": _linalg, "hstack": hstack}),
    id(Rotation): Turn,
    id(reward_utils): types.SimpleNamespace(**{**vars(reward_utils), "tolerance": tolerance}),
    id(reward_utils.tolerance): tolerance,
}


def _bound_anew(member: Any) -> Any:
    """A class's member, with its functions bound to the short helpers; other things as they are."""
    if isinstance(member, staticmethod):
        return staticmethod(_bound_anew(member.__func__))
    if isinstance(member, property):
        return property(*(part and _bound_anew(part) for part in (member.fget, member.fset, member.fdel)))
    if not isinstance(member, types.FunctionType):
        return member
    if member.__closure__ and member.__code__.co_freevars == ("func",):  # a task must be set before it is called
        return SawyerXYZEnv._Decorators.assert_task_is_set(_bound_anew(member.__closure__[0].cell_contents))
    anew = types.FunctionType(
        member.__code__, _namespace(member.__module__), member.__name__, member.__defaults__, member.__closure__
    )
    anew.__kwdefaults__ = member.__kwdefaults__
    return anew


@functools.cache
def _namespace(module: str) -> dict[str, Any]:
    """What a task's module sees, with the short helpers in place of the general ones."""
    return {name: _STAND_INS.get(id(value), value) for name, value in vars(sys.modules[module]).items()}


class FastSawyer(SawyerXYZEnv):
    """What all tasks share, rewritten: stands between a task's own class and Meta-World's base class."""

    settling: Settling  # of the class: all simulators of a task share what was settled
    data: NamedData

    def _initialize_simulation(self) -> tuple[Any, NamedData]:
        compiled = _COMPILED.get(self.fullpath)
        if compiled is None:
            compiled, _ = super()._initialize_simulation()
            if len(_COMPILED) >= _KEPT:
                del _COMPILED[next(iter(_COMPILED))]
            _COMPILED[self.fullpath] = compiled
        model = copy.copy(compiled)
        return model, NamedData(model)

    @property
    def tcp_center(self) -> Array:
        """Between the fingers, (3,) metres."""
        site = self.data.site
        middle: Array = (site("rightEndEffector").xpos + site("leftEndEffector").xpos) / 2.0
        return middle

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Move the hand by (3,) and the grip by one number; as the package's, without what nothing reads.

        Left out: the places of goal sites written before `mj_forward`, which computes them all;
        `mj_rnePostConstraint`; and what to do after an exception of the simulator, a flag that nothing sets. Kept:
        `mj_forward`, whose solver leaves the warm start that the next step begins from.

        Raises:
            ValueError: the episode has 500 steps behind it.
        """
        data = self.data
        hand = data._hand
        # In the action's own precision, float32, as the package does.
        move = np.minimum(np.maximum(action[:3], _LOWEST), _HIGHEST) * self.action_scale
        np.add(hand, move, out=hand)
        np.maximum(hand, self.mocap_low, out=hand)
        np.minimum(hand, self.mocap_high, out=hand)
        data._turn[:] = _DOWN
        if self.curr_path_length >= self.max_path_length:
            raise ValueError("You must reset the env manually once truncate==True")
        grip = action[-1]
        data._grip[0], data._grip[1] = grip, -grip
        mujoco.mj_step(self.model, data, self.frame_skip)
        self.curr_path_length += 1
        mujoco.mj_forward(self.model, data)
        observation, space = self._get_obs(), self.sawyer_observation_space
        np.maximum(observation, space.low, out=observation)
        np.minimum(observation, space.high, out=observation)
        self._last_stable_obs = observation
        reward, info = self.evaluate_state(observation, action)
        return observation.copy(), reward, False, self.curr_path_length == self.max_path_length, info

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode. Of the package's two rounds the first only moves the model: there the arm need not settle.

        What the first round leaves behind is the goal's places in the model, and attributes that the second one
        sets anew; MuJoCo's data is reset between the two.
        """
        data = self.data
        data.settles = False
        try:
            self.curr_path_length = 0
            self.reset_model()
        finally:
            data.settles = True
        observation, info = MujocoEnv.reset(self)
        self._prev_obs = observation[:_FRAME].copy()
        observation[_FRAME : 2 * _FRAME] = self._prev_obs
        return observation.astype(np.float64), info

    def _reset_hand(self, steps: int = 50) -> None:
        data = self.data
        if data.settles:
            data._hand[:], data._turn[:] = self.hand_init_pos, _DOWN
            data._grip[0], data._grip[1] = -1, 1
            self.settling.settle(self.model, data, steps * self.frame_skip)
        self.init_tcp = self.tcp_center

    def _get_curr_obs_combined_no_goal(self) -> Array:
        body = self.data.body
        frame = np.zeros(_FRAME)
        frame[:3] = body("hand").xpos
        apart = norm(body("rightclaw").xpos - body("leftclaw").xpos) / 0.1
        frame[3] = min(max(apart, 0.0), 1.0)
        places, turns = self._get_pos_objects(), self._get_quat_objects()
        if len(places) == 3 and len(turns) == 4:
            frame[4:7], frame[7:11] = places, turns
            return frame
        objects = len(places) // 3
        assert len(places) == 3 * objects and len(turns) == 4 * objects
        frame[4 : 4 + 7 * objects].reshape(objects, 7)[:, :3] = places.reshape(objects, 3)
        frame[4 : 4 + 7 * objects].reshape(objects, 7)[:, 3:] = turns.reshape(objects, 4)
        return frame

    def _get_obs(self) -> Array:
        frame, goal = self._get_curr_obs_combined_no_goal(), self._get_pos_goal()
        observation = np.empty(2 * _FRAME + 3)
        observation[:_FRAME], observation[_FRAME : 2 * _FRAME] = frame, self._prev_obs
        observation[2 * _FRAME :] = 0.0 if self._partially_observable else goal
        self._prev_obs = frame
        return observation

    _gripper_caging_reward = _bound_anew(SawyerXYZEnv._gripper_caging_reward)

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both pads of the gripper press on the thing with this geom id."""
        geom = self.data.geom
        return touches(self.data, geom("leftpad_geom").id, geom("rightpad_geom").id, object_geom_id)


@functools.cache
def fast_class(original: Any) -> Any:
    """A subclass of a task's class that gives the same bits sooner. The class itself is left as it is."""
    members = {"settling": Settling()}
    for name, member in vars(original).items():
        if name != "__init__":
            members[name] = _bound_anew(member)
    # Under the same name, which is an attribute of every environment and so part of its state.
    made = type(original.__name__, (original, FastSawyer), members)
    _namespace(original.__module__)[original.__name__] = made  # some tasks call their static methods by it
    return made
