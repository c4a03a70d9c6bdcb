"""Tables of held-out tasks before and after adapting, from per_task.csv as `mtrepro aggregate` wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mtrepro.analysis.evaluation import ADAPTED, CHANGE, adapted
from mtrepro.analysis.files import read_rows
from mtrepro.analysis.rendering import HOLE, Table, show
from mtrepro.analysis.study_note import HELD_OUT, ArmNote, StudyNote

Key = tuple[str, str, str, str]  # arm, the arm it is compared with or nothing, task, metric
Row = dict[str, str]
SEEDS = ["seeds_present", "seeds_expected"]

EXPLAINED = (
    "Change: after less before, in each run; below zero {metric} fell, which is {better}. Mean over seeds at the last "
    "evaluation; in brackets: 95 % stratified-bootstrap interval, each task's seeds drawn by themselves; none with one "
    "seed. Rows called mean are over the tasks held out."
)
COMPARED = (
    "Of the mean over the tasks held out: the first arm less the second, seed by seed where both have the seed. Below "
    "zero the first arm has less {metric} after adapting, or lost more of it, which is {better}. "
)


def adaptation_tables(tables: Path, note: StudyNote) -> Iterator[Table]:
    """Two tables of each metric that was measured before and after adapting; none where no task is held out.

    The first has every arm on every held-out task and on their mean, the second every two arms.
    """
    measured = sorted(adapted(note.metrics), key=lambda name: not name.endswith("loss")) if note.held_out else []
    if not measured:
        return
    keys = ("arm", "against", "task", "metric")
    rows = read_rows(
        tables / "per_task.csv", [*keys, "column", "statistic", "value", "low", "high", "below_zero", *SEEDS]
    )
    kept: dict[Key, Row] = {
        (row["arm"], row["against"], row["task"], row["metric"]): row
        for row in rows
        if (row["column"], row["statistic"]) == ("final", "mean")
    }
    for metric in measured:
        yield _before_and_after(kept, note, metric)
        yield _between_arms(kept, note, metric)


def _before_and_after(rows: dict[Key, Row], note: StudyNote, metric: str) -> Table:
    body = [
        [
            _name(arm),
            task,
            *(_cell(rows, (arm.arm, "", task, name)) for name in (metric, f"{ADAPTED}{metric}", f"{metric}{CHANGE}")),
            _count(rows, (arm.arm, "", task, f"{metric}{CHANGE}")),
        ]
        for arm in note.arms
        for task in (HELD_OUT, *note.held_out)
    ]
    head = ["Arm", "Held-out task", "Before", "After", "Change", "Below zero"]
    caption = f"{note.title}: {_words(metric)} before and after adapting"
    return Table(f"adaptation-{metric}", caption, head, body, _footnotes(note, EXPLAINED, metric))


def _between_arms(rows: dict[Key, Row], note: StudyNote, metric: str) -> Table:
    body = []
    for one, other in _pairs(note.arms):
        keys = [(one.arm, other.arm, HELD_OUT, name) for name in (f"{metric}{CHANGE}", f"{ADAPTED}{metric}")]
        texts = [text for key in keys for text in (_cell(rows, key), _count(rows, key))]
        body.append([f"{_name(one)} less {_name(other)}", *texts])
    head = ["Arms", "Change", "Below zero", "After", "Below zero"]
    caption = f"{note.title}: {_words(metric)} of one arm less another's"
    return Table(f"adaptation-{metric}-arms", caption, head, body, _footnotes(note, f"{COMPARED}{EXPLAINED}", metric))


def _pairs(arms: list[ArmNote]) -> Iterator[tuple[ArmNote, ArmNote]]:
    return ((one, other) for index, one in enumerate(arms) for other in arms[index + 1 :])


def _cell(rows: dict[Key, Row], key: Key) -> str:
    row = rows.get(key)
    return show(key[3], row["value"], row["low"], row["high"]) if row else HOLE


def _count(rows: dict[Key, Row], key: Key) -> str:
    """'3/3 seeds'."""
    row = rows.get(key)
    if not row or not row["below_zero"]:
        return HOLE
    some = row["against"] and row["seeds_present"] != row["seeds_expected"]
    of_all = f", of {row['seeds_expected']}" if some else ""
    return f"{row['below_zero']}/{row['seeds_present']} seeds{of_all}"


def _name(arm: ArmNote) -> str:
    return arm.label if arm.whole else f"{arm.label}, {arm.seeds}"


def _footnotes(note: StudyNote, explained: str, metric: str) -> list[str]:
    better = "better" if metric.endswith("loss") else "worse"
    return [note.protocol, explained.format(metric=_words(metric), better=better), *note.notes]


def _words(metric: str) -> str:
    return metric.replace("_", " ")
