"""Which processes of this machine live; a number alone is not enough, because numbers are used again."""

from __future__ import annotations

import os
from pathlib import Path


def started(process: int) -> str | None:
    """When a process started, in the kernel's ticks; None if there is none of this number."""
    fields = _fields(process)
    return fields[19] if fields else None


def ancestors(count: int) -> dict[int, str | None]:
    """This process's parent, its parent, and so on, `count` of them, each with when it started."""
    found: dict[int, str | None] = {}
    process = os.getppid()
    while process > 1 and len(found) < count:
        found[process] = started(process)
        fields = _fields(process)
        process = int(fields[1]) if fields else 0
    return found


def _fields(process: int) -> list[str]:
    """What /proc says of a process behind its name: state, parent, ..."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
