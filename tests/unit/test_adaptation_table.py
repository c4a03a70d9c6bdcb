"""Held-out tasks in the tables: before and after adapting, the change within each run, and arms less each other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mtrepro.analysis import tables
from mtrepro.analysis.aggregate import aggregate
from mtrepro.analysis.files import number, read_rows
from mtrepro.analysis.study_note import HELD_OUT
from tests.unit.analysis_fixture import FakeArm, FakeStudy

TASKS = ("seen", "new", "newer")
METRICS = ("return", "success", "adapted_return", "adapted_success", "model_loss", "adapted_model_loss")
BEFORE = (20.0, 10.0, 30.0)  # of a seed's model loss: far apart, so that only differences within a run are certain


def losses(*falls: float) -> FakeArm:
    """Whose loss on each task falls by so much, one number a seed, and by twice as much on the last task."""

    def score(seed: int, step: int, task: int, episode: int, metric: str) -> float:
        loss = BEFORE[seed] + task
        fall = falls[seed] * (2 if task == 2 else 1) if step else 0.0
        return {"model_loss": loss, "adapted_model_loss": loss - fall}.get(metric, 0.5)

    name = f"fell-{falls[0]:g}"
    return FakeArm(name, name, seeds=range(len(falls)), steps=(0, 500), score=score)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = (losses(3.0, 2.0, 4.0), losses(1.0, -1.0, 0.0), losses(0.5, 0.5))
    study = FakeStudy(tmp_path_factory.mktemp("study"), arms, TASKS, METRICS, held_out=TASKS[1:]).write()
    aggregate(study, study / "tables")
    tables.write_tables(study / "tables", study / "tables")
    return study / "tables"


def one_row(folder: Path, arm: str, against: str, task: str, metric: str = "model_loss_change") -> dict[str, str]:
    where = {"arm": arm, "against": against, "task": task, "metric": metric, "column": "final", "statistic": "mean"}
    (row,) = [row for row in read_rows(folder / "per_task.csv", list(where)) if where.items() <= row.items()]
    return row


def test_a_change_is_paired_within_each_run(folder: Path) -> None:
    new, both = (one_row(folder, "fell-3", "", task) for task in ("new", HELD_OUT))
    assert [number(new[key]) for key in ("value", "low", "high", "below_zero")] == [-3.0, -4.0, -2.0, 3]
    assert number(both["value"]) == -4.5 and number(both["high"]) < 0 and both["below_zero"] == "3"
    before = one_row(folder, "fell-3", "", "new", "model_loss")
    assert number(before["high"]) - number(before["low"]) == 20 and not before["below_zero"]


def test_a_loss_that_does_not_fall_in_every_run_is_counted(folder: Path) -> None:
    assert one_row(folder, "fell-1", "", "new")["below_zero"] == "1"
    assert number(one_row(folder, "fell-1", "", "new")["value"]) == 0


def test_arms_are_compared_seed_by_seed_where_both_have_one(folder: Path) -> None:
    row = one_row(folder, "fell-3", "fell-1", "new")
    assert [number(row[key]) for key in ("value", "low", "high", "below_zero")] == [-3.0, -4.0, -2.0, 3]
    after = one_row(folder, "fell-3", "fell-1", "new", "adapted_model_loss")
    assert number(after["value"]) == -3.0  # they were equal before
    fewer = one_row(folder, "fell-3", "fell-0.5", "new")
    assert fewer["seeds_present"] == "2" and number(fewer["value"]) == -2.0  # -2.5 and -1.5; the third seed has no pair
    assert fewer["seeds_expected"] == "2"


def tables_of(folder: Path, *arms: FakeArm) -> Path:
    study = FakeStudy(folder, arms, TASKS, METRICS, held_out=TASKS[1:]).write()
    aggregate(study, study / "tables")
    tables.write_tables(study / "tables", study / "tables")
    return study / "tables"


def test_missing_pairs_and_holes_are_counted(tmp_path: Path) -> None:
    some = replace(losses(3.0, 2.0, 4.0), missing=(2,))
    other = replace(losses(1.0, 1.0, 1.0), missing=(0,))
    none = replace(losses(0.5, 0.5, 0.5), missing=(0, 1, 2))
    folder = tables_of(tmp_path, some, other, none)
    row = one_row(folder, "fell-3", "fell-1", "new")
    assert (row["seeds_present"], row["seeds_expected"], number(row["value"])) == ("1", "3", -1.0)
    hole = one_row(folder, "fell-3", "fell-0.5", "new")
    assert (hole["value"], hole["seeds_present"], hole["seeds_expected"], hole["below_zero"]) == ("", "0", "3", "")
    text = (folder / "per_task_table.md").read_text()
    assert "1/1 seeds, of 3 |" in text and "fell-3, 2/3 seeds less fell-1, 2/3 seeds" in text


def test_equal_shares_are_no_difference_and_a_lower_return_is_worse(tmp_path: Path) -> None:
    def score(seed: int, step: int, task: int, episode: int, metric: str) -> float:
        shares = {"adapted_success": (0.0, 0.6, 0.2), "success": (0.0, 0.4, 0.4)}
        return shares.get(metric, (1.0, 1.0, 1.0))[task]

    arm = FakeArm("a", "a", seeds=(0, 1), steps=(0, 500), score=score)
    folder = tables_of(tmp_path, arm)
    assert one_row(folder, "a", "", HELD_OUT, "success_change")["below_zero"] == "0"
    text = (folder / "per_task_table.md").read_text()
    assert "below zero return fell, which is worse" in text and "below zero model loss fell, which is better" in text


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_run_whose_adapting_broke_counts_as_diverged_and_blocks_nobody(tmp_path: Path, broken: float) -> None:
    well = losses(3.0, 2.0, 4.0)

    def score(seed: int, step: int, task: int, episode: int, metric: str) -> float:
        breaks = seed == 1 and step and task == 2 and metric == "adapted_model_loss"
        return broken if breaks else well.score(seed, step, task, episode, metric)

    folder = tables_of(tmp_path, replace(well, score=score))
    row = one_row(folder, "fell-3", "", "new")
    assert (row["seeds_present"], row["seeds_expected"]) == ("3", "3")
    assert number(row["value"]) == pytest.approx(-7 / 3, rel=1e-5)  # the broken one stays at its start
    assert "3/3, 1 diverged" in (folder / "result_table.md").read_text()


def test_the_tables_show_before_after_and_change_of_each_arm_and_of_every_two(folder: Path) -> None:
    text = (folder / "per_task_table.md").read_text()
    assert "| fell-3 | new | 21.0 [11.0, 31.0] | 18.0 [9.0, 27.0] | -3.00 [-4.00, -2.00] | 3/3 seeds |" in text
    assert f"| fell-0.5 | {HELD_OUT} |" in text
    assert "| fell-3 less fell-1 | -4.50 [" in text and "| fell-3 less fell-0.5 | -3.00 [" in text
    assert text.index("model loss before and after adapting") < text.index("success of each task")
    assert "| seen |" in text and "fell-3 | seen" not in text
    assert "_change" not in (folder / "result_table.md").read_text()


def test_without_held_out_tasks_nothing_is_added(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path).write()
    aggregate(study, study / "tables")
    tables.write_tables(study / "tables", study / "tables")
    assert (study / "tables" / "per_task.csv").read_text().splitlines()[0].endswith("seeds_expected")
    assert "adapting" not in (study / "tables" / "per_task_table.md").read_text()
