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

EXPLAINED = (
    "Change: after less before, in each run; below zero a loss fell. Mean over seeds at the last evaluation; in "
    "brackets: 95 % stratified-bootstrap interval over seeds; none with one seed."
)
COMPARED = (
    "Of the mean over the tasks held out: the first arm less the second, seed by seed. Below zero the first arm's loss "
    f"is lower, or fell further. {EXPLAINED}"
)


def adaptation_tables(tables: Path, note: StudyNote) -> Iterator[Table]:
    """Two tables of each metric that was measured before and after adapting; none where no task is held out.

    The first has every arm on every held-out task and on their mean, the second every two arms.
    """
    measured = sorted(adapted(note.metrics), key=lambda name: not name.endswith("loss")) if note.held_out else []
    if not measured:
        return
    keys = ("arm", "against", "task", "metric")
    rows = read_rows(tables / "per_task.csv", [*keys, "column", "statistic", "value", "low", "high", "below_zero"])
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
            arm.label if arm.whole else f"{arm.label}, {arm.seeds}",
            task,
            *(_cell(rows, (arm.arm, "", task, name)) for name in (metric, f"{ADAPTED}{metric}", f"{metric}{CHANGE}")),
            _count(rows, (arm.arm, "", task, f"{metric}{CHANGE}")),
        ]
        for arm in note.arms
        for task in (HELD_OUT, *note.held_out)
    ]
    head = ["Arm", "Held-out task", "Before", "After", "Change", "Below zero"]
    caption = f"{note.title}: {_words(metric)} before and after adapting"
    return Table(f"adaptation-{metric}", caption, head, body, [note.protocol, EXPLAINED, *note.notes])


def _between_arms(rows: dict[Key, Row], note: StudyNote, metric: str) -> Table:
    body = []
    for one, other in _pairs(note.arms):
        keys = [(one.arm, other.arm, HELD_OUT, name) for name in (f"{metric}{CHANGE}", f"{ADAPTED}{metric}")]
        texts = [text for key in keys for text in (_cell(rows, key), _count(rows, key))]
        body.append([f"{one.label} less {other.label}", *texts])
    head = ["Arms", "Change", "Below zero", "After", "Below zero"]
    caption = f"{note.title}: {_words(metric)} of one arm less another's"
    return Table(f"adaptation-{metric}-arms", caption, head, body, [note.protocol, COMPARED, *note.notes])


def _pairs(arms: list[ArmNote]) -> Iterator[tuple[ArmNote, ArmNote]]:
    return ((one, other) for index, one in enumerate(arms) for other in arms[index + 1 :])


def _cell(rows: dict[Key, Row], key: Key) -> str:
    row = rows.get(key)
    return show(key[3], row["value"], row["low"], row["high"]) if row else HOLE


def _count(rows: dict[Key, Row], key: Key) -> str:
    """'3/3 seeds'."""
    row = rows.get(key)
    return f"{row['below_zero']}/{row['seeds_present']} seeds" if row and row["below_zero"] else HOLE


def _words(metric: str) -> str:
    return metric.replace("_", " ")
