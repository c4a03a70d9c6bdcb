"""The heads: Snakemake processes that work on a checkout, each on its own outputs. A killed one's locks outlive it.

Snakemake then refuses to start until somebody types `--unlock`. Here a head notes who it is and which locks are its own
once it holds them, so that the next one can see that it is dead, and go on. And heads plan one at a time: Snakemake
looks for others' locks first and writes its own after, so of two that start at the same moment neither sees the other.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import socket
import sys
from typing import IO

from mtrepro.engine.files import write_atomically
from mtrepro.engine.processes import started
from mtrepro.paths import root

HEADS = ".snakemake/mtrepro-heads"  # a note of each head, named by its process
PLANNING = ".snakemake/mtrepro-planning.lock"  # locked while a head looks for locks and writes its own
LOCKS = ".snakemake/locks"  # Snakemake's: the files that its processes read and write
_planning: list[IO[str]] = []  # the open file while this process plans
_of_others: dict[str, int] = {}  # the locks that were there when its turn came


def begin_to_plan() -> bool:
    """Wait until no other head plans, and remove the locks of dead ones; says whether there were any.

    What does not become a head, such as a dry run, lets go when it ends.
    """
    if not _planning:
        (root() / PLANNING).parent.mkdir(exist_ok=True)
        file = (root() / PLANNING).open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another snakemake in this checkout that is planning.", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: Snakemake's own have to do
            pass
        _planning.append(file)
    cleared = _clear_dead_heads_locks()
    _of_others.update(_locks())
    return cleared


def note_head() -> None:
    """Write down who this process is and which locks are its own, and let others plan; called when its jobs start."""
    mine = dict(_locks().items() - _of_others.items())
    me = os.getpid()
    note = {"schema_version": 1, "host": socket.gethostname(), "process": me, "started": started(me), "locks": mine}
    (root() / HEADS).mkdir(exist_ok=True)
    write_atomically(root() / HEADS / f"{me}.json", json.dumps(note) + "\n")
    while _planning:
        _planning.pop().close()


def submit_through_ours() -> None:
    """Put workflow/bin first on the PATH: its `sbatch` takes over the jobs that a killed head left in the queue."""
    os.environ["PATH"] = os.pathsep.join([str(root() / "workflow" / "bin"), os.environ["PATH"]])


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


def _clear_dead_heads_locks() -> bool:
    """Remove the locks of heads that are proven dead, and the notes of heads that have none any more."""
    cleared = False
    for file in (root() / HEADS).glob("*.json"):
        try:
            head = json.loads(file.read_text(encoding="utf-8"))
            left = dict(head["locks"].items() & _locks().items())
            dead = head["host"] == socket.gethostname() and started(head["process"]) != head["started"]
        except (OSError, ValueError, LookupError):
            continue
        if dead:
            for name in left:
                (root() / LOCKS / name).unlink(missing_ok=True)
                cleared = True
        if dead or not left:
            file.unlink(missing_ok=True)
    return cleared


def _locks() -> dict[str, int]:
    """Snakemake's locks by their names; the moment of writing tells one from a later one of the same name."""
    found = {}
    for file in (root() / LOCKS).glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # its head ends just now
            found[file.name] = file.stat().st_mtime_ns
    return found
