"""The status of a study on the terminal: once, again and again, or as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mtrepro.errors import MtreproError
from mtrepro.paths import root, shown
from mtrepro.status import Row, counts, log_file, read_rows
from mtrepro.study import ResolvedStudy, load_study
from mtrepro.terminal import duration

WATCH_SECONDS = 5.0  # between two looks; a trainer tells its progress as often, later less
WIDTH = 160  # of a table in a pipe or a file; a terminal says its own
AROUND = 5  # lines of a table that are not rows, and the line of counts
SCHEMA_VERSION = 1
STYLES = {
    "done": "green",
    "diverged": "magenta",
    "running": "cyan",
    "stalled": "yellow",
    "failed": "red",
    "damaged": "red",
}
OVER, QUIET = {"done", "diverged"}, {"done", "waiting"}


def print_status(path: Path, watch: bool, as_json: bool) -> None:
    """Show every run of a study; with `watch` until all are over or Ctrl-C.

    Raises:
        MtreproError: `watch` and `as_json` together, or the study cannot be meant as written.
    """
    if watch and as_json:
        raise MtreproError("--watch and --json exclude each other: call `--json` as often as you need it")
    resolved = load_study(path)
    if as_json:
        print(json.dumps(as_content(resolved, read_rows(resolved)), indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if watch:
        _watch(resolved, console)
    else:
        console.print(table(resolved, read_rows(resolved)))


def as_content(resolved: ResolvedStudy, rows: Sequence[Row]) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": resolved.study.study,
        "counts": counts(rows),
        "runs": [row.as_dict() for row in rows],
    }


def table(resolved: ResolvedStudy, rows: Sequence[Row], height: int | None = None) -> RenderableType:
    """The rows as a table, and a line of counts.

    Where `height` lines cannot hold all rows, those that are done or waiting are counted alone.
    """
    hidden = height is not None and len(rows) + AROUND > height
    columns = Table(title=Text(f"{resolved.study.title}: {len(rows)} runs"), title_justify="left")
    for name in ("arm", "run", "state", "step", "steps/s", "left", "success", "note"):
        columns.add_column(name, justify="right" if name in ("step", "steps/s", "left", "success") else "left")
    for row in rows:
        if not (hidden and row.state in QUIET):
            columns.add_row(*_cells(row))
    line = ", ".join(f"{count} {state}" for state, count in counts(rows).items())
    parts: list[RenderableType] = [columns, Text(line)]
    if any(row.state == "failed" for row in rows):
        parts.append(Text(f"logs: {shown(log_file(root() / resolved.results, '<run>'))}"))
    return Group(*parts)


def _cells(row: Row) -> list[Text]:
    took = "" if row.seconds is None else f"took {duration(row.seconds)}"
    return [
        Text(row.arm),
        Text(row.run, no_wrap=True),
        Text(row.state, STYLES.get(row.state, "")),
        Text("" if row.step is None else f"{row.step:,}/{row.budget:,}", no_wrap=True),
        Text("" if row.steps_per_second is None else f"{row.steps_per_second:.1f}"),
        Text("" if row.seconds_left is None else duration(row.seconds_left), no_wrap=True),
        Text("" if row.success is None else f"{row.success:.2f}"),
        Text("; ".join(part for part in (took, row.note) if part), overflow="fold"),
    ]


def _watch(resolved: ResolvedStudy, console: Console) -> None:
    """Look every few seconds; in a pipe each look is printed below the one before."""
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                rows = read_rows(resolved)
                if console.is_terminal:
                    live.update(table(resolved, rows, console.height), refresh=True)
                else:
                    console.print(table(resolved, rows))
                if all(row.state in OVER for row in rows):
                    return
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return
