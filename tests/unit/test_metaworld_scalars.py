"""The short numerical helpers of the fast Meta-World: bit for bit numpy's, SciPy's and the package's own."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from metaworld.utils import reward_utils
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mtrepro.benchmarks.metaworld_scalars import hstack, norm, quaternion, tolerance

Array = NDArray[Any]


def bits(value: Any) -> tuple[type, bytes]:
    """What must be equal: the kind of number too, as it decides how later sums are rounded."""
    return type(value), np.asarray(value).tobytes()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_norm_is_numpys(size: int, rng: np.random.Generator) -> None:
    for x in rng.normal(size=(4000, size)) * 10.0 ** rng.integers(-6, 3, (4000, 1)):
        assert bits(norm(x)) == bits(np.linalg.norm(x))
        assert bits(norm(x, ord=2)) == bits(np.linalg.norm(x, ord=2))


def test_norm_gives_other_arguments_to_numpy(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 4))
    cases: list[tuple[Any, dict[str, Any]]] = [
        (x[:, 1], {}), (x, {}), (x, {"axis": 1}), (x[0].astype(np.float32), {}), ([3, 4.5], {}), (x[0, 0], {}),
        (np.array([3, 4]), {}), (x[0], {"ord": 1}), (x[0], {"keepdims": True}), (x[0], {"axis": 0}),
        (np.array([np.inf, 1.0]), {}), (np.array([np.nan, 1.0]), {}),
    ]  # fmt: skip
    for value, named in cases:
        assert bits(norm(value, **named)) == bits(np.linalg.norm(value, **named)), (value, named)


def test_hstack_is_numpys(rng: np.random.Generator) -> None:
    x = rng.normal(size=4)
    f = np.float32(0.3)
    for parts in ((x[0], x[1]), (x[0], 2.5), (x, x[0]), (x, x), [x[0], x[1]], (f, f), (x[0], 1)):
        assert np.hstack(parts).dtype == hstack(parts).dtype and bits(np.hstack(parts)) == bits(hstack(parts))


@pytest.mark.parametrize("sigmoid", ["long_tail", "gaussian"])
def test_tolerance_is_the_packages(sigmoid: Any, rng: np.random.Generator) -> None:
    values = rng.uniform(-0.5, 2, 20_000)
    margins = rng.uniform(0.001, 1, 20_000)
    for x, margin in zip(values, margins, strict=True):
        for one in (x, float(x)):
            mine = tolerance(one, bounds=(0, 0.05), margin=margin, sigmoid=sigmoid)
            assert bits(mine) == bits(reward_utils.tolerance(one, bounds=(0, 0.05), margin=margin, sigmoid=sigmoid))


def test_tolerance_gives_other_arguments_to_the_package(rng: np.random.Generator) -> None:
    x = [0.3, np.float32(0.3), np.array([0.1, 0.9]), 1, np.nan, 1e200, np.inf]
    margin = [0.0, 0.2, np.float32(0.2), 1, np.float64(0.2)]
    with np.errstate(all="ignore"):
        for one, its, sigmoid in itertools.product(x, margin, ("long_tail", "gaussian", "linear", "hyperbolic")):
            mine = tolerance(one, bounds=(0.1, 0.2), margin=its, sigmoid=sigmoid)  # type: ignore[arg-type]
            theirs = reward_utils.tolerance(one, bounds=(0.1, 0.2), margin=its, sigmoid=sigmoid)  # type: ignore[arg-type, type-var]
            assert bits(mine) == bits(theirs), (one, its, sigmoid)
    for wrong in ({"margin": -0.1}, {"bounds": (0.2, 0.1)}, {"sigmoid": "other", "margin": 0.1}):
        with pytest.raises(ValueError, match=r"margin|bound|sigmoid"):
            tolerance(0.5, **wrong)  # type: ignore[arg-type]


def test_quaternion_is_scipys(rng: np.random.Generator) -> None:
    half_turns = [np.diag(signs) for signs in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    swaps = [Rotation.from_euler("xyz", angles, degrees=True).as_matrix() for angles in ([90, 90, 0], [120, 0, 240])]
    for matrix in (*Rotation.random(4000, rng=rng).as_matrix(), *half_turns, *swaps, np.eye(3)):
        assert bits(quaternion(matrix)) == bits(Rotation.from_matrix(matrix).as_quat())


def test_a_matrix_that_is_no_rotation_goes_to_scipy(rng: np.random.Generator) -> None:
    matrix = Rotation.random(rng=rng).as_matrix()
    stretched = matrix * 1.01
    assert bits(quaternion(stretched)) == bits(Rotation.from_matrix(stretched).as_quat())
    with pytest.raises(ValueError, match="determinant"):
        quaternion(np.zeros((3, 3)))
