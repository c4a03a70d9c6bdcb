"""One trainer a run, and signals that end it in order."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mtrepro.engine import lease
from mtrepro.engine.lease import Lease
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import SAVED_ON_INTERRUPT, SAVED_ON_TERMINATE, LeaseError, OutputError


def quiet(line: str) -> None:
    """Say nothing."""


def test_a_second_trainer_leaves_with_its_own_status_and_names_the_first(tmp_path: Path) -> None:
    first = Lease(tmp_path, quiet)
    with pytest.raises(LeaseError) as caught:
        Lease(tmp_path, quiet)
    assert caught.value.status == 73
    assert str(caught.value) == (
        f"{tmp_path}: process {os.getpid()} on {socket.gethostname()} is training this run\n"
        "  wait for it, or end it; this one leaves without touching anything"
    )
    first.release()
    Lease(tmp_path, quiet).release()


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = "import sys,time; from pathlib import Path; from mtrepro.engine.lease import Lease; "
    code += "lease = Lease(Path(sys.argv[1]), print); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(LeaseError):
        Lease(tmp_path, quiet)
    holder.kill()
    holder.wait()
    Lease(tmp_path, quiet).release()


def other_machine(folder: Path, heartbeat: float) -> None:
    holder = {"host": "another-machine", "process": 7, "heartbeat": heartbeat}
    (folder / "lease.json").write_text(json.dumps(holder))


def test_another_machines_lease_whose_heart_stands_still_is_taken_over(tmp_path: Path) -> None:
    other_machine(tmp_path, 5.0)
    said: list[str] = []
    Lease(tmp_path, said.append, stale_seconds=0.2).release()
    assert said == [f"{tmp_path}: was held by another-machine; waiting 0 s to see whether it still lives"]


def test_another_machines_lease_whose_heart_beats_is_left_alone(tmp_path: Path) -> None:
    other_machine(tmp_path, 5.0)
    beat = threading.Timer(0.2, lambda: other_machine(tmp_path, 6.0))
    beat.start()
    with pytest.raises(LeaseError, match="process 7 on another-machine is training this run"):
        Lease(tmp_path, quiet, stale_seconds=5.0)
    beat.join()


def test_where_the_file_system_has_no_locks_the_heartbeat_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lease.fcntl, "flock", no_locks)
    said: list[str] = []
    first = Lease(tmp_path, said.append)
    assert "this file system has no locks (No locks available); the heartbeat alone decides" in said[0]
    Lease(tmp_path, quiet, stale_seconds=0.2).release()  # the first one's heart stands still
    first.release()


def test_a_second_trainer_with_patience_waits_its_turn(tmp_path: Path) -> None:
    first = Lease(tmp_path, quiet)
    said: list[str] = []
    end = threading.Timer(0.3, first.release)
    end.start()
    Lease(tmp_path, said.append, patience=lambda: True).release()
    assert said == ["another process is training this run: waiting until it is over"]
    first = Lease(tmp_path, quiet)
    with pytest.raises(LeaseError):
        Lease(tmp_path, quiet, patience=lambda: False)
    first.release()


def test_a_holder_that_slept_too_long_notices_that_another_machine_took_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_held = Lease(tmp_path, quiet)
    other_machine(tmp_path, 6.0)
    lease_held.beat()  # too soon to look
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.0)
    with pytest.raises(LeaseError, match="process 7 on another-machine is training this run"):
        lease_held.beat()
    lease_held.release()
    assert json.loads((tmp_path / "lease.json").read_text())["host"] == "another-machine", "it is left to its holder"


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file/state: cannot be written: Not a directory"):
        Lease(tmp_path / "file" / "state", quiet)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, SAVED_ON_TERMINATE),
        (signal.SIGUSR1, SAVED_ON_TERMINATE),
        (signal.SIGINT, SAVED_ON_INTERRUPT),
    ],
)
def test_a_signal_is_remembered_with_its_status_and_the_handlers_come_back(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert stop and stop.status == status and stop.name == number.name
        os.kill(os.getpid(), signal.SIGTERM)  # a second one does not change the first one's status
        assert stop.status == status
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait() -> None:
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
