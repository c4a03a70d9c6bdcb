"""`learner` in studies and specifications: absent where usual, refused where unknown, never compared silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro.errors import SpecificationError
from mtrepro.manifest import manifest_text
from mtrepro.specification import Learner, load_specification
from mtrepro.study import ResolvedStudy, load_study
from tests.conftest import toy_specification, write_run

STUDY: dict[str, Any] = {
    "schema_version": 1, "study": "learners", "title": "two arms", "benchmark": "closing", "budget": 3000, "seeds": [0],
    "evaluation": {"every": 1000},
    "arms": {"one": {"method": "mt_sac"}, "two": {"method": "mt_sac", "settings": {"width": 8}}},
}  # fmt: skip


def resolved(folder: Path, one: dict[str, Any] | None = None, **changed: Any) -> ResolvedStudy:
    arms = {"one": {"method": "mt_sac", **({"learner": one} if one else {})}, "two": STUDY["arms"]["two"]}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"arms": arms} | changed))
    return load_study(path)


def learners(study: ResolvedStudy) -> dict[str, Learner]:
    return {run.arm: run.specification.learner for run in study.runs}


def test_what_is_usual_is_not_written_down_and_changes_no_digest(tmp_path: Path) -> None:
    usual = toy_specification()
    said = toy_specification(learner={"precision": "fp32", "compile": "auto", "stale_policy": False})
    assert said.digest() == usual.digest() and "learner" not in said.to_yaml()
    other = toy_specification(learner=Learner(precision="bf16"))
    assert other.digest() != usual.digest()
    assert yaml.safe_load(other.to_yaml())["learner"] == {"precision": "bf16"}
    assert load_specification(write_run(tmp_path, other)) == other


def test_an_arm_s_word_goes_before_the_study_s_key_by_key(tmp_path: Path) -> None:
    study = resolved(tmp_path, {"precision": "fp32", "stale_policy": True}, learner={"precision": "bf16"})
    assert learners(study)["two"] == Learner(precision="bf16")
    assert learners(study)["one"] == Learner(stale_policy=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precison": "bf16"}, "precision"),
        ({"precision": "fp16"}, "bf16"),
        ({"compile": "graphs"}, "graph"),
        ({"stale_policy": 1}, "stale_policy"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message) as refused:
        resolved(tmp_path, given)
    assert "study.yaml" in str(refused.value) and "learner" in str(refused.value)


def test_such_arms_are_noted_and_not_comparable(tmp_path: Path) -> None:
    published = [{"cell": "care/mt10-2m-care", "arm": arm, "column": "final"} for arm in ("one", "two")]
    study = resolved(tmp_path, {"precision": "bf16", "stale_policy": True}, published=published)
    one, two = study.published
    assert {"updates are computed in bf16 (learner.precision)"} < set(one.differs) - set(two.differs)
    notes = json.loads(manifest_text(study, ".."))["notes"]
    assert len(notes) == 2 and all(note.startswith("one: ") and "not comparable" in note for note in notes)
