"""The transfer papers' columns: all evaluations in one pool, worked by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrepro.analysis import pooled, tables
from mtrepro.analysis.aggregate import aggregate
from mtrepro.errors import MtreproError
from tests.unit.analysis_fixture import RANDOM_POLICY, FakeArm, FakeStudy

BOTH = ("overall", "final_tenth")


def by_seed(values: dict[int, list[float]]) -> Callable[..., float]:
    """The same return in all episodes: `values[seed]` at steps 0, 100, 200 ..."""
    return lambda seed, step, task, episode, metric: values[seed][step // 100]


def rows(folder: Path, *arms: FakeArm, **changed: Any) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows of summary.csv by arm, column and statistic."""
    given: dict[str, Any] = {"tasks": ("one",), "metrics": ("return",), "pooled": BOTH} | changed
    study = FakeStudy(folder, arms, **given).write()
    aggregate(study, study / "tables")
    tables.write_tables(study / "tables", study / "tables")
    with (study / "tables" / "summary.csv").open(newline="") as file:
        return {(row["arm"], row["column"], row["statistic"]): row for row in csv.DictReader(file)}


def table(folder: Path) -> str:
    return (folder / "study-fake" / "tables" / "result_table.md").read_text()


# Seed 0: 0, 10, 20 .. 200 at steps 0 .. 2000; seed 1: 100 throughout. 21 evaluations each.
# Overall: 42 points, mean (21 x 100 + 21 x 100) / 42 = 100. Squares about 100: of seed 0
# 2 x 10^2 x (1 + 4 + .. + 100) = 2 x 100 x 385 = 77000, of seed 1 none: std sqrt(77000 / 42) = 42.817.
# Final tenth: steps beyond 1800, which are 1900 and 2000: 190, 200, 100, 100: mean 147.5,
# squares 42.5^2 + 52.5^2 + 47.5^2 + 47.5^2 = 9075: std sqrt(9075 / 4) = 47.631.
STEPS = range(0, 2001, 100)
RAMP = {0: [10.0 * place for place in range(21)], 1: [100.0] * 21}


def test_overall_and_final_tenth_worked_by_hand(tmp_path: Path) -> None:
    found = rows(tmp_path, FakeArm(seeds=(0, 1), steps=STEPS, score=by_seed(RAMP)))
    value = {key[1:]: float(row["value"]) for key, row in found.items() if key[1] in BOTH}
    assert value == pytest.approx(
        {
            ("overall", "mean"): 100.0,
            ("overall", "pooled_std"): math.sqrt(77000 / 42),
            ("final_tenth", "mean"): 147.5,
            ("final_tenth", "pooled_std"): math.sqrt(9075 / 4),
        },
        rel=1e-5,
    )
    mean, deviation = (found["mt-sac", "final_tenth", name] for name in ("mean", "pooled_std"))
    # The honest uncertainty: over the two runs, whose own means are 195 and 100
    assert (mean["run_low"], mean["run_high"], mean["step"], mean["seeds_present"]) == ("100", "195", "2000", "2")
    assert deviation["low"] == deviation["run_high"] == ""
    assert (found["mt-sac", "overall", "mean"]["low"], found["mt-sac", "overall", "mean"]["high"]) == ("100", "100")


def test_the_table_shows_mean_with_its_interval_beside_the_papers_deviation(tmp_path: Path) -> None:
    rows(tmp_path, FakeArm(seeds=(0, 1), steps=STEPS, score=by_seed(RAMP)), RANDOM_POLICY)
    text = table(tmp_path)
    assert text.splitlines()[2].endswith("| Overall | Overall, std | Final tenth | Final tenth, std |")
    line = next(line for line in text.splitlines() if line.startswith("| MT-SAC"))
    assert line.endswith("| 100 [100, 100] | 42.8 | 148 [100, 195] | 47.6 |")
    assert pooled.EXPLAINED in text


def test_a_run_that_diverged_counts_to_the_end_of_its_budget(tmp_path: Path) -> None:
    """Seed 1 diverges after step 500 with 100, which stands for the rest: the pool is that of the case above."""
    alive = rows(tmp_path / "alive", FakeArm(seeds=(0, 1), steps=STEPS, score=by_seed(RAMP)))
    found = rows(tmp_path / "diverged", FakeArm(seeds=(0, 1), steps=STEPS, score=by_seed(RAMP), diverged={1: 500}))
    for column in BOTH:
        for statistic in ("mean", "pooled_std"):
            key = ("mt-sac", column, statistic)
            assert found[key] == alive[key] | {"diverged": "1"}
    line = next(line for line in table(tmp_path / "diverged").splitlines() if line.startswith("| MT-SAC"))
    assert "| 2/2, 1 diverged |" in line


def test_missing_runs_are_no_part_of_the_pool_and_an_arm_without_runs_is_a_hole(tmp_path: Path) -> None:
    some = FakeArm(seeds=(0, 1, 2), steps=STEPS, score=by_seed(RAMP), missing=(2,))
    none = FakeArm("none", seeds=(0,), steps=STEPS, missing=(0,))
    early = FakeArm("early", seeds=(0,), steps=STEPS, score=by_seed(RAMP), diverged={0: 300})
    found = rows(tmp_path, some, none, early)
    mean = found["mt-sac", "overall", "mean"]
    assert (mean["value"], mean["seeds_present"], mean["seeds_expected"]) == ("100", "2", "3")
    assert found["none", "overall", "mean"]["value"] == ""
    # 0, 10, 20, 30 at steps 0 to 300, and 30 where all of an arm's runs have diverged and the budget ends
    assert float(found["early", "overall", "mean"]["value"]) == 18.0
    assert float(found["early", "final_tenth", "mean"]["value"]) == 30.0


def test_tasks_are_pooled_too_and_a_reference_is_its_one_evaluation(tmp_path: Path) -> None:
    arm = FakeArm("random", "R", True, seeds=(0,), steps=(0,), score=lambda seed, step, task, *_: float(task))
    found = rows(tmp_path, arm, tasks=("a", "b", "c"))
    for column in BOTH:
        assert float(found["random", column, "mean"]["value"]) == 1.0
        assert float(found["random", column, "pooled_std"]["value"]) == pytest.approx(math.sqrt(2 / 3), rel=1e-5)


def test_a_study_that_asks_for_none_has_none(tmp_path: Path) -> None:
    found = rows(tmp_path, FakeArm(seeds=(0, 1), steps=STEPS, score=by_seed(RAMP)), pooled=())
    assert {column for _, column, _ in found} == {"final", "best_of_mean_curve", "area_under_curve"}
    assert "Overall" not in table(tmp_path)
    assert '"pooled"' not in (tmp_path / "study-fake" / "tables" / "study.json").read_text()


def test_what_no_table_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MtreproError, match=r"pooled\.0: unknown"):
        rows(tmp_path, FakeArm(), pooled=("last",))
