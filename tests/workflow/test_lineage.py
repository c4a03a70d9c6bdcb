"""Runs that learn from other runs, with real Snakemake: a source trained once, and what repeats what."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtrepro.weights import digest_of
from tests.unit.lineage_fixture import STUDY

from .conftest import Checkout

pytestmark = pytest.mark.slow

FILE = "config/studies/lineage.yaml"
SOURCES = {
    "first": {"method": "dreamer"},
    "frozen": {
        "method": "transfer",
        "sources": {"source": "first"},
        "settings": {"mode": "modular", "groups": {"encoder": "frozen", "decoder": "copy"}},
    },
}
META = {"method": "meta_model_transfer", "sources": {"encoder": "first", "near": "frozen"}}


class Family:
    """The study in a checkout, by the names of its arms and sources; one seed."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout, self.results = checkout, checkout.path / "results/lineage"
        self.names: dict[str, str] = {}
        for line in checkout.run("mtrepro", "plan", FILE).splitlines():
            if found := re.match(r"│ (\S+) +│ +0 │ (\S+) ", line):
                self.names[found[2]] = found[1]

    def folder(self, arm: str) -> Path:
        return next(self.results / run for run, name in self.names.items() if name == arm)

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run would train, by arm or source, and the rule."""
        output = self.checkout.snakemake("runs", "--dry-run", "--quiet", "host", *arguments, study=FILE)
        jobs = re.findall(r"^rule (train\w*):\n(?:    .*\n)*?    wildcards: run=(\S+)", output, re.MULTILINE)
        return {f"{rule} {self.names[run]}" for rule, run in jobs}

    def rules(self, target: str) -> Counter[str]:
        """What a dry run would do, by rule."""
        output = self.checkout.snakemake(target, "--dry-run", "--quiet", "host", study=FILE)
        found = Counter(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))
        del found[target]
        return found

    def record(self, arm: str) -> dict[str, Any]:
        return dict(json.loads((self.folder(arm) / "run.json").read_text()))


@pytest.fixture(scope="module")
def family(chain: Checkout) -> Iterator[Family]:
    """The study, trained: first -> modular, fraction; first -> frozen -> meta."""
    study = {**STUDY, "results": "results/lineage", "seeds": [0], "sources": SOURCES}
    path = chain.path / FILE
    path.write_text(yaml.safe_dump(study | {"arms": STUDY["arms"] | {"meta": META}}, sort_keys=False))
    output = chain.snakemake("runs", study=FILE)
    assert output.count("(Rule: train_leaving)") == 5 and "(Rule: film)" not in output
    yield Family(chain)
    path.unlink()


def test_a_source_is_trained_once_and_all_learnt_from_what_it_left(family: Family) -> None:
    left = family.record("first")["weights"]
    for arm, role in (("modular", "source"), ("fraction", "source"), ("frozen", "source"), ("meta", "encoder")):
        assert family.record(arm)["sources"][role]["weights"] == left
    assert family.record("meta")["sources"]["near"]["weights"] == family.record("frozen")["weights"]
    assert (family.folder("modular") / "weights.pt").exists(), "nothing learns from it, and it is shown in pictures"


def test_a_lost_target_is_trained_again_and_no_other(family: Family) -> None:
    record = family.folder("fraction") / "run.json"
    before = record.read_bytes()
    record.unlink()
    try:
        assert family.planned() == {"train_leaving fraction"}
    finally:
        record.write_bytes(before)


def test_lost_weights_are_made_again_and_equal_ones_repeat_no_target(family: Family) -> None:
    (family.folder("first") / "weights.pt").unlink()
    kept = {arm: (family.folder(arm) / "run.json").read_bytes() for arm in ("modular", "fraction", "frozen", "meta")}
    output = family.checkout.snakemake("runs", study=FILE)
    assert output.count("(Rule: train_leaving)") == 1 and "(Rule: train)" not in output
    assert all((family.folder(arm) / "run.json").read_bytes() == before for arm, before in kept.items())
    assert family.planned() == set()


def test_other_weights_make_everything_stale_that_learnt_from_them(family: Family) -> None:
    folder = family.folder("frozen")
    before = {name: (folder / name).read_bytes() for name in ("weights.pt", "run.json")}
    left = torch.load(folder / "weights.pt", weights_only=True)
    left["weights"]["reward_output"]["bias"] += 1
    torch.save(left, folder / "weights.pt")
    digest = digest_of((folder / "weights.pt").read_bytes())
    (folder / "run.json").write_text(json.dumps(family.record("frozen") | {"weights": digest}))
    try:
        assert family.planned() == {"train_leaving meta"}
        assert "its sources were trained again" in family.checkout.run("mtrepro", "status", FILE, COLUMNS="300")
    finally:
        for name, content in before.items():
            (folder / name).write_bytes(content)


def test_edited_code_of_a_source_repeats_it_and_all_that_learnt_from_it(family: Family) -> None:
    with family.checkout.edited("src/mtrepro/methods/dreamer.py", "\nclass ", "\nEDITED = True\n\n\nclass "):
        assert family.planned() == {f"train_leaving {arm}" for arm in family.names.values()}


def test_every_run_is_shown_in_pictures_and_nothing_is_trained_for_them(family: Family) -> None:
    folder = family.results / "study-lineage"
    lost = family.folder("fraction") / "weights.pt"
    kept = lost.read_bytes()
    lost.unlink()
    output = family.checkout.snakemake("pictures", study=FILE)
    assert output.count("(Rule: film)") == output.count("(Rule: draw_pictures)") == 4
    assert "(Rule: train" not in output, "a finished run goes without pictures where its weights were deleted"
    lost.write_bytes(kept)
    names = {path.name for path in (folder / "pictures").iterdir()}
    drawn = ("first", "frozen", "modular", "meta")
    assert names == {f"{arm}-s0-{kind}.gif" for arm in drawn for kind in ("episode", "open_loop")}
    report = (folder / "report.html").read_text()
    assert all(name in report for name in names) and "open-loop prediction" in report


def test_pictures_alone_are_drawn_again_where_one_is_lost_or_their_code_is_edited(family: Family) -> None:
    """After the test above, which drew those of four runs; the fifth has its weights back and waits for its film."""
    picture = family.results / "study-lineage/pictures/meta-s0-episode.gif"
    before = picture.read_bytes()
    picture.unlink()
    assert family.rules("pictures") == {"film": 1, "draw_pictures": 2}
    picture.write_bytes(before)
    with family.checkout.edited("src/mtrepro/analysis/pictures.py", "GAP, APART = 4, 12", "GAP, APART = 5, 12"):
        assert family.rules("pictures") == {"film": 1, "draw_pictures": 5}
        partial = family.rules("partial")
        assert partial["draw_pictures_present"] == 4 and "film" not in partial
