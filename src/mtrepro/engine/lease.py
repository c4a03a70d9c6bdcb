"""A lease: one trainer a run. A second one leaves with its own status and touches nothing.

On one machine a file lock decides, which the system drops when its holder dies, however it dies. Between machines,
where file systems may not honour locks, and where there are none, a heartbeat decides: a lease whose heartbeat stands
still belongs to nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtrepro.engine.files import write_atomically
from mtrepro.engine.processes import started
from mtrepro.errors import LeaseError, OutputError

FILE, LOCK = "lease.json", "lease.lock"  # in a run's state folder
BEAT_SECONDS = 10.0  # between two heartbeats
STALE_SECONDS = 90.0  # a heartbeat of another machine that stood still for so long is that of a dead process


class Lease:
    """Held from construction to `release`; `beat` must be called now and then.

    Args:
        patience: asked again and again while another process holds the lease; leaving when it says no, or at once where
            there is none.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        patience: Callable[[], bool] | None = None,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK).open("a")
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written: {error.strerror}\n  choose a folder you may write to"
            ) from None
        self._folder, self._file = folder, folder / FILE
        self._me = {"host": socket.gethostname(), "process": os.getpid(), "started": started(os.getpid())}
        self._beaten: float | None = None
        self._locked = False
        self._take_lock(say, patience)
        self._outwait_holder(folder, say, stale_seconds)
        self.beat()

    def beat(self) -> None:
        """Show that the holder lives; cheap when called often.

        Raises:
            LeaseError: another machine has taken this process for dead and the run with it.
        """
        if self._beaten is not None and time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        holder = _read(self._file)
        if self._beaten is not None and holder and not self._mine(holder):
            raise LeaseError(_held(self._folder, holder))
        write_atomically(self._file, json.dumps({"schema_version": 1, **self._me, "heartbeat": time.time()}) + "\n")
        self._beaten = time.monotonic()

    def release(self) -> None:
        """Let the next trainer in; a lease that another machine took over is left to it."""
        if self._mine(_read(self._file)):
            self._file.unlink(missing_ok=True)
        self._lock.close()

    def _mine(self, holder: dict[str, Any]) -> bool:
        return {key: holder.get(key) for key in self._me} == self._me

    def _take_lock(self, say: Callable[[str], None], patience: Callable[[], bool] | None) -> None:
        told = False
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._locked = True
                return
            except BlockingIOError:
                if patience is None or not patience():
                    self._lock.close()
                    raise LeaseError(_held(self._folder, _read(self._file))) from None
            except OSError as error:
                say(f"{self._folder}: this file system has no locks ({error.strerror}); the heartbeat alone decides")
                return
            if not told:
                say("another process is training this run: waiting until it is over")
                told = True
            time.sleep(1.0)

    def _outwait_holder(self, folder: Path, say: Callable[[str], None], stale_seconds: float) -> None:
        holder = _read(self._file)
        if not holder or (self._locked and holder.get("host") == socket.gethostname()):
            return  # the lock is ours, so a holder on this machine is dead
        say(f"{folder}: was held by {holder['host']}; waiting {stale_seconds:.0f} s to see whether it still lives")
        until = time.monotonic() + stale_seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, stale_seconds / 10))
            if (now := _read(self._file)) and now.get("heartbeat") != holder.get("heartbeat"):
                self._lock.close()
                raise LeaseError(_held(folder, now))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _held(folder: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['process']} on {holder['host']}" if holder else "another process"
    return f"{folder}: {who} is training this run\n  wait for it, or end it; this one leaves without touching anything"
