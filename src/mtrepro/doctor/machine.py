"""The machine: cores, memory, disk, file locks, and the programs that the workflow can use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mtrepro.doctor import Finding
from mtrepro.paths import root, shown

GIB = 1024**3
LITTLE_MEMORY = 8 * GIB  # what a training job asks of a cluster if its study says nothing
LITTLE_DISK, NO_DISK = 5 * GIB, 0.5 * GIB  # checkpoints with their replay take the most
CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the limit of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _core_limit()
    return max(1, min(allowed, int(limit))) if limit else allowed


def cores() -> Iterator[Finding]:
    """Cores of the machine and how many of them may be used."""
    limit = _core_limit()
    limited = f"; the control group allows {limit:g}" if limit else ""
    model = _line(Path("/proc/cpuinfo"), "model name") or platform.machine()
    yield Finding("CPU", "ok", f"{usable_cores()} of {os.cpu_count()} cores usable{limited}; {model}")


def memory() -> Iterator[Finding]:
    """Free memory, and the limit of the control group."""
    total, free = _meminfo("MemTotal"), _meminfo("MemAvailable")
    limit = _number(CGROUP / "memory.max") or _number(CGROUP / "memory" / "memory.limit_in_bytes")
    if total is None or free is None:
        yield Finding("memory", "note", "not known: this system has no /proc/meminfo")
        return
    limited = limit is not None and limit < total
    usable = min(free, limit) if limited and limit else free
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free" + (
        f"; the control group allows {limit / GIB:.1f} GiB" if limited and limit else ""
    )
    if usable < LITTLE_MEMORY:
        advice = "a training job may need 8 GB: run fewer at once (`--cores`), or give less in `resources.mem_mb`"
        yield Finding("memory", "note", found, advice)
    else:
        yield Finding("memory", "ok", found)


def disk() -> Iterator[Finding]:
    """Free space where results are written, and the permission to write there."""
    folder = _results()
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free at {shown(folder)}"
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "problem", f"{shown(folder)} cannot be written", "mend the permission")
    elif free < LITTLE_DISK:
        advice = "free some space: runs keep two checkpoints each, with their replay"
        yield Finding("disk", "problem" if free < NO_DISK else "note", found, advice)
    else:
        yield Finding("disk", "ok", found)


def locks() -> Iterator[Finding]:
    """Whether the file system of the state folder keeps two trainers of one run apart, as engine/lease.py asks."""
    folder = _results()
    file = folder / f".doctor.partial-{os.getpid()}"
    advice = "keep results/ on a file system with locks; it may be a link to a local disk"
    try:
        with file.open("a") as one, file.open("a") as two:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield Finding("locks", "ok", f"file locks work at {shown(folder)}")
            else:
                found = f"file locks at {shown(folder)} hold nobody back: two trainers could take one run"
                yield Finding("locks", "problem", found, advice)
    except OSError as error:
        found = (
            f"no file locks at {shown(folder)} ({error.strerror}): heartbeats alone keep two trainers of one run apart"
        )
        yield Finding("locks", "note", found, advice)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def tools() -> Iterator[Finding]:
    """The programs for containers and clusters; a laptop needs none of them."""
    for names, what in ((("apptainer", "singularity"), "containers"), (("sbatch",), "Slurm"), (("git",), "history")):
        program = next((path for path in map(shutil.which, names) if path), None)
        if program is None:
            yield Finding(what, "note", f"no {' or '.join(names)} on the PATH{_without[what]}")
        else:
            yield Finding(what, "ok", _version(program))


_without = {
    "containers": ": `--profile workflow/profiles/local` needs none, `--profile slurm` does",
    "Slurm": ": `--profile slurm` works on a machine that can submit",
    "history": ": run.json will name no commit",
}


def _version(program: str) -> str:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program}, which does not say its version: {error}"
    return f"{said.strip() or 'version not known'}, {program}"


def _results() -> Path:
    """results/, or the nearest folder above it that is there."""
    folder = (root() / "results").resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _core_limit() -> float | None:
    """Cores that the control group allows, or None for no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    quota_1, period_1 = (_number(CGROUP / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota_1 / period_1 if quota_1 and period_1 and quota_1 > 0 else None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is none, or it says `max`
        return None


def _meminfo(key: str) -> int | None:
    """A line of /proc/meminfo in bytes."""
    value = _line(Path("/proc/meminfo"), key)
    return int(value.split()[0]) * 1024 if value else None


def _line(file: Path, key: str) -> str | None:
    """The value of the first `key: value` line of a file; None where there is none."""
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return None
