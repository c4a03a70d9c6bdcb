"""Tables of what was measured: on the terminal, and between two markers of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BEGIN = "<!-- figures: begin (written by `python -m tests.bench --document`) -->"
END = "<!-- figures: end -->"
_HEADING = "\n### "
_WIDTH = 150  # columns where there is no terminal

Content = Mapping[str, Any]


def show(content: Content) -> None:
    """Print a topic's table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    caption = "\n".join([*content["notes"], _when(content)])
    table = Table(title=content["title"], caption=caption, caption_justify="left")
    head, lines = cells(content)
    for heading in head:
        table.add_column(heading, justify="left" if heading in ("what", "role") else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def cells(content: Content) -> tuple[list[str], list[list[str]]]:
    """The table's head and lines; further columns in the order in which rows name them, their medians alone."""
    further = list(dict.fromkeys(heading for row in content["rows"] for heading in row["beside"]))
    units = {row["unit"] for row in content["rows"]}
    assert len(units) == 1, "one unit a table, so that it can stand in the head"
    head = ["what", "role", "threads", "processes", units.pop(), "min..max", "repeats", *further]
    lines = []
    for row in content["rows"]:
        beside = [number(row["beside"][heading]["median"]) if heading in row["beside"] else "" for heading in further]
        measured = [number(row["median"]), f"{number(row['lowest'])}..{number(row['highest'])}", str(row["repeats"])]
        lines.append([row["name"], row["role"], str(row["threads"]), str(row["processes"]), *measured, *beside])
    return head, lines


def number(value: float) -> str:
    """Three or four digits, as a person reads them."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if size >= 200 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def document(folder: Path, page: Path, topics: Sequence[str], only: Sequence[str] = ()) -> None:
    """Write the tables of full runs into `page`, between its markers: of all `topics`, or of `only` these.

    Raises:
        SystemExit: a topic was not measured, or not in full; the page has no markers; or the tables that stay there are
            of another machine or other versions.
    """
    contents = [_read(folder / f"{topic}.json") for topic in only or topics]
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    there, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: has no markers {BEGIN} and {END}")
    head, *tables = there.split(_HEADING)
    if only and head.strip() != _measured_on(contents[0]):
        raise SystemExit(f"{page}: its other tables are of another machine or other versions; document all topics")
    kept = {table.partition("\n")[0]: table.rstrip("\n") for table in tables} if only else {}
    page.write_text(f"{before}{BEGIN}\n{markdown(contents, kept)}{END}{after}", encoding="utf-8")


def _read(path: Path) -> Content:
    if not path.exists():
        raise SystemExit(f"{path}: missing; run `python -m tests.bench {path.stem}` first")
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    if content["effort"] != "full":
        raise SystemExit(f"{path}: of a {content['effort']} run; the page shows full ones")
    return content


def markdown(contents: Sequence[Content], kept: Mapping[str, str]) -> str:
    """These topics as Markdown, in their places among the tables `kept`, by title, or behind them."""
    tables = {**kept, **{content["title"]: _table(content) for content in contents}}
    return _HEADING.join([_measured_on(contents[0]) + "\n", *(f"{table}\n" for table in tables.values())])


def _measured_on(content: Content) -> str:
    machine = content["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    return (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['cpu_capability']}, no GPU used, "
        f"at niceness {machine['niceness']}; {versions}."
    )


def _table(content: Content) -> str:
    """Title, table and notes, without the mark of a heading."""
    head, rows = cells(content)
    lines = [content["title"], "", f"| {' | '.join(head)} |"]
    lines.append("|" + "|".join("---" if heading in ("what", "role") else "---:" for heading in head) + "|")
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", " ".join([*content["notes"], f"*{_when(content)}*"])])


def _when(content: Content) -> str:
    load = content["load"]
    date = content["date"].replace("T", " ").removesuffix("+00:00")
    cores = content["machine"]["cores"]
    return (
        f"Ended {date} UTC after {content['seconds']:.0f} s; 1-minute load {load['before']} before and {load['after']} "
        f"after, on {cores} cores."
    )
