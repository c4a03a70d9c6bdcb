"""Tables for a page, a paper and the terminal, from the CSV files that `mtrepro aggregate` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrepro.analysis import pooled
from mtrepro.analysis.adaptation_table import adaptation_tables
from mtrepro.analysis.evaluation import CHANGE
from mtrepro.analysis.files import read_rows
from mtrepro.analysis.published_table import write_published
from mtrepro.analysis.rendering import HOLE, Table, latex, markdown, plain, show
from mtrepro.analysis.study_note import HELD_OUT, ArmNote, StudyNote, read_note
from mtrepro.engine.files import write_atomically

INTERVALS = (
    "In brackets: 95 % stratified-bootstrap interval over seeds; none with one seed "
    "(summary.csv also has the ones over whole runs)."
)


@dataclass(frozen=True)
class Column:
    """A column of the result table: a metric, where on the curve, and how the scores are summarised."""

    heading: str
    metric: str
    column: str
    statistic: str
    brief: bool = False  # without its interval in a terminal, where all intervals would not fit


def write_tables(tables: Path, output: Path) -> None:
    """Write result_table, per_task_table and published_table, each as .md and .tex, to `output`.

    Where tasks are held out per_task_table begins with them, before and after adapting.

    Args:
        tables: the folder that `mtrepro aggregate` wrote.

    Raises:
        MtreproError: a file in `tables` is missing or malformed.
        OutputError: `output` cannot be written.
    """
    note = read_note(tables)
    result = [_result_table(tables, note, brief=False)]
    per_task = [_per_task_table(tables, note, metric) for metric in note.metrics]
    per_task = [*adaptation_tables(tables, note), *per_task]
    for name, group in (("result_table", result), ("per_task_table", per_task)):
        write_atomically(output / f"{name}.md", "\n".join(markdown(table) for table in group))
        write_atomically(output / f"{name}.tex", "\n".join(latex(table) for table in group))
    write_published(tables, output, note)


def result_table(study_folder: Path) -> str:
    """The result table for the terminal, as `mtrepro show` prints it: about 100 columns wide.

    Raises:
        MtreproError: the study has not been aggregated yet.
    """
    tables = study_folder / "tables"
    return plain(_result_table(tables, read_note(tables), brief=True))


def columns_of(metrics: Sequence[str]) -> list[Column]:
    """The columns of the result table: all of the leading metric, and the final mean of the others.

    Changes by adapting are left to the tables of held-out tasks: here they are the difference of two columns.
    """
    leading, *others = (metric for metric in metrics if not metric.endswith(CHANGE))
    name = leading.capitalize()
    return [
        Column(f"{name}, mean", leading, "final", "mean"),
        Column("IQM", leading, "final", "iqm"),
        Column("Worst task", leading, "final", "worst_task", brief=True),
        Column("Best", leading, "best_of_mean_curve", "mean", brief=True),
        Column("AUC", leading, "area_under_curve", "mean", brief=True),
        *(
            Column(f"{other.capitalize().replace('_', ' ')}, mean", other, "final", "mean")
            for other in others
            if other != "success"  # where it does not lead, no task of the benchmark knows it
        ),
    ]


def _pooled_columns(note: StudyNote) -> list[Column]:
    """Those that the study asks for besides: of each its mean, and the deviation that papers print."""
    return [
        column
        for name in note.pooled
        for column in (
            Column(pooled.HEADINGS[name], note.metrics[0], name, pooled.MEAN, brief=True),
            Column(f"{pooled.HEADINGS[name]}, std", note.metrics[0], name, pooled.DEVIATION),
        )
    ]


def _result_table(tables: Path, note: StudyNote, brief: bool) -> Table:
    keys = ("arm", "metric", "column", "statistic")
    rows = read_rows(tables / "summary.csv", [*keys, "value", "low", "high"])
    cells = {
        tuple(row[key] for key in keys): show(row["metric"], row["value"], row["low"], row["high"]) for row in rows
    }
    columns = [*columns_of(note.metrics), *_pooled_columns(note)]
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
        f"{INTERVALS}{f' {pooled.EXPLAINED}' if note.pooled else ''}"
    )
    return Table("result", note.title, head, body, _footnotes(note, explained))


def _per_task_table(tables: Path, note: StudyNote, metric: str) -> Table:
    keys = ("arm", "task", "metric", "column", "statistic")
    rows = read_rows(tables / "per_task.csv", [*keys, "value", "low", "high"])
    cells = {
        tuple(row[key] for key in keys): show(row["metric"], row["value"], row["low"], row["high"])
        for row in rows
        if not row.get("against")  # of two arms: see adaptation_table.py
    }
    body = [
        [task, *(cells.get((arm.arm, task, metric, "final", "mean"), HOLE) for arm in note.arms)]
        for task in (*note.tasks, *([HELD_OUT] if note.held_out else []))
    ]
    head = ["Task", *(arm.label if arm.whole else f"{arm.label}, {arm.seeds}" for arm in note.arms)]
    explained = f"Mean over seeds at the last evaluation. {INTERVALS}"
    caption = f"{note.title}: {metric} of each task"
    return Table(f"per-task-{metric}", caption, head, body, _footnotes(note, explained))


def _footnotes(note: StudyNote, explained: str) -> list[str]:
    count, which = note.moved, "all" if not note.held_out else "the"
    steps = f"Steps are vector steps: each moves {which} {count} tasks once, so transitions are {count} times as many."
    return [note.protocol, explained, *([steps] if "IQM" in explained else []), *note.notes]


def _steps(arm: ArmNote, note: StudyNote, brief: bool) -> str:
    return f"{arm.budget:,}" if brief or not arm.budget else f"{arm.budget:,} ({arm.budget * note.moved:,})"
