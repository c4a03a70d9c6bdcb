"""Tables: every number of the CSV files in its place, holes and notes seen, and text that Markdown and LaTeX accept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mtrepro.analysis import rendering, tables
from mtrepro.analysis.aggregate import aggregate
from mtrepro.errors import MtreproError
from mtrepro.manifest import manifest_text
from mtrepro.paths import root
from mtrepro.study import load_study
from tests.unit.analysis_fixture import RANDOM_POLICY, FakeArm, FakeStudy

ARMS = (
    FakeArm("half", "Half & 50 %", seeds=(0, 1), steps=(0, 500), score=lambda seed, *where: float(seed)),
    FakeArm(
        "holes", "Holes", seeds=range(10), missing=(3, 7, 8), diverged={4: 500}, inexact=(2,), steps=(0, 500, 1000)
    ),
    FakeArm("none", "None | yet", missing=(0, 1, 2), steps=(0, 500)),
    RANDOM_POLICY,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = FakeStudy(tmp_path_factory.mktemp("study"), ARMS, title="Doors_and $windows$").write()
    aggregate(folder, folder / "tables")
    tables.write_tables(folder / "tables", folder / "tables")
    return folder


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_result_table_has_value_interval_seeds_and_transitions(study: Path) -> None:
    text = (study / "tables" / "result_table.md").read_text()
    cells = [cell.strip() for cell in line(text, "| Half").strip("|").split("|")]
    assert cells[:3] == ["Half & 50 %", "2/2", "500 (1,500)"]
    assert cells[3].startswith("0.50 [0.")  # two seeds with 0 and 1, each task drawn by itself: not the whole of [0, 1]
    assert len(cells) == 9


def test_holes_divergence_and_inexact_runs_are_seen_in_every_table(study: Path) -> None:
    shown = [(study / "tables" / f"{name}_table.md").read_text() for name in ("result", "per_task")]
    shown.append(tables.result_table(study))
    for text in shown:
        flat = " ".join(text.split())
        assert "7/10" in flat and "1 diverged†" in flat
        assert "Holes: 3 of 10 runs missing (seed 3, 7, 8)." in flat
        assert "Holes: seed 4 diverged at step 500; its last evaluation stands for the rest." in flat
        assert "† Holes: seed 2 not bit-exact (docs/statistics.md: what makes it so)." in flat


def test_every_table_says_protocol_reward_and_evaluation_episodes(study: Path) -> None:
    protocol = "Benchmark metaworld/closing, protocol v3, reward v2, 3 tasks, 4 evaluation episodes per task."
    for name in ("result_table.md", "result_table.tex", "per_task_table.md", "per_task_table.tex"):
        text = (study / "tables" / name).read_text()
        per_table = 2 if name.startswith("per_task") else 1  # one for success, one for return
        assert text.count(protocol) == per_table, name
    assert protocol in tables.result_table(study)


def test_an_arm_without_runs_is_a_row_of_dashes(study: Path) -> None:
    row = line(tables.result_table(study), "None | yet")
    assert row.split()[3:] == ["0/3", "500", *"––––––"]


def test_per_task_table_has_a_row_for_each_task_in_the_study_s_order(study: Path) -> None:
    text = (study / "tables" / "per_task_table.md").read_text()
    tasks = re.findall(r"^\| ([a-z]+-close-v3) ", text, re.MULTILINE)
    assert tasks == ["door-close-v3", "drawer-close-v3", "window-close-v3"] * 2
    assert "None \\| yet, 0/3 seeds" in text


def test_markdown_rows_have_as_many_cells_as_the_head(study: Path) -> None:
    for name in ("result_table.md", "per_task_table.md"):
        lines = [line for line in (study / "tables" / name).read_text().splitlines() if line.startswith("|")]
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(counts) == 1, name


def test_latex_has_no_bare_special_letter_and_equal_columns(study: Path) -> None:
    for name in ("result_table.tex", "per_task_table.tex"):
        text = (study / "tables" / name).read_text()
        assert text.isascii(), name
        assert not re.search(r"(?<!\\)[%#]", text), name
        assert r"Doors\_and \$windows\$" in text
        for table in text.split(r"\begin{tabular}")[1:]:
            columns = len(table[: table.index("\n")].strip("{}"))
            body = table.split(r"\end{tabular}")[0]
            rows = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}, name


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "expected"),
    [
        ("success", "0.833333", "0.7", "0.916667", "0.83 [0.70, 0.92]"),
        ("success", "1", "", "", "1.00"),
        ("success", "", "", "", "–"),
        ("return", "1234.56", "999.4", "1500.5", "1,235 [999, 1,500]"),
        ("return", "-0.001", "-0.002", "0.001", "0.00 [0.00, 0.00]"),
        ("return", "-12.34", "-20", "-3.21", "-12.3 [-20.0, -3.2]"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_their_size_deserves(
    metric: str, value: str, low: str, high: str, expected: str
) -> None:
    assert rendering.show(metric, value, low, high) == expected


def test_latex_writes_minus_signs_and_leaves_hyphens() -> None:
    assert rendering.escape("-12.3 [-20.0, -3.2]") == "$-$12.3 [$-$20.0, $-$3.2]"
    assert rendering.escape("door-close-v3, 12-d, MT-10") == "door-close-v3, 12-d, MT-10"
    assert rendering.escape(r"a\b{c}~^") == r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}"


def test_a_benchmark_without_success_puts_return_first(tmp_path: Path) -> None:
    folder = FakeStudy(tmp_path, (FakeArm(),), metrics=("return",)).write()
    aggregate(folder, folder / "tables")
    head = line(tables.result_table(folder), "Arm")
    assert re.split(r"\s{2,}", head) == [
        "Arm",
        "Seeds",
        "Steps",
        "Return",
        "IQM",
        "Worst task",
        "Best",
        "AUC",
    ]


def test_the_terminal_s_table_fits_with_three_arms_in_120_columns(study: Path) -> None:
    assert max(map(len, tables.result_table(study).splitlines())) <= 120


def test_show_before_aggregate_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MtreproError) as caught:
        tables.result_table(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/tables/study.json: there is no such file\n  run `mtrepro aggregate` first"
    )


def test_a_table_of_another_version_says_which_column_is_missing(study: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_bytes((study / "tables" / "study.json").read_bytes())
    (tmp_path / "summary.csv").write_text("arm,metric\nx,success\n")
    with pytest.raises(MtreproError, match=r"summary\.csv:1: has no column 'column'\n  run `mtrepro aggregate` again"):
        tables.write_tables(tmp_path, tmp_path)


def test_where_no_task_knows_success_tables_begin_with_returns_and_leave_it_out(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, leading="return").write()
    aggregate(study, study / "tables")
    tables.write_tables(study / "tables", study / "tables")
    head = (study / "tables" / "result_table.md").read_text().splitlines()[2]
    assert "| Return, mean | IQM |" in head and "Success" not in head


def test_a_study_of_pixels_says_that_returns_lead() -> None:
    for name, leading in (("swingup-pixels", "return"), ("transfer-hopper", "return"), ("meta-toy", None)):
        resolved = load_study(root() / f"config/studies/{name}.yaml")
        assert json.loads(manifest_text(resolved, "..")).get("leading") == leading
