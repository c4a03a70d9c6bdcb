"""The shipped studies: what each promises (runs, budgets, readings, numbers of parameters) is what it resolves to."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrepro import paths
from mtrepro.methods import Problem
from mtrepro.methods._loading import make_method
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.specification import Specification, method_names
from mtrepro.study import ResolvedStudy, load_study

CONFIG = paths.root() / "config"
# Tasks, vector steps, seeds, arms that learn. Each study has a random policy as well.
PUBLISHED = {
    "ptsl-mtrl10-200k": (10, 200_000, 10, 11),
    "ptsl-mtrl10-1m": (10, 1_000_000, 4, 10),
    "ptsl-mtrl50-200k": (50, 200_000, 10, 10),
    "ptsl-mtrl50-1m": (50, 1_000_000, 4, 10),
    "ptsl-projection": (10, 200_000, 10, 4),
    "ptsl-residual": (10, 200_000, 4, 9),
    "care-mt10": (10, 2_000_000, 10, 9),
    "care-mt50": (50, 2_000_000, 10, 7),
    "metaworld-plus-mt10-v1": (10, 2_000_000, 10, 4),
    "metaworld-plus-mt10-v2": (10, 2_000_000, 10, 4),
    "metaworld-plus-mt50-v1": (50, 2_000_000, 10, 4),
    "metaworld-plus-mt50-v2": (50, 2_000_000, 10, 4),
}
RUNS = {
    "ptsl-mtrl10-200k": 120,
    "ptsl-mtrl10-1m": 44,
    "ptsl-mtrl50-200k": 110,
    "ptsl-mtrl50-1m": 44,
    "ptsl-projection": 50,
    "ptsl-residual": 40,
    "care-mt10": 100,
    "care-mt50": 80,
    "metaworld-plus-mt10-v1": 50,
    "metaworld-plus-mt10-v2": 50,
    "metaworld-plus-mt50-v1": 50,
    "metaworld-plus-mt50-v2": 50,
}
DEMO_NAMES = ("demo-all", "demo-pixels", "demo-pixel-tasks", "demo-meta", "demo-transfer")
DEMOS = [CONFIG / f"{name}.yaml" for name in DEMO_NAMES]  # what `make demo-all` runs
FILES = [CONFIG / "demo.yaml", *DEMOS, *sorted((CONFIG / "studies").glob("*.yaml"))]


@cache
def load(name: str) -> ResolvedStudy:
    return load_study(CONFIG / "studies" / f"{name}.yaml")


def arm(study: str, name: str) -> Specification:
    return next(run.specification for run in load(study).runs if run.arm == name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_resolves_and_is_called_as_its_file(path: Path) -> None:
    study = load_study(path)
    assert study.runs and study.study.study == path.stem


@pytest.mark.parametrize("name", PUBLISHED)
def test_tasks_budget_seeds_arms_and_runs(name: str) -> None:
    tasks, budget, seeds, learners = PUBLISHED[name]
    resolved = load(name)
    study = resolved.study
    references = [arm for arm in study.arms.values() if arm.reference]
    assert [(each.method, each.budget) for each in references] == [("random_policy", 0)]
    assert (len(resolved.tasks), study.budget, len(study.seeds)) == (tasks, budget, seeds)
    assert len(study.arms) - len(references) == learners
    assert len(resolved.runs) == (learners + 1) * seeds == RUNS[name]
    assert f"{budget:,} vector steps are {budget * tasks:,} transitions" in study.note


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_arm_that_learns_learns_for_the_whole_budget_from_batches_of_its_paper(name: str) -> None:
    resolved = load(name)
    batch = 128 * len(resolved.tasks) if not name.startswith("ptsl") else 1280
    for run in resolved.runs:
        if run.specification.method != "random_policy":
            assert run.specification.budget == resolved.study.budget
            assert run.specification.settings["batch"] == batch


@pytest.mark.parametrize("name", PUBLISHED)
def test_conditions_are_those_of_the_paper(name: str) -> None:
    benchmark, evaluation = load(name).benchmark, load(name).runs[0].specification.evaluation
    measured = (evaluation.every, evaluation.episodes)
    if name.startswith("metaworld-plus"):
        assert (benchmark["protocol"], benchmark["reward_version"]) == ("v3", name[-2:])
        assert measured == (100_000, 50)
    else:
        assert (benchmark["protocol"], benchmark["observation_size"]) == ("2020", 12)
        assert measured == ((30_000, 1) if name.startswith("ptsl") else (10_000, 5))


# The two readings


@pytest.mark.parametrize(
    ("name", "published", "meant"),
    [
        *((f"ptsl-mtrl{tasks}-{steps}", 4, 5) for tasks in (10, 50) for steps in ("200k", "1m")),  # and CARE in both
        ("ptsl-projection", 2, 2),
        ("ptsl-residual", 4, 4),
        ("care-mt10", 2, 2),
        ("care-mt50", 2, 2),
        ("metaworld-plus-mt10-v1", 0, 0),
    ],
)
def test_arms_of_each_reading(name: str, published: int, meant: int) -> None:
    readings = [arm.rpartition(".")[2] for arm in load(name).study.arms]
    assert (readings.count("as_published"), readings.count("as_meant")) == (published, meant)


def test_a_label_says_its_reading() -> None:
    for name in PUBLISHED:
        for key, each in load(name).study.arms.items():
            reading = key.rpartition(".")[2].replace("_", " ")
            assert each.label
            assert (f"({reading})" in each.label) == (reading in ("as published", "as meant"))


def test_care_ptsl_starts_as_published_or_so_that_all_of_it_learns() -> None:
    readings = {"as_published": "published_init", "published-init": "published_init", "as_meant": "lora_init"}
    found = set()
    for name in PUBLISHED:
        for run in load(name).runs:
            if run.specification.method == "care_ptsl":
                assert run.specification.settings["initialisation"] == readings[run.arm.rpartition(".")[2]]
                found.add(name)
    assert found == {name for name in PUBLISHED if name.startswith("ptsl")}


@pytest.mark.parametrize(
    ("study", "key", "values", "sizes"),
    [
        ("ptsl-projection", "projection", {"shared", "independent"}, {400}),
        ("ptsl-residual", "residual", {"none", "sum", "linear", "project"}, {326, 321}),
    ],
)
def test_the_ablations_are_crossed_with_both_initialisations(
    study: str, key: str, values: set[str], sizes: set[int]
) -> None:
    settings = [run.specification.settings for run in load(study).runs if run.specification.method == "care_ptsl"]
    crossed = {(each[key], each["initialisation"]) for each in settings if (each[key], each["width"]) != ("none", 321)}
    assert crossed == {(value, start) for value in values for start in ("published_init", "lora_init")}
    assert {each["width"] for each in settings} == sizes


def test_arms_that_stand_in_two_studies_are_trained_once() -> None:
    main = {run.name for run in load("ptsl-mtrl10-200k").runs if run.specification.method != "random_policy"}
    for study, arms in (
        ("ptsl-projection", {"shared.as_published", "shared.as_meant"}),
        ("ptsl-residual", {"none.as_meant", "none-326.published-init"}),
    ):
        assert {run.arm for run in load(study).runs if run.name in main} == arms


# Printed numbers


@pytest.mark.parametrize("name", PUBLISHED)
def test_printed_numbers_are_named_and_so_is_what_differs(name: str) -> None:
    compared = load(name).published
    assert all(each.differs for each in compared)
    papers = {"ptsl": "ptsl", "care": "care", "metaworld": "meta_world_plus"}
    assert {each.comparison.cell.partition("/")[0] for each in compared} == {papers[name.partition("-")[0]]}
    if name.startswith("care"):
        assert {each.step for each in compared} == {100_000, 500_000, 2_000_000}
    else:
        assert {each.step for each in compared} == {load(name).study.budget}


def test_no_number_is_said_to_be_at_another_step_column_or_number_of_tasks() -> None:
    for name in ("care-mt10", "care-mt50", *(name for name in PUBLISHED if name.startswith("ptsl-mtrl"))):
        reasons = {reason for each in load(name).published for reason in each.differs}
        automatic = re.compile("read at vector step .*took|paper's number is|the study has")
        assert not [reason for reason in reasons if automatic.search(reason)]


def test_meta_world_plus_is_its_code_s_settings_and_says_where_ours_differ() -> None:
    for name in (name for name in PUBLISHED if name.startswith("metaworld-plus")):
        settings = [run.specification.settings for run in load(name).runs if run.specification.budget]
        replay, epsilon = (5_000_000, 1e-8) if "mt50" in name else (1_000_000, 1e-5)
        assert {(each["replay_transitions"], each["adam_epsilon"]) for each in settings} == {(replay, epsilon)}
        for each in load(name).published:
            said = " ".join(each.differs)
            assert "temperature loss" in said and ("pull request 6" in said) == ("mt50" in name)


# Parameters


def parameters(specification: Specification, tasks: tuple[str, ...]) -> int:
    """Actor, critics, targets and temperatures, without the task encoder: as PTSL counts."""
    size = int(specification.benchmark["observation_size"])
    problem = Problem(tasks, (size,), np.dtype(np.float32), 4, np.ones((len(tasks), 4), bool), 150)
    settings = specification.settings | {"replay_transitions": len(tasks)}
    agent = make_method(specification.method, settings, problem, 0, torch.device("cpu"))
    assert isinstance(agent, SoftActorCritic)
    networks = (agent.actor, agent.critics, agent.targets)
    return sum(each.numel() for network in networks for each in network.parameters()) + agent.log_alpha.numel()


@pytest.mark.parametrize(
    ("study", "name", "count"),
    [
        ("ptsl-mtrl10-200k", "mt-sac.as_published", 1_641_222),
        ("ptsl-mtrl10-200k", "soft-modularization.as_published", 485_766),
        ("ptsl-mtrl10-200k", "soft-modularization.as_meant", 589_588),
        ("ptsl-mtrl10-200k", "soft-modularization-4-layers.as_meant", 7_137_748),
        ("ptsl-mtrl10-200k", "care", 1_871_534),
        *(
            (f"ptsl-mtrl10-{steps}", f"{arm}.{reading}", count)
            for steps in ("200k", "1m")
            for arm, count in (("care-ptsl", 1_871_532), ("care-ptsl-2-layers", 1_556_454))
            for reading in ("as_published", "as_meant")
        ),
        *(
            (f"ptsl-mtrl50-{steps}", arm, count)
            for steps in ("200k", "1m")
            for arm, count in (
                ("care", 1_871_574),
                ("care-ptsl.as_published", 3_426_052),
                ("care-ptsl.as_meant", 1_869_908),
                ("care-ptsl-2-layers.as_published", 2_600_974),
                ("care-ptsl-2-layers.as_meant", 2_600_974),
            )
        ),
        ("ptsl-projection", "shared.as_published", 1_556_454),
        ("ptsl-projection", "independent.as_meant", 1_756_454),
        ("ptsl-residual", "none.as_published", 1_833_967),
        ("ptsl-residual", "none.as_meant", 1_871_532),
        ("ptsl-residual", "sum.as_published", 1_871_532),
        ("ptsl-residual", "linear.as_meant", 1_871_547),
        ("ptsl-residual", "project.as_published", 1_871_467),
        ("ptsl-residual", "project.as_meant", 1_871_467),
        ("care-mt10", "multi-head", 10_506_530),
        ("care-mt50", "multi-head", 42_779_050),
        ("care-mt10", "soft-modularization.as_published", 589_588),
    ],
)
def test_numbers_of_parameters(study: str, name: str, count: int) -> None:
    assert parameters(arm(study, name), load(study).tasks) == count


# The demos


def test_demo_all_has_every_method_and_both_forms_of_those_that_have_two() -> None:
    studies = [load_study(path) for path in DEMOS]
    specifications = [run.specification for study in studies for run in study.runs]
    assert {each.method for each in specifications} == set(method_names())
    assert {each.settings["variant"] for each in specifications if "variant" in each.settings} == {"mtrl", "original"}
    assert {each.settings["attention"] for each in specifications if each.method == "care"} == {"task", "context"}
    assert {each.settings["latent"] for each in specifications if "latent" in each.settings} == {
        "gaussian",
        "categorical",
    }
    for study in studies:
        assert study.study.results == "results/demo" and "nothing else" in study.study.note
    commands = (paths.root() / "Makefile").read_text()
    assert all(
        f"--configfile config/{path.name} && mtrepro show results/demo/study-{path.stem}\n" in commands
        for path in DEMOS
    )


# The page


def test_the_page_says_what_the_studies_are() -> None:
    text = (paths.root() / "docs" / "studies.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \|[^|]*\| (.*) \|$", text, re.MULTILINE))
    expected = {
        name: f"{learners} | {seeds} | {budget:,} ({budget * tasks:,}) | {RUNS[name]}"
        for name, (tasks, budget, seeds, learners) in PUBLISHED.items()
    }
    assert rows == expected
