"""What projected layers begin with, and which of their parameters can ever move.

docs/methods/care_ptsl.md, "Initialisation". With D = U = 0 and b = 0 all d, e and y are 0, so that at first a gradient
reaches the last layer's D (through W) and b alone. From there it must find a way on:
- shared projections: layers 2 ... L - 1 have the last layer's D, so d and y are no longer 0, U moves, then all else.
  With `depth: 1` there is no such layer, and it is as with independent ones;
- residual sum and linear: the last layer reads d and y of the one before, which moves in turn, and so on to the first;
- residual project: R and D are both 0 and wait for each other for ever.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.networks.tasks import StackedLinear
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.unit.family_fixture import copies, fill, named, problem, tiny, uneven

RESIDUALS = ["none", "sum", "linear", "project"]
ARMS = list(itertools.product(["shared", "independent"], RESIDUALS))
arms = pytest.mark.parametrize(("projection", "residual"), ARMS)
FAST: dict[str, Any] = {"actor_rate": 1e-2, "critic_rate": 1e-2}
BODIES = {"actor.body", "critics.bodies.0", "critics.bodies.1"}


def moved(its: SoftActorCritic, updates: int) -> dict[str, set[str]]:
    """The parameters of each body that have changed after so many updates, by their names in it."""
    before = copies(its)
    for _ in range(updates):
        its.learn()
    changed = {name for name, value in named(its).items() if not torch.equal(before[name], value)}
    return {body: {name[len(body) + 1 :] for name in changed if name.startswith(body + ".")} for body in BODIES}


def every_name(its: SoftActorCritic) -> set[str]:
    return {name for name, _ in its.actor.body.named_parameters()}


def own_part(names: set[str]) -> set[str]:
    """All but the layers that tasks share."""
    return {name for name in names if not name.startswith("shared.")}


def can_move(names: set[str], projection: str, residual: str, depth: int) -> set[str]:
    """The task-specific parameters that ever move under published_init, for depth 1 or more."""
    last = f".{depth}"
    bias = "bias" + last
    if residual == "project":
        return {bias}
    if residual == "none" and (projection == "independent" or depth == 1):
        return {"down" + last, "weight" + last, bias}
    return own_part(names)


@pytest.mark.parametrize("depth", [1, 2, 3])
@arms
def test_published_init_moves_these_and_no_other(projection: str, residual: str, depth: int) -> None:
    its = tiny(
        "care_ptsl", projection=projection, residual=residual, depth=depth, initialisation="published_init", **FAST
    )
    fill(its)
    names = every_name(its)
    for body, changed in moved(its, 30).items():
        assert own_part(changed) == can_move(names, projection, residual, depth), body
        assert names - own_part(names) <= changed, "what tasks share is no part of it"


@pytest.mark.parametrize("depth", [1, 3])
@arms
def test_lora_init_moves_every_parameter(projection: str, residual: str, depth: int) -> None:
    its = tiny("care_ptsl", projection=projection, residual=residual, depth=depth, initialisation="lora_init", **FAST)
    fill(its)
    for body, changed in moved(its, 30).items():
        assert changed == every_name(its), body


@pytest.mark.parametrize("initialisation", ["published_init", "lora_init"])
@arms
def test_without_hidden_layers_all_moves_but_a_residual_that_is_never_used(
    projection: str, residual: str, initialisation: str
) -> None:
    its = tiny("care_ptsl", projection=projection, residual=residual, depth=0, initialisation=initialisation, **FAST)
    fill(its)
    for body, changed in moved(its, 5).items():
        assert changed == every_name(its) - {"mix"}, body


def test_under_published_init_the_shared_down_projection_moves_first_then_u_then_all_else() -> None:
    seen: list[set[str]] = []
    its = tiny("ptsl", depth=3, initialisation="published_init", **FAST)
    fill(its)
    for _ in range(4):
        now = own_part(moved(its, 1)["critics.bodies.0"])
        seen.append(now - set().union(*seen))
    first = {"down.0", "weight.1", "weight.2", "bias.0", "bias.1", "bias.2"}
    assert seen == [{"down.1", "bias.3"}, {"up.0", "weight.3"}, first, {"weight.0"}]


@pytest.mark.parametrize("initialisation", ["published_init", "lora_init"])
@arms
def test_the_task_specific_part_is_silent_at_first(projection: str, residual: str, initialisation: str) -> None:
    its = tiny("ptsl", projection=projection, residual=residual, depth=3, initialisation=initialisation)
    seen, action = uneven(its, (6, 6, 6, 6))
    same = seen._replace(observation=seen.observation[:1].expand(24, -1))
    with torch.no_grad():
        for output in (its.actor(same), *its.critics(same, action[:1].expand(24, -1)).unsqueeze(-1)):
            torch.testing.assert_close(output, output[:1].expand_as(output), rtol=1e-6, atol=1e-6)


# Distributions


def layers(residual: str, projection: str, initialisation: str) -> ProjectedLayers:
    its = tiny(
        "ptsl", problem(tasks=10, observation=30), width=60, depth=3, projection_size=40, residual=residual,
        projection=projection, initialisation=initialisation,
    )  # fmt: skip
    body = its.actor.body
    assert isinstance(body, ProjectedLayers)
    return body


def assert_xavier(matrix: Tensor, inputs: int, outputs: int) -> None:
    """Uniform between plus and minus sqrt(6 / (inputs + outputs)), and not less."""
    bound, numbers = float(np.sqrt(6 / (inputs + outputs))), matrix.detach().double().numpy().ravel()
    assert np.abs(numbers).max() <= bound * (1 + 1e-6)
    assert stats.kstest((numbers / bound + 1) / 2, "uniform").pvalue > 1e-4


@arms
def test_published_init_is_as_the_table_says(projection: str, residual: str) -> None:
    body = layers(residual, projection, "published_init")
    assert not any(matrix.any() for matrix in [*body.down, *body.up, *body.bias])
    for matrix in body.weight:
        assert stats.kstest(matrix.detach().double().numpy().ravel(), "norm").pvalue > 1e-4
        assert len(torch.unique(matrix.detach().flatten(1), dim=0)) == 10, "each task has its own"
    if body.mix is not None:
        assert torch.equal(body.mix, torch.full((3,), 1 / 3) if residual == "linear" else torch.zeros(120, 40))


@arms
def test_lora_init_is_as_the_table_says(projection: str, residual: str) -> None:
    body = layers(residual, projection, "lora_init")
    assert not any(matrix.any() for matrix in [*body.up, *body.bias, body.weight[-1]])
    assert [tuple(matrix.shape) for matrix in body.down] == (
        [(30, 40), (60, 40)] if projection == "shared" else [(30, 40), (60, 40), (60, 40), (60, 40)]
    )
    for matrix in body.down:
        assert_xavier(matrix, *matrix.shape)
    for matrix in list(body.weight)[:-1]:
        for of_task in matrix:
            assert_xavier(of_task, 40, 40)
        assert len(torch.unique(matrix.detach().flatten(1), dim=0)) == 10, "each task has its own"
    if residual == "linear":
        assert torch.equal(body.mix, torch.full((3,), 1 / 3))  # type: ignore[arg-type]
    elif residual == "project":
        assert body.mix is not None
        assert_xavier(body.mix, 120, 40)


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("mt_sac", {}),
    ("multi_head", {}),
    ("single_task", {}),
    ("soft_modularization", {"module_layers": 3}),
    ("soft_modularization", {"variant": "original", "module_layers": 3}),
    ("care", {}),
    ("care_ptsl", {}),
    ("ptsl", {}),
]


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_every_linear_layer_is_xavier_uniform_with_zero_biases(method: str, settings: dict[str, Any]) -> None:
    its = tiny(method, problem(tasks=3, observation=20), width=40, **settings)
    for network in its._networks().values():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                assert_xavier(layer.weight, layer.in_features, layer.out_features)
                assert not layer.bias.any()
            elif isinstance(layer, StackedLinear):
                for matrix in layer.weight:
                    assert_xavier(matrix, *matrix.shape)
                assert not layer.bias.any()


def test_learned_task_vectors_are_normal() -> None:
    its = tiny("care", problem(tasks=40), code_size=50)
    assert its.task_encoder is not None
    vectors = dict(its.task_encoder.named_parameters())["vectors"].detach().double().numpy()
    assert vectors.shape == (40, 50) and stats.kstest(vectors.ravel(), "norm").pvalue > 1e-4


def test_actor_and_critics_begin_with_networks_of_their_own_and_the_slow_ones_as_the_fast() -> None:
    for method, settings in METHODS:
        its = tiny(method, **settings)
        first, second = (list(body.parameters()) for body in its.critics.bodies)
        assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
        for slow, fast in zip(its.targets.parameters(), its.critics.parameters(), strict=True):
            assert torch.equal(slow, fast) and slow is not fast
