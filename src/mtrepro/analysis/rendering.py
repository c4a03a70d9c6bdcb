"""How a table is written: Markdown for a page, LaTeX for a paper, aligned columns for a terminal."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mtrepro.analysis.files import number

HOLE = "–"


@dataclass(frozen=True)
class Table:
    """Text in rows, before it is Markdown, LaTeX or plain."""

    name: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    footnotes: list[str]


def show(metric: str, value: str, low: str, high: str) -> str:
    """'0.83 [0.71, 0.92]'; without an interval '0.83'; a hole where there is no value."""
    if not value:
        return HOLE
    # Success is a share; other metrics have a scale of their own: about three digits, and as many for the interval
    size = max((abs(number(text)) for text in (value, low, high) if text), default=0.0)
    digits = 2 if metric == "success" or size < 10 else 1 if size < 100 else 0
    point = fixed(number(value), digits)
    return f"{point} [{fixed(number(low), digits)}, {fixed(number(high), digits)}]" if low and high else point


def fixed(value: float, digits: int) -> str:
    """`value` with so many digits behind the point; never '-0.00'."""
    text = f"{value:,.{digits}f}" if math.isfinite(value) else HOLE
    return text.removeprefix("-") if not text.strip("-0.,") else text


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
    "±": r"$\pm$",
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it; a number below zero gets a minus sign, not a hyphen."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)
