"""The files between the steps of the analysis: rounded, ordered, equal byte for byte on every machine."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.paths import shown

# Six digits are far above what any interval resolves and far below where processors differ in the last bits.
SIGNIFICANT_DIGITS = 6


def significant(value: float | None) -> str:
    """`value` with six significant digits; empty for None and for what is not a number."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value + 0.0:.{SIGNIFICANT_DIGITS}g}" if value else "0"


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file: floats rounded, None empty, booleans as true and false.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, two spaces of indent, keys in the order given."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that `mtrepro aggregate` wrote.

    Raises:
        MtreproError: there is no such file, or a column is missing.
    """
    with io.StringIO(read_text(path)) as text:
        reader = csv.DictReader(text)
        rows = list(reader)
    for column in columns:
        if column not in (reader.fieldnames or []):
            raise MtreproError(f"{shown(path)}:1: has no column {column!r}\n  run `mtrepro aggregate` again")
    return rows


def read_text(path: Path) -> str:
    """The text of a file that `mtrepro aggregate` wrote.

    Raises:
        MtreproError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MtreproError(f"{shown(path)}: there is no such file\n  run `mtrepro aggregate` first") from None
    except OSError as error:
        raise MtreproError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def number(text: str) -> float:
    """A cell as a number; NaN where it is empty."""
    return float(text) if text else math.nan


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return significant(value)
    return str(value)
