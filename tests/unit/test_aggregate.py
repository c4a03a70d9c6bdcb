"""From runs on disk to numbers: what is counted, what is a hole, what is refused, and equal bytes each time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrepro.analysis.aggregate import aggregate
from mtrepro.errors import OutputError
from tests.unit.analysis_fixture import RANDOM_POLICY, FakeArm, FakeStudy, learning


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def pick(table: list[dict[str, str]], **where: str) -> dict[str, str]:
    found = [row for row in table if all(row[key] == value for key, value in where.items())]
    assert len(found) == 1, f"{where}: {len(found)} rows"
    return found[0]


def by_seed(values: dict[int, list[float]]) -> Callable[..., float]:
    """A score that is the same for all tasks and episodes: `values[seed]` at steps 0, 500, 1000 ..."""
    return lambda seed, step, task, episode, metric: values[seed][step // 500]


def aggregated(study: FakeStudy) -> Path:
    folder = study.write()
    aggregate(folder, folder / "tables")
    return folder / "tables"


def test_final_best_and_area_are_named_columns_worked_by_hand(tmp_path: Path) -> None:
    arm = FakeArm(seeds=(0, 1), steps=(0, 500, 1000), score=by_seed({0: [0.0, 1.0, 0.5], 1: [0.0, 0.5, 0.5]}))
    summary = rows(aggregated(FakeStudy(tmp_path, (arm,))) / "summary.csv")
    final, best, area = (
        pick(summary, metric="success", column=column, statistic="mean")
        for column in ("final", "best_of_mean_curve", "area_under_curve")
    )
    assert (final["value"], final["low"], final["high"], final["step"]) == ("0.5", "0.5", "0.5", "1000")
    assert (best["value"], best["run_low"], best["run_high"], best["step"]) == ("0.75", "0.5", "1", "500")
    assert area["value"] == "0.5"  # (0.375 * 500 + 0.625 * 500) / 1000
    assert final["transitions"] == "3000"


def test_success_is_the_mean_over_episodes_tasks_and_seeds(tmp_path: Path) -> None:
    arm = FakeArm(
        seeds=(0, 1), steps=(0,), score=lambda seed, step, task, episode, metric: float(episode < task + seed)
    )
    tables = aggregated(FakeStudy(tmp_path, (arm,)))  # 4 episodes; successes: 0 1 2 and 1 2 3 of them
    summary, per_task = rows(tables / "summary.csv"), rows(tables / "per_task.csv")
    assert pick(summary, metric="success", column="final", statistic="mean")["value"] == "0.375"  # 9 / 24
    assert pick(summary, metric="success", column="final", statistic="worst_task")["value"] == "0.125"
    task = pick(per_task, metric="success", column="final", statistic="mean", task="window-close-v3")
    assert task["value"] == "0.625"


def test_a_missing_run_is_a_hole_with_its_count_and_never_a_zero(tmp_path: Path) -> None:
    arm = FakeArm(
        seeds=range(10), missing=(2, 5, 6), steps=(0, 500), score=by_seed({seed: [0, 1] for seed in range(10)})
    )
    tables = aggregated(FakeStudy(tmp_path, (arm,)))
    row = pick(rows(tables / "summary.csv"), metric="success", column="final", statistic="mean")
    assert (row["value"], row["seeds_present"], row["seeds_expected"]) == ("1", "7", "10")
    listed = rows(tables / "runs.csv")
    assert [row["seed"] for row in listed if row["status"] == "missing"] == ["2", "5", "6"]
    assert json.loads((tables / "study.json").read_text())["notes"] == ["MT-SAC: 3 of 10 runs missing (seed 2, 5, 6)."]


def test_an_arm_without_runs_has_rows_with_empty_values(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (FakeArm(missing=(0, 1, 2)), RANDOM_POLICY))
    tables = aggregated(study)
    row = pick(rows(tables / "summary.csv"), arm="mt-sac", metric="success", column="final", statistic="iqm")
    assert (row["value"], row["low"], row["step"], row["seeds_present"]) == ("", "", "", "0")
    metrics = json.loads((tables / "metrics.json").read_text())
    assert metrics["mt-sac.seeds_present"] == 0
    assert "mt-sac.success.final.mean" not in metrics
    assert metrics["random.return.final.mean"] > 0


def test_a_run_with_evaluations_but_no_record_is_missing(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    (study.run_folder(study.arms[0], 1) / "run.json").unlink()
    aggregate(study.study_folder, tmp_path / "tables")
    assert [row["status"] for row in rows(tmp_path / "tables" / "runs.csv")] == ["present", "missing", "present"]


def test_a_diverged_run_is_counted_and_its_last_evaluation_stands_for_the_rest(tmp_path: Path) -> None:
    arm = FakeArm(seeds=(0, 1), steps=(0, 500, 1000), diverged={1: 500}, score=by_seed({0: [0, 1, 1], 1: [0, 0.5, 9]}))
    tables = aggregated(FakeStudy(tmp_path, (arm,)))
    row = pick(rows(tables / "summary.csv"), metric="success", column="final", statistic="mean")
    assert (row["value"], row["diverged"], row["seeds_present"], row["step"]) == ("0.75", "1", "2", "1000")
    run = pick(rows(tables / "runs.csv"), seed="1")
    assert (run["status"], run["reason"], run["step"]) == ("diverged", "critic loss is not finite", "500")
    note = json.loads((tables / "study.json").read_text())["notes"]
    assert note == ["MT-SAC: seed 1 diverged at step 500; its last evaluation stands for the rest."]


def test_scores_of_a_diverged_run_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    values = {0: [0, 1, 1], 1: [0, 0.5, float("nan")]}
    arm = FakeArm(seeds=(0, 1), steps=(0, 500, 1000), diverged={1: 1000}, score=by_seed(values))
    row = pick(rows(aggregated(FakeStudy(tmp_path, (arm,))) / "summary.csv"), metric="return", column="final",
               statistic="mean")  # fmt: skip
    assert row["value"] == "0.75"


def test_an_arm_whose_runs_all_diverged_is_drawn_to_its_budget(tmp_path: Path) -> None:
    values = by_seed({0: [0.25] * 3, 1: [0.5] * 3})
    arm = FakeArm(seeds=(0, 1), steps=(0, 500, 1000), diverged={0: 0, 1: 500}, score=values)
    curves = rows(aggregated(FakeStudy(tmp_path, (arm,))) / "curves.csv")
    line = [row for row in curves if (row["task"], row["metric"], row["statistic"]) == ("all", "success", "mean")]
    assert [(row["step"], row["value"]) for row in line] == [("0", "0.375"), ("500", "0.375"), ("1000", "0.375")]


def test_a_run_that_diverged_before_any_evaluation_has_no_score_but_is_counted(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (FakeArm(diverged={2: 0}),))
    study.write()
    (study.run_folder(study.arms[0], 2) / "evaluation.csv").write_text("step,task,episode,metric,value\n")
    aggregate(study.study_folder, tmp_path / "tables")
    row = pick(rows(tmp_path / "tables" / "summary.csv"), metric="success", column="final", statistic="mean")
    assert (row["seeds_present"], row["seeds_expected"], row["diverged"]) == ("2", "3", "1")


def test_one_seed_gives_empty_intervals(tmp_path: Path) -> None:
    row = pick(rows(aggregated(FakeStudy(tmp_path, (FakeArm(seeds=(0,)),))) / "summary.csv"), metric="return",
               column="final", statistic="mean")  # fmt: skip
    assert row["value"] != "" and [row[key] for key in ("low", "high", "run_low", "run_high")] == [""] * 4


def test_every_run_can_be_traced_to_specification_commit_and_machine(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (FakeArm(seeds=(4,), inexact=(4,)),))
    (run,) = rows(aggregated(study) / "runs.csv")
    assert run["run"] == study.run_name(study.arms[0], 4)
    assert run["specification_digest"] == study.digest(study.arms[0], 4)
    assert (run["source_digest"], run["commit"], run["dirty"], run["exact"]) == ("5" * 64, "c" * 40, "false", "false")
    assert run["hardware"] == '{"cores": 2, "processor": "a processor"}'


def test_plots_for_dvc_hold_mean_curves_and_a_line_for_the_reference(tmp_path: Path) -> None:
    tables = aggregated(FakeStudy(tmp_path, (FakeArm(), RANDOM_POLICY)))
    plots = rows(tables / "learning_curves.csv")
    assert list(plots[0]) == ["step", "return", "success", "arm"]
    assert [row["step"] for row in plots if row["arm"] == "random"] == ["0", "2000"]
    final = pick(rows(tables / "summary.csv"), arm="mt-sac", metric="return", column="final", statistic="mean")
    assert pick(plots, arm="mt-sac", step="2000")["return"] == final["value"]


def test_equal_runs_give_equal_bytes_in_any_process(tmp_path: Path) -> None:
    folder = FakeStudy(tmp_path, (FakeArm(missing=(1,)), RANDOM_POLICY)).write()
    aggregate(folder, tmp_path / "here")
    code = (
        "import sys, pathlib; from mtrepro.analysis.aggregate import aggregate\n"
        "aggregate(*map(pathlib.Path, sys.argv[1:]))"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "there"], check=True, env=environment)
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def test_the_order_of_lines_changes_no_byte(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    tables = aggregated(study)
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    file = study.run_folder(study.arms[0], 0) / "evaluation.csv"
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(lines)]) + "\n")
    aggregate(study.study_folder, tables)
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == before


def test_analysis_needs_no_torch_and_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, mtrepro.analysis.aggregate, mtrepro.analysis.figures, mtrepro.analysis.tables\n"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_an_output_that_cannot_be_written_is_said_without_a_traceback(tmp_path: Path) -> None:
    folder = FakeStudy(tmp_path).write()
    (tmp_path / "tables").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"summary\.csv: cannot be written"):
        aggregate(folder, tmp_path / "tables")


def test_a_benchmark_without_success_has_returns_alone(tmp_path: Path) -> None:
    tables = aggregated(FakeStudy(tmp_path, (FakeArm(score=learning),), metrics=("return",)))
    assert {row["metric"] for row in rows(tables / "summary.csv")} == {"return"}
    assert list(rows(tables / "learning_curves.csv")[0]) == ["step", "return", "arm"]
