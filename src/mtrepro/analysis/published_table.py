"""The table of verdicts: each printed number beside ours, from the published.csv that `mtrepro aggregate` wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtrepro.analysis.files import number, read_rows
from mtrepro.analysis.rendering import HOLE, Table, fixed, latex, markdown, show
from mtrepro.analysis.study_note import StudyNote
from mtrepro.analysis.verdicts import FEWEST_SEEDS, metric_of
from mtrepro.engine.files import write_atomically

EMPTY = "This study is compared with no printed number.\n"
HEAD = ["Printed number", "Arm", "Printed", "Trust", "Ours", "Seeds", "Ours - printed", "Verdict"]
WORDS = ("reproduced", "differs", "undecided", "not comparable", "no printed number")
_READ = (
    "cell", "arm", "printed", "printed_error", "error_kind", "printed_seeds", "trust", "statistic", "column", "step",
    "value", "low", "high", "difference", "difference_low", "difference_high", "margin", "verdict", "why", "missing",
    "paper", "arxiv", "table", "benchmark", "steps", "method", "metric", "conditions", "source", "note", "unit",
)  # fmt: skip
EXPLAINED = (
    "{measured} Ours: in brackets the 95 % bootstrap interval over whole runs, @ the vector step; best: the "
    "highest point of the mean curve up to the step that is compared. Ours - printed: in brackets Welch's 95 % "
    "interval, where both sides show a spread. Margin: {margins}. reproduced: the whole interval lies within "
    "the margin; differs: the whole interval lies outside it; undecided: neither, or there is no interval, or runs are "
    "missing, diverged, not bit-exact, or fewer than {fewest}; not comparable: a condition is known to differ, or "
    "nobody has said whether one does, so no verdict is claimed. Trust: where the number was read: primary (the "
    "authors' own), paper text, secondary (somebody's transcription)."
)


def write_published(tables: Path, output: Path, note: StudyNote) -> None:
    """Write published_table.md and .tex; where the study names no printed number they say so.

    Raises:
        MtreproError: published.csv is missing or malformed.
        OutputError: `output` cannot be written.
    """
    rows = read_rows(tables / "published.csv", _READ)
    table = _table(rows, note)
    write_atomically(output / "published_table.md", markdown(table) if rows else EMPTY)
    write_atomically(output / "published_table.tex", latex(table) if rows else EMPTY)


def verdict_line(tables: Path) -> str:
    """'printed numbers: 2 reproduced, 1 not comparable; see ...'; empty where there is none to count."""
    path = tables / "published.csv"
    counts = Counter(row["verdict"] for row in read_rows(path, ["verdict"])) if path.exists() else Counter[str]()
    words = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    return f"printed numbers: {words}; why: published_table.md" if words else ""


def _table(rows: Sequence[Mapping[str, str]], note: StudyNote) -> Table:
    arms = {arm.arm: arm for arm in note.arms}
    whys = list(dict.fromkeys(_why(row) for row in rows))
    body = [
        [
            row["cell"],
            arms[row["arm"]].label,
            _printed(row),
            row["trust"] or HOLE,
            _ours(row),
            arms[row["arm"]].seeds.replace(" seeds", ""),
            _difference(row),
            f"{row['verdict']} ({whys.index(_why(row)) + 1})",
        ]
        for row in rows
    ]
    explained = _explained(rows)
    reasons = [f"({index}) {why}." for index, why in enumerate(whys, 1)]
    origins = dict.fromkeys(_origin(row) for row in rows)
    footnotes = [explained, *reasons, *origins, note.protocol, *note.notes]
    return Table("published", f"{note.title}: printed numbers and verdicts", HEAD, body, footnotes)


def _explained(rows: Sequence[Mapping[str, str]]) -> str:
    """What the columns are, in the units of these rows."""
    units = list(dict.fromkeys(metric_of(row["unit"]) for row in rows))
    known = dict.fromkeys((metric_of(row["unit"]), row["margin"]) for row in rows if row["margin"])
    words = {"success": "Success, as a share.", "return": "Return of an episode."}
    margins = [f"±{fixed(number(margin), 2 if unit == 'success' else 0)} {unit}" for unit, margin in known]
    return EXPLAINED.format(
        measured=" ".join(words[unit] for unit in sorted(units, reverse=True)),
        margins=", ".join(margins) or "not known",
        fewest=FEWEST_SEEDS,
    )


def _why(row: Mapping[str, str]) -> str:
    return f"{row['why']}: {row['missing']}" if row["missing"] else row["why"]


def _printed(row: Mapping[str, str]) -> str:
    """'0.84 ± 0.051 (stderr, 10 seeds)'; 'not read' for an empty cell."""
    if not row["printed"]:
        return "not read"
    error = f" ± {_digits(row, 'printed_error')}" if row["printed_error"] else ""
    kind = {"": "no error", "not stated": "kind of error not stated"}.get(row["error_kind"], row["error_kind"])
    count = row["printed_seeds"]
    seeds = f"{count} seed{'' if count == '1' else 's'}" if count else "seeds not known"
    return f"{_digits(row, 'printed')}{error} ({kind}, {seeds})"


def _digits(row: Mapping[str, str], key: str) -> str:
    """As many digits behind the point as were printed; of a share at least two."""
    text = row[key]
    if metric_of(row["unit"]) == "return":
        return text
    return max(fixed(number(text), 2), text, key=lambda candidate: len(candidate.partition(".")[2]))


def _ours(row: Mapping[str, str]) -> str:
    text = show(metric_of(row["unit"]), row["value"], row["low"], row["high"])
    if text == HOLE:
        return HOLE
    iqm = " IQM" if row["statistic"] == "iqm" else ""
    best = " best" if row["column"] == "best_of_mean_curve" else ""
    return f"{text}{iqm}{best} @ {int(row['step']):,}"


def _difference(row: Mapping[str, str]) -> str:
    if not row["difference"]:
        return HOLE
    digits = 2 if metric_of(row["unit"]) == "success" else 1
    point, *ends = (
        _signed(row[key], digits) for key in ("difference", "difference_low", "difference_high") if row[key]
    )
    return f"{point} [{', '.join(ends)}]" if ends else point


def _signed(text: str, digits: int) -> str:
    shown = fixed(number(text), digits)
    return f"+{shown}" if number(shown) > 0 else shown


def _origin(row: Mapping[str, str]) -> str:
    """Where a printed number stands, what it measures, and where it was read."""
    arxiv = f", arXiv {row['arxiv']}" if row["arxiv"] else ""
    parts = [
        f"{row['cell']}: {row['paper']}{arxiv}, {row['table']}: {row['method']} on {row['benchmark']}, {row['steps']}",
        row["metric"],
        f"conditions: {row['conditions']}",
        f"read in: {row['source'] or 'nobody could'}",
        *([row["note"]] if row["note"] else []),
    ]
    return "; ".join(parts) + "."
