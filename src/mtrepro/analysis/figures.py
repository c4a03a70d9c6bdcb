"""Figures from the tables folder alone: learning curves, one panel a task, and the last evaluation of each arm.

Every figure is always written, as SVG, PDF and PNG: without runs it says so, so that the report can be built.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtrepro.analysis import style
from mtrepro.analysis.evaluation import Array
from mtrepro.analysis.files import number, read_rows
from mtrepro.analysis.study_note import ArmNote, StudyNote, read_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

METRICS = ("success", "return")
UNITS = {"success": "success rate", "return": "return per episode"}
ALL = "all"


@dataclass(frozen=True)
class Curve:
    """A line with its band, each (evaluations,); the band is NaN with one seed."""

    steps: Array
    value: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Material:
    """Everything that a figure is made from."""

    note: StudyNote
    curves: dict[tuple[str, str, str], Curve]  # (arm, task or "all", metric): means over seeds
    finals: dict[tuple[str, str, str], tuple[float, float, float]]  # (arm, metric, statistic): value, low, high

    def look(self, arm: ArmNote) -> style.Line:
        """An arm has one look in all figures of its study."""
        if arm.reference:
            return style.reference_line(self.note.references.index(arm))
        return style.line_of(self.note.learners.index(arm))

    def empty(self, metric: str) -> str:
        """What a panel of `metric` says where it has nothing to show, or nothing."""
        if metric not in self.note.metrics:
            return f"{metric} is not measured on this benchmark"
        return "" if any(key[2] == metric for key in self.curves) else "no runs yet"


def write_figures(tables: Path, output: Path) -> None:
    """Write learning_curves, task_success, task_return and final, each as .svg, .pdf and .png, to `output`.

    Equal tables give equal bytes (PNG: on one kind of processor), whatever the user's locale, home or matplotlibrc.

    Args:
        tables: the folder that `mtrepro aggregate` wrote; nothing else is read.

    Raises:
        MtreproError: a file in `tables` is missing or malformed.
        OutputError: `output` cannot be written.
    """
    material = read_material(tables)
    with style.house_style():
        style.save(learning_curves(material), output, "learning_curves")
        for metric in METRICS:
            style.save(task_panels(material, metric), output, f"task_{metric}")
        style.save(final(material), output, "final")


def read_material(tables: Path) -> Material:
    """Read what figures need from the tables folder."""
    gathered: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
    values = ["step", "value", "low", "high"]
    for row in read_rows(tables / "curves.csv", ["arm", "task", "metric", "statistic", *values]):
        if row["statistic"] == "mean":
            point = tuple(number(row[key]) for key in values)
            gathered.setdefault((row["arm"], row["task"], row["metric"]), []).append(point)
    curves = {key: Curve(*np.array(points).T) for key, points in gathered.items()}
    finals = {
        (row["arm"], row["metric"], row["statistic"]): (number(row["value"]), number(row["low"]), number(row["high"]))
        for row in read_rows(tables / "summary.csv", ["arm", "metric", "column", "statistic", *values])
        if row["column"] == "final" and row["value"]
    }
    return Material(read_note(tables), curves, finals)


def learning_curves(material: Material) -> Figure:
    """Success and return, means over tasks and seeds with bands; the lines are named where they end on the right."""
    figure, canvas = framed(material.note, 9.6, 3.6, "Bands: 95 % stratified-bootstrap intervals over seeds.")
    metrics = _shown(material.note)
    panels = canvas.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_title(f"Mean {UNITS[metric]} over {_tasks(material.note)}")
        draw_curves(axes, material, ALL, metric)
        axes.set_xlabel(_step_label(material.note))
        axes.set_ylabel(UNITS[metric])
    measured = [index for index, metric in enumerate(metrics) if not material.empty(metric)]
    if measured:
        name_lines(panels[measured[-1]], material, ALL, metrics[measured[-1]])
    return figure


def task_panels(material: Material, metric: str) -> Figure:
    """One panel a task: success on one scale, return on each task's own."""
    tasks = material.note.tasks
    columns = min(5, len(tasks))
    rows = -(-len(tasks) // columns)
    legend = [] if material.empty(metric) else legend_handles(material)
    explained = "Means over seeds; bands: 95 % bootstrap intervals over seeds."
    figure, canvas = framed(material.note, max(6.0, 2.15 * columns + 0.6), 1.75 * rows + 0.9, explained, legend)
    panels = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=metric == "success")
    for index, axes in enumerate(panels.flat):
        if index >= len(tasks):
            axes.set_axis_off()
            continue
        axes.set_title(tasks[index], fontsize=8)
        draw_curves(axes, material, tasks[index], metric)
        if not material.empty(metric):
            style.few_ticks(axes, 3, 4)
            axes.xaxis.set_tick_params(labelbottom=index + columns >= len(tasks))
    canvas.supxlabel(_step_label(material.note), fontsize=8.5)
    canvas.supylabel(UNITS[metric], fontsize=8.5)
    return figure


def final(material: Material) -> Figure:
    """The last evaluation: mean and IQM of each arm with intervals; references as vertical lines."""
    arms = material.note.learners
    explained = "Filled: mean. Open: IQM. Lines: 95 % stratified-bootstrap intervals over seeds."
    figure, canvas = framed(material.note, 9.6, 1.4 + 0.4 * max(2, len(arms)), explained)
    metrics = _shown(material.note)
    panels = canvas.subplots(1, len(metrics), squeeze=False)[0]
    names = [_named(arm) for arm in arms]
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_title(f"Final {UNITS[metric]} over {_tasks(material.note)}")
        axes.set_xlabel(UNITS[metric])
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        if _nothing(axes, material, metric):
            continue
        for row, arm in enumerate(arms):
            _point(axes, material, arm, metric, row)
        for reference in material.note.references:
            _vertical(axes, material, reference, metric)
        style.few_ticks(axes)
        axes.set_yticks(range(len(arms)), names)
        names = [""] * len(arms)  # the first panel that has something to show names the arms of both
        axes.set_ylim(len(arms) - 0.45, -0.75)
        if metric == "success":
            axes.set_xlim(-0.03, 1.03)
    return figure


