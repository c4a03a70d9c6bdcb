"""Runs that learn from other runs: how a study names them, what they leave, what makes them stale."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro.accepting import is_finished
from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError, SpecificationError, StateError
from mtrepro.lineage import changed_sources, state_digest, weights_digest
from mtrepro.specification import load_specification
from mtrepro.weights import digest_of
from mtrepro.workflow import Study
from tests.unit.lineage_fixture import PIXELS, STUDY, run_of, study, trained

# How a study names them


def test_a_source_has_the_runs_that_are_asked_for_each_once(tmp_path: Path) -> None:
    resolved = study(tmp_path)
    assert [(run.arm, run.seed) for run in resolved.runs] == [
        ("modular", 0), ("modular", 1), ("fraction", 0), ("fraction", 1), ("first", 0), ("first", 1),
    ]  # fmt: skip
    assert [run.arm for run in resolved.arm_runs] == ["modular", "modular", "fraction", "fraction"]
    first = {seed: run_of(resolved, "first", seed) for seed in (0, 1)}
    assert resolved.sources == {run.name for run in first.values()}
    for arm, seed, of in (("modular", 1, 1), ("fraction", 1, 0)):
        specification = run_of(resolved, arm, seed).specification
        assert specification.sources["source"].run == first[of].name
        assert specification.sources["source"].digest == first[of].specification.digest()


def test_what_a_run_is_covers_what_it_learns_from_and_survives_its_file(tmp_path: Path) -> None:
    run = run_of(study(tmp_path), "modular")
    longer = study(tmp_path, sources={"first": STUDY["sources"]["first"] | {"budget": 61}})
    assert run_of(longer, "modular").name != run.name
    path = tmp_path / "specification.yaml"
    path.write_text(run.specification.to_yaml())
    assert load_specification(path) == run.specification
    source = run_of(study(tmp_path), "first").specification
    assert "sources" not in source.to_yaml(), "others are called what they were called before"


def test_an_arm_that_is_also_a_source_is_one_run(tmp_path: Path) -> None:
    arms = STUDY["arms"] | {"alone": {"method": "dreamer"}}
    resolved = study(tmp_path, arms=arms, sources={"first": {"method": "dreamer"}})
    assert len(resolved.runs) == 6 and len({run.name for run in resolved.runs}) == 6
    assert resolved.sources == {run_of(resolved, "alone", seed).name for seed in (0, 1)}


SOURCE = {"method": "dreamer"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"sources": {"frist": SOURCE}},
            "arms.modular.sources.source: unknown source 'first'\n  known: frist (nearest: frist)",
        ),
        ({"sources": {"first": SOURCE, "idle": SOURCE}}, "sources.idle: nothing learns from it"),
        ({"sources": {"first": {"method": "random_policy"}}}, "sources.first.method: random_policy leaves nothing"),
        ({"sources": {"modular": SOURCE, "first": SOURCE}}, "sources.modular: is also the name of an arm"),
        (
            {"sources": {"first": {"method": "transfer", "sources": {"source": "first"}}}},
            "sources.first.sources.source: first learns from first: no run can begin",
        ),
        (
            {"sources": {"first": SOURCE | {"settings": {"width": 24}}}},
            "arms.modular.settings.width: 16, but its source has 24: reward_hidden would not fit",
        ),
        (
            {"arms": {"a": {"method": "dreamer", "sources": {"source": "first"}}}},
            "arms.a.sources: dreamer learns from no other run",
        ),
        ({"arms": {"a": {"method": "transfer"}}}, "arms.a.sources: transfer begins from one run"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_meant_are_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecificationError) as caught:
        study(tmp_path, **changed)
    assert message in str(caught.value)


# What they leave, and what makes them stale


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source and one target, trained."""
    folder = tmp_path_factory.mktemp("lineage")
    resolved = study(folder)
    trained(folder, run_of(resolved, "first"), "weights")
    trained(folder, run_of(resolved, "modular"))
    return folder


def names(folder: Path) -> tuple[Path, Path]:
    resolved = study(folder)
    return folder / run_of(resolved, "first").name, folder / run_of(resolved, "modular").name


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def test_both_records_speak_of_the_same_weights(lived: Path) -> None:
    source, target = names(lived)
    digest = digest_of((source / "weights.pt").read_bytes())
    assert record(source)["weights"] == digest == weights_digest(source)
    assert record(target)["sources"] == {"source": {"run": source.name, "weights": digest}}
    assert changed_sources(target) == []


