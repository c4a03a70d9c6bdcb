"""What the released studies were made for, still true of what is in git."""

from __future__ import annotations

import csv
import json

import pytest

from mtrepro import paths
from mtrepro.methods._loading import load_method
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.specification import method_names

STUDY = paths.root() / "results" / "released" / "closing-methods"
LEARNS = 0.75  # success that the best point of a method's mean curve has to reach
FAMILY = [name for name in method_names() if issubclass(load_method(name), SoftActorCritic)]


@pytest.mark.parametrize("method", FAMILY)
def test_every_method_of_the_soft_actor_critic_family_has_learnt(method: str) -> None:
    manifest = json.loads((STUDY / "manifest.json").read_text())
    (arm,) = [arm for arm in manifest["arms"] if arm["method"] == method]
    with (STUDY / "tables" / "curves.csv").open() as file:
        points = [
            row
            for row in csv.DictReader(file)
            if (row["arm"], row["task"], row["metric"], row["statistic"]) == (arm["arm"], "all", "success", "mean")
        ]
    best = max(points, key=lambda row: float(row["value"]))
    assert float(best["value"]) >= LEARNS and int(best["seeds"]) == 2
    assert int(points[-1]["step"]) <= 60_000
