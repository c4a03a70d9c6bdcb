"""The head: the one Snakemake process that works on a checkout. Its lock outlives it when it is killed.

Snakemake then refuses to start until somebody types `--unlock`. Here the head notes who it is once it holds the lock,
so that the next one can see that it is dead, and go on. And it holds a lock of the system's beside Snakemake's. That
one is looked for first and written after, so that heads that start at the same moment find none; it lets through what
makes other files; and whoever ends removes all of them, the living ones' too.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import socket
from typing import IO

from mtrepro.engine.files import write_atomically
from mtrepro.engine.processes import started
from mtrepro.errors import MtreproError
from mtrepro.paths import root

HEAD = ".snakemake/mtrepro-head.json"  # which process held Snakemake's lock last
HELD = ".snakemake/mtrepro-head.lock"  # locked as long as the head lives
_held: list[IO[str]] = []  # open until this process ends


def note_head() -> None:
    """Write down that this process holds Snakemake's lock; called when its jobs start.

    Raises:
        MtreproError: another head does so already.
    """
    lock = (root() / HELD).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise MtreproError(
            "this checkout cannot be locked: another snakemake works in it, and there is one a checkout\n"
            "  wait for its end, or stop it, then give the command again; what must run beside it can do so in a clone"
        ) from None
    except OSError:  # a file system without locks: Snakemake's own has to do
        pass
    _held.append(lock)
    head = {"schema_version": 1, "host": socket.gethostname(), "process": os.getpid(), "started": started(os.getpid())}
    write_atomically(root() / HEAD, json.dumps(head) + "\n")


def submit_through_ours() -> None:
    """Put workflow/bin first on the PATH: its `sbatch` takes over the jobs that a killed head left in the queue."""
    os.environ["PATH"] = os.pathsep.join([str(root() / "workflow" / "bin"), os.environ["PATH"]])


def clear_dead_heads_lock() -> bool:
    """Remove Snakemake's lock if the head that noted itself is proven dead; says whether there was one.

    A lock that is newer than the note belongs to a head that has not yet noted itself, and stays.
    """
    note, locks = root() / HEAD, list((root() / ".snakemake" / "locks").glob("*.lock"))
    try:
        head = json.loads(note.read_text(encoding="utf-8"))
        noted = note.stat().st_mtime_ns
        older = all(lock.stat().st_mtime_ns <= noted for lock in locks)
    except (OSError, ValueError):
        return False
    dead = head["host"] == socket.gethostname() and started(head["process"]) != head["started"]
    if not (locks and older and dead):
        return False
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True


def awaited() -> frozenset[str]:
    """The outputs of jobs that Snakemake started and has not noted as finished, relative to the checkout.

    Where their head is dead, the next one deletes them and makes them again. Snakemake keeps a file for each, whose
    name is the output's in base 64; a long one is cut into folders that begin with @.
    """
    folder, found = root() / ".snakemake" / "incomplete", set()
    for path in folder.rglob("*"):
        name = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
        with contextlib.suppress(ValueError):
            found.add(base64.urlsafe_b64decode(name).decode())
    return frozenset(found)
