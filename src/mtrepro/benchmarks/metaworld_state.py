"""The full state of a Meta-World simulator, exact in the middle of an episode, as plain arrays and numbers.

What decides the next step is: MuJoCo's integration state (time, positions, velocities, warm start, controls, mocap,
and so on); the parts of the model that tasks move (a door's place is a field of the model); and the Python attributes
of the environment. Some attributes are live views into MuJoCo's memory or into each other, and their values change
by themselves: these are stored as what they point to, and restored as the same views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rebuilt by the constructor and never changed by a task; spaces are skipped by type.
_SKIPPED = frozenset({"model", "data", "mujoco_renderer", "_np_random", "_ezpickle_args", "_ezpickle_kwargs"})
# Megabytes that no task touches: meshes, textures, names, bounding volumes.
_STATIC = ("mesh_", "tex_", "skin_", "hfield_", "bvh_", "names", "paths", "text_")

Fields = dict[str, NDArray[Any]]


def model_fields(model: Any) -> Fields:
    """Live views of the arrays of an MjModel that a task could change."""
    return {name: field for name, field in _fields(model) if not name.startswith(_STATIC)}


def pristine_fields(model: Any) -> Fields:
    """Copies of `model_fields`, taken from a model that was just built."""
    return {name: field.copy() for name, field in model_fields(model).items()}


def take(simulator: Any, pristine: Fields) -> dict[str, Any]:
    """The state of a Meta-World environment.

    Args:
        simulator: a SawyerXYZEnv.
        pristine: `pristine_fields` of its model from before its first reset.

    Raises:
        TypeError: an attribute is of a kind that cannot be stored; names it.
    """
    import mujoco  # type: ignore[import-untyped]

    size = mujoco.mj_stateSize(simulator.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    integration = np.empty(size)
    mujoco.mj_getState(simulator.model, simulator.data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    changed = {
        name: field.copy()
        for name, field in model_fields(simulator.model).items()
        if field.tobytes() != pristine[name].tobytes()
    }
    encoder = _Encoder(simulator)
    attributes = {name: encoder.encode(value, name) for name, value in _stored(simulator)}
    return {"integration": integration, "model": changed, "buffers": encoder.buffers(), "attributes": attributes}


def put(simulator: Any, pristine: Fields, state: Mapping[str, Any]) -> None:
    """Continue from what `take` gave, in an environment of the same class."""
    import mujoco

    for name, field in model_fields(simulator.model).items():
        field[...] = state["model"].get(name, pristine[name])
    integration = np.ascontiguousarray(state["integration"], dtype=np.float64)
    mujoco.mj_setState(simulator.model, simulator.data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(simulator.model, simulator.data)
    # mj_forward replaced the solver's warm start, from which the next step begins: put it back.
    mujoco.mj_setState(simulator.model, simulator.data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    decoder = _Decoder(simulator, state["buffers"])
    for name, _ in list(_stored(simulator)):
        del simulator.__dict__[name]
    for name, code in state["attributes"].items():
        simulator.__dict__[name] = decoder.decode(code)


class _Encoder:
    """Attributes as plain data; arrays that share memory share a buffer."""

    def __init__(self, simulator: Any) -> None:
        self._owners = {"data": dict(_fields(simulator.data)), "model": dict(_fields(simulator.model))}
        self._roots: list[NDArray[Any]] = []

    def buffers(self) -> list[NDArray[Any]]:
        """The memory that belongs to the attributes themselves, one flat array for each piece, as bytes."""
        return [np.frombuffer(root.tobytes(order="A"), dtype=np.uint8).copy() for root in self._roots]

    def encode(self, value: Any, name: str) -> Any:
        """`value` as nested dicts, lists, numbers, strings and arrays."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.generic):  # kept apart from float: it promotes float32 differently
            return {"kind": "scalar", "value": np.array([value])}
        if isinstance(value, np.ndarray):
            return self._encode_array(value, name)
        if type(value) in (list, tuple):
            items = [self.encode(item, f"{name}[{index}]") for index, item in enumerate(value)]
            return {"kind": type(value).__name__, "items": items}
        if type(value) is dict:
            return {"kind": "dict", "items": {key: self.encode(item, f"{name}.{key}") for key, item in value.items()}}
        raise TypeError(f"attribute {name!r} of a Meta-World environment is a {type(value)}, which cannot be stored")

    def _encode_array(self, array: NDArray[Any], name: str) -> dict[str, Any]:
        view = {"dtype": array.dtype.str, "shape": list(array.shape), "strides": list(array.strides)}
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if root.base is None:
            index = next((i for i, known in enumerate(self._roots) if known is root), len(self._roots))
            if index == len(self._roots):
                self._roots.append(root)
            return {
                "kind": "array",
                "owner": "buffer",
                "index": index,
                "offset": _address(array) - _address(root),
                **view,
            }
        for owner, fields in self._owners.items():
            for field_name, field in fields.items():
                offset = _address(array) - _address(field)
                if 0 <= offset < field.nbytes:
                    return {"kind": "array", "owner": owner, "field": field_name, "offset": offset, **view}
        raise TypeError(f"attribute {name!r} of a Meta-World environment points into memory of an unknown owner")


class _Decoder:
    """The way back: the same values, the same sharing of memory."""

    def __init__(self, simulator: Any, buffers: list[NDArray[Any]]) -> None:
        self._owners = {"data": simulator.data, "model": simulator.model}
        self._buffers = [np.array(buffer, dtype=np.uint8) for buffer in buffers]

    def decode(self, code: Any) -> Any:
        """What `_Encoder.encode` was given."""
        if not isinstance(code, Mapping):
            return code
        kind = code["kind"]
        if kind == "scalar":
            return code["value"][0]
        if kind == "dict":
            return {key: self.decode(item) for key, item in code["items"].items()}
        if kind != "array":
            return (tuple if kind == "tuple" else list)(self.decode(item) for item in code["items"])
        if code["owner"] == "buffer":
            memory: Any = self._buffers[code["index"]]
        else:
            memory = getattr(self._owners[code["owner"]], code["field"])
        return np.ndarray(code["shape"], np.dtype(code["dtype"]), memory, code["offset"], code["strides"])


def _stored(simulator: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that are state."""
    from gymnasium.spaces import Space

    for name, value in simulator.__dict__.items():
        if name not in _SKIPPED and not isinstance(value, Space):
            yield name, value


def _fields(owner: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The non-empty arrays of an MjModel or MjData, by name."""
    for name in dir(owner):
        if not name.startswith("_"):
            field = getattr(owner, name)
            if isinstance(field, np.ndarray) and field.size:
                yield name, field


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
