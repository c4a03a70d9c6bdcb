"""Goals and settled starts of a task, kept on disk: the next process of the same seed need not compute them again.

One file for each task, seed and number of goals, in a folder named by everything that their bits depend on: versions
of the packages and of the C library, the processor, and the code of this family. So what is read is what would have
been computed here. The folder can be deleted at any time; where it cannot be read or written, all is computed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro import kernels
from mtrepro.benchmarks import Array
from mtrepro.engine import streams
from mtrepro.paths import root, shown

FOLDER = ".cache/metaworld"
LIMIT = 1000  # settled starts in a file, of two kilobytes each; a task has at most one for each goal
_DIGEST = 32  # bytes before the content


class Starts:
    """What is known of the starts of one task.

    Args:
        seed: the run's.
        count: goals of the task.
    """

    def __init__(self, seed: int, task: str, count: int) -> None:
        self._file = root() / FOLDER / conditions()[0] / f"{task}-goals{count}-seed{seed}.npz"
        self.goals: NDArray[np.float64] | None = None  # (count, size); None where nobody drew them
        self.settled: dict[bytes, Array] = {}  # by `Settling`'s key, the state one substep before the end
        self._read()

    def save(self, goals: NDArray[np.float64] | None = None, settled: Mapping[bytes, Array] | None = None) -> None:
        """Add to what is on disk, also to what other processes have added since. Where that fails nothing is lost."""
        if goals is None and not settled:
            return
        self._read()
        self.goals = self.goals if goals is None else goals
        self.settled = dict(list({**self.settled, **(settled or {})}.items())[:LIMIT])
        arrays: dict[str, Any] = {} if self.goals is None else {"goals": self.goals}
        if self.settled:
            keys = np.frombuffer(b"".join(self.settled), np.uint8).reshape(len(self.settled), -1)
            arrays |= {"keys": keys, "states": np.stack(list(self.settled.values()))}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        with contextlib.suppress(OSError):
            folder = self._file.parent
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "conditions.json").exists():
                _replace(folder / "conditions.json", json.dumps(conditions()[1], indent=1).encode() + b"\n")
            _replace(self._file, hashlib.sha256(content.getvalue()).digest() + content.getvalue())

    def _read(self) -> None:
        try:
            content = self._file.read_bytes()
        except OSError:
            return
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            print(f"{shown(self._file)}: damaged; its starts are computed again", file=sys.stderr)
            with contextlib.suppress(OSError):
                self._file.unlink()
            return
        with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as arrays:
            if "goals" in arrays:
                self.goals = arrays["goals"]
            if "keys" in arrays:
                self.settled |= zip((key.tobytes() for key in arrays["keys"]), arrays["states"], strict=True)


@functools.cache
def conditions() -> tuple[str, dict[str, str]]:
    """The name of the folder, and everything that the bits of its files depend on, by name."""
    packages = ("metaworld", "mujoco", "gymnasium", "numpy", "scipy")
    found = {name: importlib.metadata.version(name) for name in packages}
    found["C library"] = _c_library()
    found["told"] = " ".join((kernels.told(), os.environ.get("GLIBC_TUNABLES", ""))).strip()
    found["processor"] = _processor()
    found["code"] = hashlib.sha256(b"".join(file.read_bytes() for file in _code())).hexdigest()
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return f"metaworld-{found['metaworld']}-mujoco-{found['mujoco']}-{digest[:16]}", found


def _code() -> list[Path]:
    here = Path(__file__)
    return sorted([*here.parent.glob(f"{here.stem.partition('_')[0]}*.py"), _file_of(streams)])


def _file_of(module: ModuleType) -> Path:
    assert module.__file__
    return Path(module.__file__)


def _c_library() -> str:
    """Its version, and a digest of the file of its functions: distributions build one version in different ways."""
    version = " ".join(platform.libc_ver())
    with contextlib.suppress(OSError):
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm" in line}
        for file in sorted(loaded):
            if Path(file).name.startswith(("libm.", "libm-")):
                version += f" {Path(file).name} {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]}"
    return version


def _processor() -> str:
    """Its model and what it can do: the C library chooses its functions by that, and they round otherwise."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        words = {line.partition("\t")[0]: line.partition(":")[2].strip() for line in reversed(lines)}
        return " ".join(words.get(name, "") for name in ("model name", "flags", "Features")).strip()
    return f"{platform.machine()} {platform.processor()}"


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place whole. Not flushed to the disk: a digest tells whether it got there."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
