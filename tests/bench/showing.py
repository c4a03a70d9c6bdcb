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


def document(folder: Path, page: Path, topics: Sequence[str]) -> None:
    """Write the tables of a full run into `page`, between its markers.

    Raises:
        SystemExit: a topic was not measured, or not in full, or the page has no markers.
    """
    contents = []
    for topic in topics:
        path = folder / f"{topic}.json"
        if not path.exists():
            raise SystemExit(f"{path}: missing; run `python -m tests.bench` first")
        contents.append(json.loads(path.read_text(encoding="utf-8")))
        if contents[-1]["effort"] != "full":
            raise SystemExit(f"{path}: of a {contents[-1]['effort']} run; the page shows full ones")
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: has no markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown(contents)}{END}{after}", encoding="utf-8")


def markdown(contents: Sequence[Content]) -> str:
    """All topics as Markdown."""
    first = contents[0]
    machine = first["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in first["versions"].items())
    lines = [
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['cpu_capability']}, no GPU used, "
        f"at niceness {machine['niceness']}; {versions}.",
    ]
    for content in contents:
        head, rows = cells(content)
        lines += ["", f"### {content['title']}", "", f"| {' | '.join(head)} |"]
        lines.append("|" + "|".join("---" if heading in ("what", "role") else "---:" for heading in head) + "|")
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", " ".join([*content["notes"], f"*{_when(content)}*"])]
    return "\n".join(lines) + "\n"


def _when(content: Content) -> str:
    load = content["load"]
    date = content["date"].replace("T", " ").removesuffix("+00:00")
    cores = content["machine"]["cores"]
    return (
        f"Ended {date} UTC after {content['seconds']:.0f} s; 1-minute load {load['before']} before and {load['after']} "
        f"after, on {cores} cores."
    )
