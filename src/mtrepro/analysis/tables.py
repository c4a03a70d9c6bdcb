"""Tables for a page, a paper and the terminal, from the CSV files that `mtrepro aggregate` wrote."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrepro.analysis.files import number, read_rows
from mtrepro.analysis.study_note import ArmNote, StudyNote, read_note
from mtrepro.engine.files import write_atomically

INTERVALS = (
    "In brackets: 95 % stratified-bootstrap interval over seeds; none with one seed "
    "(summary.csv also has the ones over whole runs)."
)
HOLE = "–"


@dataclass(frozen=True)
class Column:
    """A column of the result table: a metric, where on the curve, and how the scores are summarised."""

    heading: str
    metric: str
    column: str
    statistic: str
    brief: bool = False  # without its interval in a terminal, where all intervals would not fit


@dataclass(frozen=True)
class Table:
    """Text in rows, before it is Markdown, LaTeX or plain."""

    name: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    footnotes: list[str]


def write_tables(tables: Path, output: Path) -> None:
    """Write result_table and per_task_table, each as .md and .tex, to `output`.

    Args:
        tables: the folder that `mtrepro aggregate` wrote.

    Raises:
        MtreproError: a file in `tables` is missing or malformed.
        OutputError: `output` cannot be written.
    """
    note = read_note(tables)
    result = [_result_table(tables, note, brief=False)]
    per_task = [_per_task_table(tables, note, metric) for metric in note.metrics]
    for name, group in (("result_table", result), ("per_task_table", per_task)):
        write_atomically(output / f"{name}.md", "\n".join(markdown(table) for table in group))
        write_atomically(output / f"{name}.tex", "\n".join(latex(table) for table in group))


def result_table(study_folder: Path) -> str:
    """The result table for the terminal, as `mtrepro show` prints it: about 100 columns wide.

    Raises:
        MtreproError: the study has not been aggregated yet.
    """
    tables = study_folder / "tables"
    return plain(_result_table(tables, read_note(tables), brief=True))


def columns_of(metrics: Sequence[str]) -> list[Column]:
    """The columns of the result table: all of the leading metric, and the final mean of the others."""
    leading, *others = metrics
    name = leading.capitalize()
    return [
        Column(f"{name}, mean", leading, "final", "mean"),
        Column("IQM", leading, "final", "iqm"),
        Column("Worst task", leading, "final", "worst_task", brief=True),
        Column("Best", leading, "best_of_mean_curve", "mean", brief=True),
        Column("AUC", leading, "area_under_curve", "mean", brief=True),
        *(Column(f"{other.capitalize()}, mean", other, "final", "mean") for other in others),
    ]


def _result_table(tables: Path, note: StudyNote, brief: bool) -> Table:
    keys = ("arm", "metric", "column", "statistic")
    rows = read_rows(tables / "summary.csv", [*keys, "value", "low", "high"])
    cells = {
        tuple(row[key] for key in keys): show(row["metric"], row["value"], row["low"], row["high"]) for row in rows
    }
    columns = columns_of(note.metrics)
    body = []
    for arm in note.arms:
        texts = [cells.get((arm.arm, each.metric, each.column, each.statistic), HOLE) for each in columns]
        if brief:
            texts = [text.partition(" [")[0] if each.brief else text for text, each in zip(texts, columns, strict=True)]
        body.append([arm.label, arm.seeds.replace(" seeds", ""), _steps(arm, note, brief), *texts])
    head = [
        "Arm",
        "Seeds",
        "Steps" if brief else "Steps (transitions)",
        *(each.heading.removesuffix(", mean" if brief else "") for each in columns),
    ]
    explained = (
        f"Mean, IQM and worst task: the last evaluation. IQM: mean of the middle half of all {note.metrics[0]} scores "
        "of seeds and tasks. Best: highest point of the mean curve, biased upward. AUC: its time average. "
        f"{INTERVALS}"
    )
    return Table("result", note.title, head, body, _footnotes(note, explained))


def _per_task_table(tables: Path, note: StudyNote, metric: str) -> Table:
    keys = ("arm", "task", "metric", "column", "statistic")
    rows = read_rows(tables / "per_task.csv", [*keys, "value", "low", "high"])
    cells = {
        tuple(row[key] for key in keys): show(row["metric"], row["value"], row["low"], row["high"]) for row in rows
    }
    body = [
        [task, *(cells.get((arm.arm, task, metric, "final", "mean"), HOLE) for arm in note.arms)] for task in note.tasks
    ]
    head = ["Task", *(arm.label if arm.whole else f"{arm.label}, {arm.seeds}" for arm in note.arms)]
    explained = f"Mean over seeds at the last evaluation. {INTERVALS}"
    caption = f"{note.title}: {metric} of each task"
    return Table(f"per-task-{metric}", caption, head, body, _footnotes(note, explained))


def _footnotes(note: StudyNote, explained: str) -> list[str]:
    count = len(note.tasks)
    steps = f"Steps are vector steps: each moves all {count} tasks once, so transitions are {count} times as many."
    return [note.protocol, explained, *([steps] if "IQM" in explained else []), *note.notes]


def _steps(arm: ArmNote, note: StudyNote, brief: bool) -> str:
    return f"{arm.budget:,}" if brief or not arm.budget else f"{arm.budget:,} ({arm.budget * len(note.tasks):,})"


def show(metric: str, value: str, low: str, high: str) -> str:
    """'0.83 [0.71, 0.92]'; without an interval '0.83'; a hole where there is no value."""
    if not value:
        return HOLE
    # Success is a share; other metrics have a scale of their own: about three digits, and as many for the interval
    size = max((abs(number(text)) for text in (value, low, high) if text), default=0.0)
    digits = 2 if metric == "success" or size < 10 else 1 if size < 100 else 0
    point = _fixed(number(value), digits)
    return f"{point} [{_fixed(number(low), digits)}, {_fixed(number(high), digits)}]" if low and high else point


def _fixed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}" if math.isfinite(value) else HOLE
    return text.removeprefix("-") if not text.strip("-0.,") else text  # no '-0.00'


def markdown(table: Table) -> str:
    """A pipe table with its caption above and its notes below."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    alignment = ["---", *["---:"] * (len(table.head) - 1)]
    lines = [f"**{table.caption}**", "", line(table.head), line(alignment), *(line(row) for row in table.rows), ""]
    return "\n".join(lines + [line for note in table.footnotes for line in (note, "")])


def latex(table: Table) -> str:
    """A table environment that needs no package, with caption, label and notes."""
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\begin{tabular}{l" + "r" * (len(table.head) - 1) + "}",
        r"\hline",
        " & ".join(escape(cell) for cell in table.head) + r" \\",
        r"\hline",
        *(" & ".join(escape(cell) for cell in row) + r" \\" for row in table.rows),
        r"\hline",
        r"\end{tabular}",
        "",
        *(rf"\par\smallskip {escape(note)}" for note in table.footnotes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def plain(table: Table) -> str:
    """Aligned columns, for a terminal."""
    grid = [table.head, *table.rows]
    widths = [max(len(row[index]) for row in grid) for index in range(len(table.head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        return "  ".join([first.ljust(widths[0]), *padded])

    rule = "  ".join("-" * width for width in widths)
    notes = [textwrap.fill(note, 100, subsequent_indent="  ") for note in table.footnotes]
    return "\n".join([table.caption, "", line(table.head), rule, *map(line, table.rows), "", *notes]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"$\dagger$",
    "–": "--",
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it; a number below zero gets a minus sign, not a hyphen."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)
