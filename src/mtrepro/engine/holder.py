"""Who holds a run, seen from outside: from any machine, without taking the lease.

A heartbeat is as old as its file, by the clock of the file system: the clocks of two machines may differ.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from mtrepro.engine.lease import FILE, LOCK, STALE_SECONDS
from mtrepro.engine.processes import started

Life = Literal["alive", "stalled", "gone"]


class Holder(NamedTuple):
    """The trainer that a lease names."""

    host: str
    process: int
    age: float  # seconds since its last heartbeat
    started: str | None = None  # when the process did, see engine/processes.py

    @property
    def life(self) -> Life:
        """alive: its heart beats. gone: a process of this machine that is no more. stalled: neither is known."""
        if self.host == socket.gethostname():
            now = started(self.process)
            if now is None or self.started not in (None, now):  # numbers are used again
                return "gone"
        return "alive" if self.age <= STALE_SECONDS else "stalled"


class DamagedFileError(Exception):
    """A file that is there and cannot be what its name says; the text says which and why, on one line."""


class _Lease(BaseModel):
    """What is read of lease.json."""

    host: str
    process: int
    started: str | None = None


def read_holder(state: Path, now: float) -> Holder | None:
    """The holder of a run's lease; None where nobody holds it.

    Args:
        state: the run's state folder.
        now: the time by the clock of its file system.

    Raises:
        DamagedFileError: the lease cannot be read.
    """
    try:
        with (state / FILE).open("rb") as file:  # opened first: a network file system then asks for its true age
            written, content = os.fstat(file.fileno()).st_mtime, file.read()
        lease = _Lease.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFileError(f"{FILE}: {error.strerror}") from None
    except ValidationError:
        raise DamagedFileError(f"{FILE}: not what a trainer writes") from None
    return Holder(lease.host, lease.process, max(0.0, now - written), lease.started)


def file_system_time(folder: Path) -> float:
    """The time by the clock of a folder's file system; this machine's where nothing can be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


@contextlib.contextmanager
def held_back(state: Path) -> Iterator[bool]:
    """Keep new trainers of this machine from a run; says no where one trains it, or where nothing can be locked.

    It writes nothing, so that it works on a full disk.
    """
    try:
        lock = (state / LOCK).open("a")
    except OSError:
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
