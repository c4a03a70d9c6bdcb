"""Every arm's actor and critics against the equations of its method page, written out per sample and task.

The references are in reference_networks.py. Batches have unequal numbers of rows for the tasks, in random order, and
none for one of them; every parameter has been moved away from where it is initialised.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mtrepro import paths
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.unit import reference_networks as reference
from tests.unit.embedding_fixture import SHIPPED
from tests.unit.family_fixture import perturb, tiny, uneven
from tests.unit.reference_networks import Array, Parameters, Settings, parameters, under


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    """Rounding of 32-bit numbers would hide small mistakes, and look like one where large numbers cancel."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def codes_by_hand(its: SoftActorCritic, settings: Settings) -> list[Array]:
    """Each task's code; the frozen vectors are read from the file itself."""
    assert its.task_encoder is not None
    given, learned = parameters(its.task_encoder), settings["task_embedding"] == "learned"
    if learned:
        vectors = given["vectors"]
    else:
        file = paths.root() / "config" / "embeddings" / f"{SHIPPED}.json"
        stored = json.loads(file.read_text())["vectors"]
        vectors = np.array([stored[name] for name in its.problem.task_names], np.float32).astype(np.float64)
    return [reference.task_code(given, vector, learned) for vector in vectors]


def body(method: str, given: Parameters, x: Array, task: int, its: Settings) -> Array:
    """The network on top of what is seen, and in a critic of the action behind it."""
    if method in ("mt_sac", "care"):
        return reference.mlp(under(given, "network"), x)
    if method == "multi_head":
        return reference.multi_head(given, x, task)
    if method == "single_task":
        return reference.single_task(given, x, task)
    if method == "soft_modularization":
        return reference.original_modules(given, x, task, its)
    return reference.projected(given, x, task, its)


def network_by_hand(
    method: str, given: Parameters, name: str, s: Array, task: int, code: Array, its: Settings, action: Array | None
) -> Array:
    """One actor, or one critic where there is an action: `name` says which body."""
    tail = [] if action is None else [action]
    if method == "soft_modularization" and its["variant"] == "mtrl":
        encoder = under(given, "encoder.encoder.network" if action is None else "encoder.network")
        return reference.mtrl_modules(under(given, name), reference.mlp(encoder, s), code, action, its)
    if method in ("care", "care_ptsl"):
        s = reference.mixture(under(given, "encoder"), s, code, its)
    elif its.get("task_input") == "one_hot":
        s = np.concatenate([s, [float(other == task) for other in range(its["tasks"])]])
    return body(method, under(given, name), np.concatenate([s, *tail]), task, its)


def compare(method: str, **changed: Any) -> None:
    """The torch networks and the references on one uneven batch."""
    its = tiny(method, seed=3, **changed)
    for network in its._networks().values():
        network.double()  # frozen vectors are kept as 32-bit numbers
    perturb(its)
    settings: Settings = its.settings.model_dump() | {"tasks": its.problem.tasks}
    seen, action = uneven(its)
    codes = [np.zeros(0)] * its.problem.tasks if its.task_encoder is None else codes_by_hand(its, settings)
    actor, critics = parameters(its.actor), parameters(its.critics)
    means, values = [], []
    for i, task in enumerate(seen.tasks.index.tolist()):
        s, a = seen.observation[i].double().numpy(), action[i].double().numpy()
        means.append(network_by_hand(method, actor, "body", s, task, codes[task], settings, None))
        values.append(
            [
                network_by_hand(method, critics, f"bodies.{k}", s, task, codes[task], settings, a).item()
                for k in range(2)
            ]
        )
    with torch.no_grad():
        measured, measured_values = its.actor(seen).numpy(), its.critics(seen, action).numpy()
    assert measured.shape == (9, 2 * its.problem.action_size) and measured_values.shape == (2, 9)
    assert np.ptp(means, axis=0).min() > 1e-2 and np.ptp(values, axis=0).min() > 1e-2, "nothing to compare"
    np.testing.assert_allclose(measured, np.stack(means), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(measured_values, np.stack(values).T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("task_input", ["none", "one_hot"])
def test_mt_sac(task_input: str, depth: int) -> None:
    compare("mt_sac", task_input=task_input, depth=depth)


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("head_layers", [1, 2, 3])
def test_multi_head(head_layers: int, depth: int) -> None:
    compare("multi_head", head_layers=head_layers, depth=depth)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_single_task(depth: int) -> None:
    compare("single_task", depth=depth)


@pytest.mark.parametrize("embedding", ["learned", SHIPPED])
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_soft_modularization_of_mtrl(layers: int, embedding: str) -> None:
    compare("soft_modularization", module_layers=layers, task_embedding=embedding)


@pytest.mark.parametrize(("layers", "modules", "gating"), [(4, 4, 2), (2, 2, 2), (3, 2, 1)])
def test_soft_modularization_of_its_own_code(layers: int, modules: int, gating: int) -> None:
    compare(
        "soft_modularization", variant="original", module_layers=layers, modules=modules, gating_layers=gating,
        encoder_depth=1, feature_size=9, temperature_weights=True,
    )  # fmt: skip


@pytest.mark.parametrize("embedding", ["learned", SHIPPED])
@pytest.mark.parametrize("attention", ["task", "context"])
@pytest.mark.parametrize("experts", [1, 4, 6, 10])
def test_care(experts: int, attention: str, embedding: str) -> None:
    compare("care", experts=experts, attention=attention, task_embedding=embedding)


@pytest.mark.parametrize(("expert_depth", "attention_depth"), [(0, 0), (2, 3)])
def test_care_with_other_depths(expert_depth: int, attention_depth: int) -> None:
    compare("care", expert_depth=expert_depth, attention_depth=attention_depth)


@pytest.mark.parametrize("method", ["ptsl", "care_ptsl"])
@pytest.mark.parametrize(
    ("projection", "residual", "initialisation", "depth"),
    list(
        itertools.product(
            ["shared", "independent"], ["none", "sum", "linear", "project"], ["published_init", "lora_init"], range(4)
        )
    ),
)
def test_projected_layers(method: str, projection: str, residual: str, initialisation: str, depth: int) -> None:
    compare(method, projection=projection, residual=residual, initialisation=initialisation, depth=depth)
