"""On a GPU: 100 recorded updates of every method, and of several seeds, stay with eager ones. `make gpu-test`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from mtrepro.engine.compilation import CudaGraphs
from mtrepro.engine.execution import Execution, be_deterministic
from tests.bench.agreement import TOLERANCE, UPDATES, distance, distance_of_seeds
from tests.bench.dreamer import ARMS as DREAMERS
from tests.bench.dreamer import make_arm
from tests.bench.family import ARMS
from tests.bench.update import make_method

CUDA = torch.device("cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and MTREPRO_GPU_TESTS=1")


FEW = 4  # updates after which seeds mapped together are still near those alone, whose products round otherwise


def actor_critic(name: str, sampling: str, execution: Execution, seed: int = 0) -> Any:
    method, changed = ARMS[name]
    settings = {"replay_sampling": sampling} | changed
    return make_method(method, 20_000, device=CUDA, execution=execution, seed=seed, **settings)


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
@pytest.mark.parametrize("name", ARMS)
def test_an_actor_critic_recorded_stays_with_the_eager_one(name: str, sampling: str) -> None:
    if ARMS[name][0] == "single_task" and sampling == "uniform":
        pytest.skip("single agents refuse uniform draws")
    be_deterministic(CUDA)
    assert distance(partial(actor_critic, name, sampling), CudaGraphs()) <= TOLERANCE


@pytest.mark.parametrize("name", ARMS)
def test_seeds_of_an_actor_critic_mapped_together_stay_with_eager_ones_and_with_each_alone(name: str) -> None:
    be_deterministic(CUDA)
    make = partial(actor_critic, name, "stratified")
    recorders = [CudaGraphs() for _ in range(3)]
    assert distance_of_seeds(make, recorders, UPDATES) <= TOLERANCE
    assert distance_of_seeds(make, [None] * 3, FEW, mapped=False) <= TOLERANCE


@pytest.mark.parametrize("name", DREAMERS)
def test_a_dreamer_recorded_stays_with_the_eager_one(name: str) -> None:
    be_deterministic(CUDA)
    assert distance(partial(make_arm, name, CUDA), CudaGraphs()) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, (method, _) in DREAMERS.items() if method != "meta_dreamer"])
def test_seeds_of_a_dreamer_mapped_together_stay_with_eager_ones_and_with_each_alone(name: str) -> None:
    be_deterministic(CUDA)
    make = partial(make_arm, name, CUDA)
    assert distance_of_seeds(make, [CudaGraphs() for _ in range(3)], UPDATES // 5) <= TOLERANCE
    assert (
        distance_of_seeds(make, [None] * 3, FEW, mapped=False) <= 5 * TOLERANCE
    )  # Adam's first steps magnify rounding
