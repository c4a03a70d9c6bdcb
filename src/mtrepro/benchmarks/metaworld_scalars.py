"""The numerical helpers of Meta-World's tasks: the same bits as numpy's and SciPy's, without their generality.

Each takes the arguments that tasks really give in the shape that is common, and hands everything else to the
original. Only operations that IEEE 754 rounds alike are written out; sums stay with the routine that made them.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from metaworld.utils import reward_utils
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[Any]
_SQUARABLE = 1e150
_NEARLY = 1e-12  # what SciPy allows before it makes a matrix orthogonal first
_VALUE_AT_MARGIN = 0.1  # of both sigmoids, as everywhere in Meta-World
_LONG_TAIL = float(np.sqrt(1 / _VALUE_AT_MARGIN - 1))
_GAUSSIAN = float(np.sqrt(-2 * np.log(_VALUE_AT_MARGIN)))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """`numpy.linalg.norm`; short for the Euclidean norm of (n,) contiguous float64, or of one float64."""
    if axis is None and not keepdims:
        if type(x) is np.ndarray and x.ndim == 1 and x.dtype.char == "d" and x.strides[0] == 8:
            if ord is None or ord == 2:
                # The product stays numpy's: its order of additions, and whether it fuses them, are part of the bits.
                return np.float64(math.sqrt(x.dot(x)))
        elif ord is None and isinstance(x, float):  # np.float64 is one, np.float32 is not
            return np.float64(math.sqrt(float(x) * float(x)))
    return np.linalg.norm(x, ord, axis, keepdims)


def hstack(parts: Any, **named: Any) -> Any:
    """`numpy.hstack`; short for single float64 numbers."""
    if not named and type(parts) is tuple and all(isinstance(part, float) for part in parts):
        return np.array(parts)
    return np.hstack(parts, **named)


def tolerance(
    x: Any,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: Any = "gaussian",
    value_at_margin: float = _VALUE_AT_MARGIN,
) -> Any:
    """`metaworld.utils.reward_utils.tolerance`; short for one float64 and the two sigmoids that tasks use."""
    lower, upper = bounds
    if not (
        isinstance(x, float)
        and isinstance(margin, float)
        and margin > 0
        and isinstance(lower, float | int)
        and isinstance(upper, float | int)
        and lower <= upper
        and value_at_margin == _VALUE_AT_MARGIN
        and sigmoid in ("long_tail", "gaussian")
    ):
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    value = float(x)
    if lower <= value <= upper:
        return 1.0
    away = (float(lower) - value if value < lower else value - float(upper)) / float(margin)
    scaled = away * (_LONG_TAIL if sigmoid == "long_tail" else _GAUSSIAN)
    if scaled > _SQUARABLE:  # where Python's power raises and numpy's is infinite
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    square = scaled**2  # not scaled * scaled: the library's power differs from it in the last bit
    return 1.0 / (square + 1.0) if sigmoid == "long_tail" else float(np.exp(-0.5 * square))  # numpy has its own exp


class Turn:
    """Stands in for SciPy's `Rotation` where tasks make one of a matrix and ask for its quaternion at once."""

    __slots__ = ("_matrix",)

    def __init__(self, matrix: Array) -> None:
        self._matrix = matrix

    @classmethod
    def from_matrix(cls, matrix: Array) -> Turn:
        """A turn by a (3, 3) matrix."""
        return cls(matrix)

    def as_quat(self) -> Array:
        """The quaternion x, y, z, w, (4,) float64."""
        return quaternion(self._matrix)


def quaternion(matrix: Array) -> Array:
    """`Rotation.from_matrix(matrix).as_quat()`: from the largest of the diagonal and the trace.

    Args:
        matrix: (3, 3); one that is no rotation goes to SciPy, which makes it one or refuses it.

    Source: Markley, "Unit Quaternion from Rotation Matrix", 2008, as SciPy has it.
    """
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    trace = a + e + i
    if trace > a and trace > e and trace > i:  # of equals SciPy takes the first, and the trace is its last
        x, y, z, w = h - f, c - g, d - b, 1 + trace
        largest = w
    elif a >= e and a >= i:
        x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
        largest = x
    elif e >= i:
        x, y, z, w = d + b, 1 - trace + 2 * e, h + f, c - g
        largest = y
    else:
        x, y, z, w = g + c, h + f, 1 - trace + 2 * i, d - b
        largest = z
    square = x * x + y * y + z * z + w * w
    # Of a rotation's four numbers, 4 q_k q, the squares sum to 16 q_k^2, and the largest is 4 q_k^2.
    if not abs(square - 4 * largest) <= _NEARLY:
        return cast(Array, Rotation.from_matrix(matrix).as_quat())
    length = math.sqrt(square)
    return np.array([x / length, y / length, z / length, w / length])


def touches(data: Any, left: int, right: int, thing: int) -> bool:
    """`touching_object`: whether both pads of the gripper press on a thing.

    Args:
        data: MjData after `mj_forward`.
        left, right, thing: geom ids.
    """
    if not data.ncon:
        return False
    pairs = data.contact.geom.tolist()
    # In the contacts' order, as the sums are part of the bits.
    of_left = [index for index, pair in enumerate(pairs) if left in pair and thing in pair]
    if not of_left:
        return False
    of_right = [index for index, pair in enumerate(pairs) if right in pair and thing in pair]
    if not of_right:
        return False
    force, address = data.efc_force, data.contact.efc_address
    return all(sum(force[address[index]] for index in pad) > 0 for pad in (of_left, of_right))
