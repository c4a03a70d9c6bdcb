"""A study of two Dreamers that learn from a third: files of it, trained where a test needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtrepro import options, process
from mtrepro.engine.signals import StopRequest
from mtrepro.study import ResolvedStudy, Run, load_study
from tests.conftest import SMALL, known_to

PIXELS = {"name": "toy-pixels", "settings": {"tasks": 1, "goals": "fixed"}}
STUDY: dict[str, Any] = {
    "schema_version": 1,
    "study": "lineage",
    "title": "Two that learn from a third",
    "benchmark": PIXELS,
    "budget": 60,
    "seeds": [0, 1],
    "evaluation": {"every": 60, "episodes": 1},
    "metrics_every": 20,
    "settings": known_to("dreamer", SMALL) | {"first_updates": 4},
    "sources": {"first": {"method": "dreamer", "benchmark": {"name": "toy-pixels", "settings": {"tasks": 1}}}},
    "arms": {
        "modular": {"method": "transfer", "sources": {"source": "first"}, "settings": {"omega": 0.0}},
        "fraction": {"method": "transfer", "sources": {"source": {"name": "first", "seed": 0}}},
    },
}


def study(folder: Path, **changed: Any) -> ResolvedStudy:
    """The study with these keys changed."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changed, sort_keys=False))
    return load_study(path)


def run_of(resolved: ResolvedStudy, arm: str, seed: int = 0) -> Run:
    """One of its runs."""
    return next(run for run in resolved.runs if (run.arm, run.seed) == (arm, seed))


def trained(folder: Path, run: Run, keep: str = "results") -> Path:
    """Train a run below a folder; its own folder."""
    path = folder / run.name / "specification.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(run.specification.to_yaml())
    with StopRequest() as stop:
        assert process.train(path, options.Options(device="cpu", keep=keep), stop) == 0
    return path.parent