def _shown(note: StudyNote) -> tuple[str, ...]:
    """The metrics of figures over all tasks: returns alone where no task of the benchmark knows success."""
    return ("return",) if note.metrics[0] == "return" and "success" in note.metrics else METRICS


def draw_curves(axes: Axes, material: Material, task: str, metric: str) -> None:
    """Lines with bands on `axes`; a reference as a horizontal line."""
    if _nothing(axes, material, metric):
        return
    for arm in material.note.arms:
        curve = material.curves.get((arm.arm, task, metric))
        if curve is None:
            continue
        look = material.look(arm)
        if arm.reference:
            axes.axhline(curve.value[-1], color=look.colour, linestyle=look.dashes, linewidth=1.2)
            continue
        axes.fill_between(curve.steps, curve.low, curve.high, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(curve.steps, curve.value, color=look.colour, linestyle=look.dashes)
    style.few_ticks(axes)
    axes.set_xlim(0, max([1, *(arm.budget for arm in material.note.arms)]))
    if metric == "success":
        axes.set_ylim(-0.03, 1.03)


def name_lines(axes: Axes, material: Material, task: str, metric: str) -> None:
    """Write each arm's name beside the end of its line, moved apart where lines end together."""
    ends = [(arm, material.curves.get((arm.arm, task, metric))) for arm in material.note.arms]
    there = [(arm, curve) for arm, curve in ends if curve is not None]
    low, high = axes.get_ylim()
    heights = style.spread([float((curve.value[-1] - low) / (high - low)) for _, curve in there], gap=0.075)
    for (arm, curve), height in zip(there, heights, strict=True):
        look = material.look(arm)
        end = (1.0 if arm.reference else curve.steps[-1] / axes.get_xlim()[1], (curve.value[-1] - low) / (high - low))
        axes.plot(
            [end[0], 1.02, 1.04],
            [end[1], height, height],
            color=look.colour,
            linewidth=0.6,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.annotate(_named(arm), (1.05, height), xycoords="axes fraction", va="center", fontsize=8, color=look.colour)


def legend_handles(material: Material) -> list[Line2D]:
    """A sample of each arm's line, named."""
    from matplotlib.lines import Line2D

    looks = [(arm, material.look(arm)) for arm in material.note.arms]
    return [Line2D([], [], color=look.colour, linestyle=look.dashes, label=_named(arm)) for arm, look in looks]


def framed(
    note: StudyNote, width: float, height: float, explained: str, legend: Sequence[Line2D] = ()
) -> tuple[Figure, SubFigure]:
    """A figure and the part of it to draw on: title above; below, what the reader must know: protocol, seeds, holes.

    Args:
        width, height: inches of the part to draw on and its title; legend and notes add to the height.
    """
    lines = [f"{note.protocol} {explained}", *note.notes]
    text = "\n".join(textwrap.fill(line, int(width * 19)) for line in lines)
    notes = 0.15 * (text.count("\n") + 1) + 0.08
    columns = max(1, int(width // 2.3))
    room = notes + 0.2 * -(-len(legend) // columns) + (0.1 if legend else 0)
    figure = style.new_figure(width, height + room)
    canvas = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, room))[0, 0]
    canvas.suptitle(note.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if legend:
        corner = (0, room / (height + room))
        figure.legend(handles=legend, loc="upper left", bbox_to_anchor=corner, ncols=columns, fontsize=8)
    figure.text(0.01, notes / (height + room), text, fontsize=7, color=style.FAINT, va="top", linespacing=1.3)
    return figure, canvas


def _point(axes: Axes, material: Material, arm: ArmNote, metric: str, row: int) -> None:
    look = material.look(arm)
    for statistic, offset, fill in (("mean", -0.13, look.colour), ("iqm", 0.13, "white")):
        if (arm.arm, metric, statistic) not in material.finals:
            continue
        value, low, high = material.finals[arm.arm, metric, statistic]
        axes.plot([low, high], [row + offset] * 2, color=look.colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, row + offset, marker=look.marker, color=look.colour, markerfacecolor=fill)


def _vertical(axes: Axes, material: Material, arm: ArmNote, metric: str) -> None:
    if (arm.arm, metric, "mean") not in material.finals:
        return
    value, look = material.finals[arm.arm, metric, "mean"][0], material.look(arm)
    axes.axvline(value, color=look.colour, linestyle=look.dashes, linewidth=1.2)
    axes.annotate(
        f" {_named(arm)}",
        (value, 1),
        xycoords=("data", "axes fraction"),
        va="top",
        fontsize=7.5,
        color=look.colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        zorder=1.5,
    )


def _nothing(axes: Axes, material: Material, metric: str) -> bool:
    if text := material.empty(metric):
        axes.grid(False)
        axes.tick_params(length=0, labelleft=False, labelbottom=False)
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.FAINT)
    return bool(text)


def _named(arm: ArmNote) -> str:
    return arm.label if arm.reference and arm.whole else f"{arm.label}, {arm.seeds}"


def _tasks(note: StudyNote) -> str:
    return f"{len(note.tasks)} task{'' if len(note.tasks) == 1 else 's'}"


def _step_label(note: StudyNote) -> str:
    return "vector steps" if note.moved == 1 else f"vector steps (one step is {note.moved} transitions)"
