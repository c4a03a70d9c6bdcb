"""The shipped studies of transfer: which source each target begins with, and that each is trained once."""

from __future__ import annotations

import pytest

from mtrepro import paths
from mtrepro.study import load_study


@pytest.mark.parametrize(("name", "counts", "runs"), [("double-pendulum", (2, 3, 4), 114), ("halfcheetah", (3, 4), 75)])
def test_transfer_studies_have_every_omega_and_each_source_once(name: str, counts: tuple[int, ...], runs: int) -> None:
    resolved = load_study(paths.root() / "config" / "studies" / f"transfer-{name}.yaml")
    assert (
        len(resolved.runs) == runs
        and f"`transfer-{name}` ({runs} runs)" in (paths.root() / "docs" / "studies.md").read_text()
    )
    for count in counts:
        targets = [run for run in resolved.arm_runs if run.arm.startswith(f"sources-{count}.") and run.seed == 0]
        assert [run.specification.settings["omega"] for run in targets] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        (source,) = {run.specification.sources["source"].run for run in targets}
        many = next(run for run in resolved.runs if run.name == source)
        assert len(many.tasks) == count and many.specification.settings["sharing"] == "shared"
        assert abs(many.specification.settings["sequences"] * count - 50) <= 2, "as many sequences as published"
        assert abs(many.specification.budget * count - 1_000_000) <= 1, "two million steps at action repeat 2"
        meta = next(run for run in resolved.arm_runs if run.arm == f"meta-{count}" and run.seed == 0)
        asked = {role: source.run for role, source in meta.specification.sources.items()}
        assert asked.pop("encoder") == source and len(asked) == count
        for run in (run for run in resolved.runs if run.name in asked.values()):
            assert run.specification.sources["source"].run == source
            assert run.specification.settings["groups"]["encoder"] == "frozen"
