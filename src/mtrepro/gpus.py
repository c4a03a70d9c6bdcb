"""The GPUs of a machine without a scheduler: each training job takes one for itself, and its share of the cores.

Snakemake counts GPUs and gives none of them to anybody: two jobs at once would both use the first. Here a job holds the
lock of the GPU that it uses, which the system drops when the job dies, however it dies. A Slurm job of one GPU has it
already.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mtrepro.engine.processes import changed_environment
from mtrepro.errors import LeaseError, OutputError

LIST = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def found() -> list[str]:
    """The identifiers of this machine's GPUs; none where the driver's `nvidia-smi` is missing or fails."""
    try:
        answer = subprocess.run(LIST, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def usable(gpus: list[str] | None = None) -> list[str]:
    """Those of `gpus` that CUDA_VISIBLE_DEVICES lets a process see; None for all that are found.

    As in CUDA, the first unknown name ends the list. Numbers count in the order of the bus.
    """
    gpus, chosen = found() if gpus is None else gpus, os.environ.get(VISIBLE)
    if chosen is None:
        return gpus
    known = {**{str(number): gpu for number, gpu in enumerate(gpus)}, **{gpu: gpu for gpu in gpus}}
    seen: list[str] = []
    for name in chosen.split(","):
        if name.strip() not in known:
            break
        seen.append(known[name.strip()])
    return seen


@contextlib.contextmanager
def one_of_them(threads: int, say: Callable[[str], None], patience: Callable[[], bool] | None = None) -> Iterator[None]:
    """Within it this process sees one GPU that no other job of this user holds; must come before CUDA starts.

    It keeps to its share of the cores, too, where that is enough for its `threads`: of four GPUs a fourth. Where there
    is no GPU, or Slurm gave it one, nothing happens.

    Args:
        patience: asked again and again while all are held; the job leaves when it says no, or at once where
            there is none.

    Raises:
        LeaseError: all are held.
        OutputError: their locks cannot be kept in the folder for temporary files.
    """
    there = found()
    gpus = usable(there)
    if not gpus or ("SLURM_JOB_ID" in os.environ and len(gpus) == 1):
        yield
        return
    gpu, lock = _take(gpus, say, patience)
    before = os.sched_getaffinity(0)
    cores, place, count = sorted(before), there.index(gpu), len(there)
    share = cores[place * len(cores) // count : (place + 1) * len(cores) // count]
    if len(share) >= threads:
        os.sched_setaffinity(0, share)
    try:
        with changed_environment({VISIBLE: gpu}):
            yield
    finally:
        os.sched_setaffinity(0, before)
        lock.close()


def _take(gpus: list[str], say: Callable[[str], None], patience: Callable[[], bool] | None) -> tuple[str, IO[str]]:
    folder = Path(tempfile.gettempdir()) / f"mtrepro-gpus-{os.getuid()}"
    told = False
    while True:
        for gpu in gpus:
            if lock := _lock(folder, gpu):
                return gpu, lock
        if patience is None or not patience():
            raise LeaseError(
                f"other runs hold every GPU here ({len(gpus)})\n"
                "  wait for one of them, end one, or train with --device cpu"
            )
        if not told:
            say(f"other runs hold every GPU here ({len(gpus)}): waiting until one is free")
            told = True
        time.sleep(1.0)


def _lock(folder: Path, gpu: str) -> IO[str] | None:
    """The lock of a GPU; None where another job holds it."""
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / f"{gpu}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
    except OSError as error:
        raise OutputError(
            f"{folder}: a GPU cannot be locked there: {error.strerror}\n"
            "  set TMPDIR to a folder of yours on a local disk"
        ) from None
    return lock