def test_equal_runs_leave_equal_weights(lived: Path, tmp_path: Path) -> None:
    source, _ = names(lived)
    again = trained(tmp_path, run_of(study(lived), "first"), "weights")
    assert (again / "weights.pt").read_bytes() == (source / "weights.pt").read_bytes()


@pytest.fixture
def other_weights(lived: Path) -> Any:
    """The source as if it had been trained to other weights."""
    source, _ = names(lived)
    before = {name: (source / name).read_bytes() for name in ("weights.pt", "run.json")}
    left = torch.load(source / "weights.pt", weights_only=True)
    left["weights"]["encoder"]["layers.0.bias"] += 1
    torch.save(left, source / "weights.pt")
    digest = digest_of((source / "weights.pt").read_bytes())
    write_atomically(source / "run.json", json.dumps(record(source) | {"weights": digest}))
    yield lived
    for name, content in before.items():
        write_atomically(source / name, content)


def test_a_source_with_other_weights_makes_its_target_stale_and_its_checkpoints_another_runs(
    other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = names(other_weights)
    mine = record(target)
    digests = mine["specification_digest"], mine["source_digest"]
    assert changed_sources(target) == [source.name]
    assert not is_finished(target, *digests)
    sources = run_of(study(other_weights), "modular").specification.sources
    now = state_digest("code", other_weights, sources)
    (source / "weights.pt").rename(source / "away")
    assert changed_sources(target) == [], "lost weights are compared when they are there again"
    assert is_finished(target, *digests)
    (source / "away").rename(source / "weights.pt")
    assert state_digest("code", other_weights, sources) == now != state_digest("code", other_weights, {}) == "code"


def test_a_target_is_no_more_bit_exact_than_what_it_learnt_from(lived: Path, tmp_path: Path) -> None:
    resolved = study(lived)
    first, target = run_of(resolved, "first"), run_of(resolved, "modular")
    assert record(lived / target.name)["exact"] is True
    shutil.copytree(lived / first.name, tmp_path / first.name)
    write_atomically(
        tmp_path / first.name / "run.json", json.dumps(record(lived / first.name) | {"exact": False})
    )  # as --other-machine marks it
    trained(tmp_path, target)
    assert record(tmp_path / target.name)["exact"] is False


def test_weights_that_are_missing_damaged_or_anothers_are_refused(lived: Path, tmp_path: Path) -> None:
    resolved = study(tmp_path)
    first, target = run_of(resolved, "first"), run_of(resolved, "fraction")
    with pytest.raises(MtreproError, match="there are no such weights") as caught:
        trained(tmp_path, target)
    assert "--keep weights" in str(caught.value)
    kept = names(lived)[0]
    (tmp_path / first.name).mkdir()
    for name in ("weights.pt", "run.json"):
        (tmp_path / first.name / name).write_bytes((kept / name).read_bytes())
    path = tmp_path / first.name / "weights.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(StateError, match="damaged"):
        trained(tmp_path, target)
    left = torch.load(kept / "weights.pt", weights_only=True)
    for changed, message in (
        ({"specification_digest": "0" * 64}, "of another specification"),
        ({"diverged": "a loss is not finite"}, "its run diverged"),
        ({"weights": torch.nn.Linear}, "no weights of a run"),
    ):
        torch.save(left | changed, path)
        write_atomically(path.with_name("run.json"), json.dumps({"weights": digest_of(path.read_bytes())}))
        with pytest.raises((StateError, SpecificationError), match=message):
            trained(tmp_path, target)


def test_the_rules_are_told_who_leaves_what_and_who_must_learn_again(
    other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = study(other_weights, benchmark=PIXELS)
    rules = Study(resolved)
    rules.results = str(other_weights)
    source, target = (path.name for path in names(other_weights))
    assert rules.runs == [run.name for run in resolved.arm_runs] and source in rules.sources
    assert (rules.keep(source), rules.keep(target)) == ("weights", "pictures")
    assert rules.weights_for(target) == [f"{rules.results}/{source}/weights.pt"] and rules.weights_for(source) == []
    assert rules.traced(target) == [f"{rules.results}/{target}/sources.json"] and rules.traced(source) == []
    assert rules.must_learn_again(target) and not rules.must_learn_again(source)
