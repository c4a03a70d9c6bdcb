"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mtrepro.errors import OutputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path`, flush it to the disk, then put it in place.

    Raises:
        OutputError: the disk is full or the folder cannot be written; what stood at `path` still stands.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}\n"
            "  nothing is lost; free some space or mend the permission, then start the same command again"
        ) from None
