"""The published numbers of parameters: a network that counts otherwise is not the one that was measured.

At a 12-d observation and 4 actions: actor, critics, slow critics and log temperatures; CARE's experts, which actor and
critics share, count in both, as mtrl's count does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mtrepro import paths
from mtrepro.benchmarks.metaworld_tasks import MT10
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.unit.embedding_fixture import imported, own_folder
from tests.unit.family_fixture import agent, problem


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def total(its: SoftActorCritic) -> int:
    return count(its.actor) + count(its.critics) + count(its.targets) + its.log_alpha.numel()


def make(method: str, tasks: int | tuple[str, ...] = MT10, **settings: Any) -> SoftActorCritic:
    embedding = {"task_embedding": "learned"} if method in ("care", "care_ptsl") else {}
    return agent(
        method, problem(tasks, observation=12, actions=4), **(embedding | settings | {"replay_transitions": 100})
    )


PUBLISHED: list[tuple[int, str, dict[str, Any]]] = [
    (1_641_222, "mt_sac", {"task_input": "none"}),
    (10_506_530, "multi_head", {}),
    (42_779_050, "multi_head", {"tasks": 50}),
    (589_588, "soft_modularization", {}),
    (485_766, "soft_modularization", {"width": 326}),
    (1_871_534, "care", {}),
    (1_871_532, "care_ptsl", {"width": 326, "depth": 3, "projection_size": 50}),
    (1_833_967, "care_ptsl", {"width": 321}),
    (1_871_467, "care_ptsl", {"width": 321, "residual": "project"}),
    (1_871_547, "care_ptsl", {"residual": "linear"}),
    (1_556_454, "care_ptsl", {"width": 400, "depth": 2}),
    (1_756_454, "care_ptsl", {"width": 400, "depth": 2, "projection": "independent"}),
    (3_426_052, "care_ptsl", {"tasks": 50}),
    (2_600_974, "care_ptsl", {"tasks": 50, "width": 400, "depth": 2}),
    (1_869_908, "care_ptsl", {"tasks": 50, "width": 274, "projection_size": 32}),
    (1_871_574, "care", {"tasks": 50}),
]


@pytest.mark.parametrize(("published", "method", "settings"), PUBLISHED)
def test_networks_have_the_published_size(published: int, method: str, settings: dict[str, Any]) -> None:
    assert total(make(method, **settings)) == published


def test_the_parts_of_mt_sac() -> None:
    its = make("mt_sac", task_input="none")
    assert [count(its.actor), *map(count, its.critics.bodies)] == [329_208, 328_001, 328_001]


def test_the_parts_of_care() -> None:
    its = make("care")
    encoder: Any = its.critics.encoder
    assert [count(encoder.experts), count(encoder.attention), count(encoder)] == [12_800, 5_304, 18_104]
    assert count(its.actor.encoder) == 18_104
    assert [count(its.actor.body), *map(count, its.critics.bodies)] == [364_408, 363_201, 363_201]
    assert count(its.task_encoder) == 8_150, "a learned table of 10 x 50 and the trunk"


def test_the_task_encoder_of_vectors_as_wide_as_robertas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = paths.root() / "config" / "methods"
    own_folder(tmp_path, monkeypatch)
    (tmp_path / "config" / "methods").symlink_to(methods)
    imported("wide", {task: [float(index)] * 768 for index, task in enumerate(MT10)})
    for method in ("care", "care_ptsl"):
        its = make(method, task_embedding="wide")
        assert count(its.task_encoder) == 89_600
        assert total(its) == {"care": 1_871_534, "care_ptsl": 1_871_532}[method]


def test_single_agents_are_ten_small_ones_and_ptsl_without_care_has_no_encoder() -> None:
    assert total(make("single_task")) == 10 * (329_208 + 4 * 328_001 + 1)
    its = make("ptsl")
    assert sum(p.numel() for name, p in its.actor.named_parameters() if name.startswith("encoder")) == 0
