"""Figures: equal bytes whatever the user's surroundings, nothing read but the tables, and always there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtrepro.analysis import style
from mtrepro.analysis.aggregate import aggregate
from mtrepro.analysis.figures import final, learning_curves, read_material, write_figures
from tests.unit.analysis_fixture import RANDOM_POLICY, FakeArm, FakeStudy

NAMES = ["final", "learning_curves", "task_return", "task_success"]
FILES = sorted(f"{name}.{kind}" for name in NAMES for kind in ("svg", "pdf", "png"))
DRAW = """
import sys, pathlib
from mtrepro.analysis.figures import write_figures
write_figures(*map(pathlib.Path, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tables folder and nothing beside it: the runs are gone."""
    arms = (FakeArm(missing=(1,), diverged={2: 500}), FakeArm("care", "CARE"), RANDOM_POLICY)
    study = FakeStudy(tmp_path_factory.mktemp("runs"), arms, tasks=("door-close-v3", "drawer-close-v3"))
    tables = tmp_path_factory.mktemp("tables")
    aggregate(study.write(), tables)
    for path in study.folder.rglob("*"):
        if path.is_file():
            path.unlink()
    return tables


def drawn(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_users_on_two_machines_get_equal_bytes(folder: Path, tmp_path: Path) -> None:
    processes = []
    for index, (locale, zone, epoch) in enumerate([("C", "Asia/Tokyo", "0"), ("de_DE.UTF-8", "America/Lima", None)]):
        home = tmp_path / f"home-{index}"
        (home / "matplotlib").mkdir(parents=True)
        # The second user likes big red letters in another font, and everything that writes dates
        if index:
            (home / "matplotlib" / "matplotlibrc").write_text(
                "font.size: 20\nfont.family: serif\ntext.color: red\nsvg.fonttype: none\nfigure.facecolor: black\n"
                "axes.prop_cycle: cycler('color', ['r'])\npath.simplify: False\ntext.hinting: none\n"
            )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONHASHSEED": str(index + 1),
            "HOME": str(home),
            "MPLCONFIGDIR": str(home / "matplotlib"),
            "MPLBACKEND": "svg" if index else "agg",
            "LC_ALL": locale,
            "TZ": zone,
            **({"SOURCE_DATE_EPOCH": epoch} if epoch else {}),
        }
        command = [sys.executable, "-c", DRAW, folder, tmp_path / str(index)]
        processes.append(subprocess.Popen(command, env=environment, cwd=home))
    assert [process.wait() for process in processes] == [0, 0]
    first, second = drawn(tmp_path / "0"), drawn(tmp_path / "1")
    assert list(first) == list(second) == FILES
    assert [name for name in FILES if first[name] != second[name]] == []


def test_files_hold_no_date_no_version_no_path_and_drawing_leaves_the_user_s_settings_alone(
    folder: Path, tmp_path: Path
) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 17}):
        write_figures(folder, tmp_path)
        assert matplotlib.rcParams["font.size"] == 17
    for name, content in drawn(tmp_path).items():
        for word in (b"Matplotlib v", b"CreationDate", b"<dc:date>", b"matplotlib.org", str(tmp_path).encode()):
            assert word not in content, (name, word)


def test_the_font_is_matplotlib_s_own_file(folder: Path) -> None:
    import matplotlib
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    with style.house_style():
        figure = learning_curves(read_material(folder))
        figure.draw_without_rendering()
        fonts = {str(findfont(text.get_fontproperties())) for text in figure.findobj(Text)}
    bundled = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert fonts == {str(bundled / "DejaVuSans.ttf"), str(bundled / "DejaVuSans-Bold.ttf")}


def words(folder: Path) -> str:
    from matplotlib.text import Text

    with style.house_style():
        figure = learning_curves(read_material(folder))
        figure.draw_without_rendering()
        return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_holes_protocol_and_units_stand_in_the_figure(folder: Path) -> None:
    text = words(folder)
    assert "MT-SAC, 2/3 seeds, 1 diverged" in text
    assert "CARE, 3/3 seeds" in text
    assert "Random policy" in text
    assert "vector steps (one step is 2 transitions)" in text
    assert "protocol v3, reward v2, 2 tasks, 4 evaluation episodes per task" in text
    assert "MT-SAC: seed 2 diverged at step 500; its last evaluation stands for the rest." in text


def test_curves_are_the_numbers_of_curves_csv(folder: Path) -> None:
    material = read_material(folder)
    with style.house_style():
        figure = learning_curves(material)
        axes = figure.axes[0]
        drawn_lines = [list(line.get_ydata()) for line in axes.lines]
    assert material.curves["care", "all", "success"].value.tolist() in drawn_lines
    assert len(axes.collections) == 2  # a band for each arm that learns


def test_a_study_without_runs_has_all_figures_and_they_say_so(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (FakeArm(missing=(0, 1, 2)),))
    aggregate(study.write(), tmp_path / "tables")
    write_figures(tmp_path / "tables", tmp_path / "figures")
    assert list(drawn(tmp_path / "figures")) == FILES
    assert words(tmp_path / "tables").count("no runs yet") == 2


@pytest.mark.parametrize("metric", ["return", "success"])
def test_a_benchmark_with_one_metric_has_all_figures(tmp_path: Path, metric: str) -> None:
    study = FakeStudy(tmp_path, (FakeArm(seeds=(0,)), RANDOM_POLICY), metrics=(metric,), tasks=("only-task",))
    aggregate(study.write(), tmp_path / "tables")
    write_figures(tmp_path / "tables", tmp_path / "figures")
    text = words(tmp_path / "tables")
    assert f"{'success' if metric == 'return' else 'return'} is not measured on this benchmark" in text
    assert "MT-SAC, 1/1 seeds" in text


def test_each_of_thirty_five_arms_has_a_look_of_its_own() -> None:
    looks = {(style.line_of(index).colour, str(style.line_of(index).dashes)) for index in range(35)}
    assert len(looks) == 35


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.5, 0.6]),
        ([1.0, 0.98], [1.0, 0.9]),
        ([0.95, 0.94, 0.93], [1.0, 0.9, 0.8]),
        ([], []),
    ],
)
def test_labels_are_moved_apart_and_keep_their_order(heights: list[float], expected: list[float]) -> None:
    assert style.spread(heights, gap=0.1) == pytest.approx(expected)


def test_ticks_are_short() -> None:
    assert [style.thousands(value) for value in (0, 0.5, 500, 20_000, 1_500_000, -2_000)] == [
        "0", "0.5", "500", "20k", "1.5M", "\N{MINUS SIGN}2k",
    ]  # fmt: skip


@pytest.mark.parametrize(("leading", "panels"), [("success", 2), ("return", 1)])
def test_where_no_task_knows_success_no_panel_shows_it(tmp_path: Path, leading: str, panels: int) -> None:
    study = FakeStudy(tmp_path, leading=leading).write()
    aggregate(study, study / "tables")
    material = read_material(study / "tables")
    for figure in (learning_curves(material), final(material)):
        titles = [axes.get_title() for axes in figure.get_axes() if axes.get_title()]
        assert len(titles) == panels and "return per episode" in titles[-1]
