"""Checkpoints: the whole state of a run in one file, written so that no moment of death can lose it.

A file is named `<step>-<sha256 of its content>.pt`. It is written beside its place, flushed to the disk, then
renamed, so a name that exists promises its content, and the promise is checked when it is read. The one before it is
kept: should the newest be damaged all the same, the run falls back to the older one and says so.

Nothing but tensors, numbers, strings and containers is stored: files load with `weights_only=True`, also a stranger's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from mtrepro.errors import OutputError, StateError

KEPT = 2  # the newest and the one before it
_READ_BYTES = 1 << 20


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the newest checkpoint in `folder` and drop the ones beyond `KEPT`.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the older checkpoints are untouched.
    """
    partial = folder / f".partial-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".partial-*"):  # of a process that died while writing
            left_over.unlink(missing_ok=True)
        with partial.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(to_tensors(state), cast(IO[bytes], hashing))
            file.flush()
            os.fsync(file.fileno())
        target = folder / f"{step:012d}-{hashing.digest.hexdigest()}.pt"
        partial.replace(target)
        _flush_folder(folder)
    except (OSError, RuntimeError) as error:  # torch wraps the failed write of its file in a RuntimeError
        with contextlib.suppress(OSError):
            partial.unlink()
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OutputError(
            f"{folder}: cannot write the checkpoint of step {step}: {cause}\n"
            "  nothing is lost: the checkpoint before it is kept\n"
            "  free some space or mend the permission, then start the same command again"
        ) from error
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return target


def rehearse() -> None:
    """Do once, in memory, what `save` does, so that everything it needs is loaded.

    A cluster's signal hits every process of a job, also the one that mounts a container's image: from then on nothing
    more can be loaded, and torch imports half of what it saves with at the first use.
    """
    example = {"array": np.zeros(1), "list": [1, 2.0, "three", None]}
    torch.save(to_tensors(example), cast(IO[bytes], _HashingFile(io.BytesIO())))


def load(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest sound checkpoint in `folder`, or None where there is none.

    A damaged file is passed over with a word to `warn`.

    Raises:
        StateError: a file is whole, but holds something else than data. Nothing of it was executed.
    """
    for path in _newest_first(folder):
        if _digest_of(path) != path.stem.partition("-")[2]:
            warn(f"{path}: damaged (its content is not what was written); falling back to the checkpoint before it")
            continue
        return _read(path)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = to_arrays(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:  # of torch's loader: code, or no file of torch's
        if "allocate memory" in str(error):
            raise
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        raise StateError(
            f"{path}: refused: it holds something else than tensors, numbers, strings and containers\n"
            f"  nothing of it was executed{f' ({reason.strip()})' if reason else ''}\n"
            "  mtrepro writes no such file: find out where it comes from, and remove it to start the run afresh"
        ) from error
    return state


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*.pt") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.name.partition("-")[0], path.stat().st_mtime_ns), reverse=True)


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the rename itself must survive a power cut
    finally:
        os.close(descriptor)


class _HashingFile:
    """Pass bytes on to a file and hash them on the way: the content is read once, not twice."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


# Arrays become tensors on the way out and arrays again on the way in: torch refuses to unpickle numpy's types.
_ARRAY = "__array__"


def to_tensors(value: Any) -> Any:
    """Replace every numpy array in nested dicts, lists and tuples by a marked tensor."""
    match value:
        case np.ndarray():
            if value.dtype.kind in "US":
                raise TypeError(f"an array of {value.dtype} cannot be stored in a checkpoint: use a list of strings")
            return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))}
        case np.generic():
            return value.item()
        case dict():
            return {key: to_tensors(item) for key, item in value.items()}
        case list() | tuple():
            return [to_tensors(item) for item in value]
        case torch.Tensor():  # of a view torch would store all that it is a part of
            return value if value.nbytes == value.untyped_storage().nbytes() else value.clone()
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"{type(value).__name__} cannot be stored in a checkpoint: use tensors, arrays, numbers, strings")


def to_arrays(value: Any) -> Any:
    """Undo `to_tensors`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: to_arrays(item) for key, item in value.items()}
    return [to_arrays(item) for item in value] if isinstance(value, list) else value
