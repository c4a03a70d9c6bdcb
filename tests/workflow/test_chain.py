"""The whole two-tool chain: study -> runs -> tables -> figures -> report -> release -> `dvc repro`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from mtrepro.source import closure

from .conftest import Checkout

MODULES = {"aggregate": "aggregate", "tables": "tables", "figures": "figures"}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_is_one_file_with_table_and_figures(chain: Checkout) -> None:
    report = (chain.path / "results/toy/study-toy/report.html").read_text()
    assert "A toy study" in report
    tables = ("result_table.md", "published_table.md", "summary.csv", "published.csv")
    for name in (*tables, "learning_curves.svg", "final.svg", "task_return.svg"):
        assert name in report
    assert "care/mt10-2m-mt-sac" in report


def test_second_call_does_nothing(chain: Checkout) -> None:
    assert "Nothing to be done" in chain.snakemake("all")


def test_rules_and_dvc_stages_write_equal_bytes(chain: Checkout, clone: Checkout) -> None:
    clone.run("dvc", "repro", "--force")
    assert clone.changed() == ""
    for name in ("tables", "figures"):
        by_rules = files(chain.path / "results/toy/study-toy" / name)
        assert by_rules == files(clone.path / "results/released/toy" / name)


def test_dvc_remakes_what_is_lost_and_never_trains(clone: Checkout) -> None:
    for file in (clone.path / "results/released/toy/figures").iterdir():
        file.unlink()
    (clone.path / "results/released/toy/tables/summary.csv").unlink()
    output = clone.run("dvc", "repro")
    assert clone.changed() == ""
    assert "mtrepro train" not in output
    assert "snakemake" not in output


def test_fresh_clone_is_up_to_date(clone: Checkout) -> None:
    output = clone.run("dvc", "repro")
    assert "Running stage" not in output
    assert "up to date" in output


@pytest.mark.parametrize(
    "command", [("repro", "--force", "train@toy"), ("checkout", "--force"), ("gc", "--workspace", "--force")]
)
def test_no_dvc_command_deletes_or_retrains_runs(clone: Checkout, command: tuple[str, ...]) -> None:
    before = files(clone.path / "results/released/toy/runs")
    assert "Running stage" not in clone.run("dvc", *command)
    assert files(clone.path / "results/released/toy/runs") == before


def test_figure_edit_redraws_only_figures(chain: Checkout, clone: Checkout) -> None:
    edit = ("src/mtrepro/analysis/figures.py", 'UNITS = {"success": "success rate"', 'UNITS = {"success": "successes"')
    with chain.edited(*edit):
        assert chain.plan() == ["draw_figures"]
    with clone.edited(*edit):
        stages = [line for line in clone.run("dvc", "repro", "--dry").splitlines() if line.startswith("Running stage")]
        assert stages == ["Running stage 'figures@toy':"]


def test_dvc_metrics_and_plots_compare_with_another_commit(clone: Checkout, tmp_path: Path) -> None:
    metrics = clone.path / "results/released/toy/tables/metrics.json"
    with clone.edited(str(metrics.relative_to(clone.path)), '"mt-sac.seeds_present": 2', '"mt-sac.seeds_present": 1'):
        assert "mt-sac.seeds_present" in clone.run("dvc", "metrics", "diff", "HEAD")
    clone.run("dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    assert "learning_curves" in (tmp_path / "plots/index.html").read_text()


def test_dvc_stages_depend_on_the_import_closure_of_their_module_and_declare_every_file(chain: Checkout) -> None:
    stages = yaml.safe_load((chain.path / "dvc.yaml").read_text())["stages"]
    for stage, module in MODULES.items():
        modules = closure((f"mtrepro.analysis.{module}",))
        code = {dependency for dependency in stages[stage]["do"]["deps"] if dependency.startswith("src/")}
        paths = {f"src/{name.replace('.', '/')}.py" for name in modules}
        expected = {path for path in paths if (chain.path / path).exists()}
        assert code == expected, stage
        packages = {path.removesuffix(".py") for path in paths - expected}
        assert all(not ast.parse((chain.path / path / "__init__.py").read_text()).body[1:] for path in packages), (
            "only words"
        )
    declared = {
        name.replace("${item}", "toy")
        for stage in MODULES
        for kind in ("outs", "metrics", "plots")
        for entry in stages[stage]["do"].get(kind, [])
        for name in entry
    }
    released = chain.path / "results/released/toy"
    there = {
        str(path.relative_to(chain.path)) for name in ("tables", "figures") for path in (released / name).iterdir()
    }
    assert declared == there


def test_released_study_is_listed_and_shown_like_one_in_work(chain: Checkout) -> None:
    assert yaml.safe_load((chain.path / "results/released/studies.yaml").read_text())["studies"] == ["toy"]
    in_work, released = (
        chain.run("mtrepro", "show", f"results/{folder}") for folder in ("toy/study-toy", "released/toy")
    )
    assert in_work.splitlines()[:6] == released.splitlines()[:6]
