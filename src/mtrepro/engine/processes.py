"""Processes of this machine: which live, where a number alone is not enough because numbers are used again, and what
those inherit that are started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
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


@contextlib.contextmanager
def changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """This process's environment variables, which those that it starts inherit, with some changed for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _fields(process: int) -> list[str]:
    """What /proc says of a process behind its name: state, parent, ..."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
