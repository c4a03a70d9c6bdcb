"""Records in files: what is too large for memory, and for every checkpoint to hold again.

A checkpoint holds how many records there are and their checksums. It can, because what stands before that count no
longer changes: a run that continues from it writes on from there, over what the one that died had added
(docs/resume.md).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mtrepro.engine.checkpoint import KEPT
from mtrepro.engine.records import Rows
from mtrepro.errors import OutputError, StateError

SEGMENT_BYTES = 1 << 28  # of one file


class Files:
    """Keeps records in files of a folder that is this run's own."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.segment_bytes = folder, segment_bytes

    def records(self, name: str, kind: np.dtype[Any], capacity: int) -> FileRecords:
        """Records in files `<name>-<segment>.records`; made when the first one is appended."""
        return FileRecords(self.folder, name, kind, capacity, max(1, self.segment_bytes // kind.itemsize))


class FileRecords:
    """Segments of equally many records, a file each; see the protocol `Records`. Its state holds no record.

    A segment is given up only when no checkpoint that may still be read needs it: those that are kept, and the one
    that is about to be written.
    """

    def __init__(self, folder: Path, name: str, kind: np.dtype[Any], capacity: int, per_segment: int) -> None:
        self.folder, self.name, self.kind, self.capacity, self.per_segment = folder, name, kind, capacity, per_segment
        self.count = 0
        self._sums: dict[int, int] = {}  # CRC-32 of each segment, up to `count`
        self._saved: list[int] = []  # the counts in the newest states: of the checkpoints that may still be read
        self._unflushed: set[int] = set()

    def append(self, record: Rows) -> None:
        """Write it behind the last one, over what a run that died may have left there.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        segment, row = divmod(self.count, self.per_segment)
        data, path = record.astype(self.kind).tobytes(), self._path(segment)
        try:
            if not row:
                self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                written = os.pwrite(file, data, row * self.kind.itemsize)
                if written < len(data):  # the disk became full within it: the rest says why
                    os.pwrite(file, data[written:], row * self.kind.itemsize + written)
            finally:
                os.close(file)
        except OSError as error:
            raise self._cannot_be_written(path, error) from None
        self._sums[segment] = zlib.crc32(data, self._sums.get(segment, 0))
        self._unflushed.add(segment)
        self.count += 1

    def read(self, start: int, stop: int) -> Rows:
        """Read from one segment, or two where they meet."""
        rows, parts = start, []
        while rows < stop:
            segment, row = divmod(rows, self.per_segment)
            count = min(stop - rows, self.per_segment - row)
            with self._path(segment).open("rb", buffering=0) as file:
                file.seek(row * self.kind.itemsize)
                parts.append(np.fromfile(file, self.kind, count))
            rows += count
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def state(self) -> dict[str, Any]:
        """The count and the checksums, which promise that the records before it are on the disk.

        Raises:
            OutputError: they cannot be brought there.
        """
        try:
            for segment in sorted(self._unflushed):
                _flush(self._path(segment))
            if self._unflushed:
                _flush(self.folder)
        except OSError as error:
            raise self._cannot_be_written(self.folder, error) from None
        self._unflushed.clear()
        if self.count not in self._saved:
            self._saved = [*self._saved, self.count][-(KEPT + 1) :]
        self._give_up_before(self._first_needed(self._saved[0]))
        sums = [[segment, checksum] for segment, checksum in sorted(self._sums.items())]
        return {"count": self.count, "saved": list(self._saved), "sums": sums}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to the count, if the files hold what was promised.

        Raises:
            StateError: a file is missing, too short or damaged.
        """
        self.count, self._saved = state["count"], list(state["saved"])
        self._sums = dict(state["sums"])
        self._unflushed.clear()
        for segment, promised in self._sums.items():
            length = min(self.count - segment * self.per_segment, self.per_segment) * self.kind.itemsize
            if segment >= self._first_needed(self.count) and _checksum(self._path(segment), length) != promised:
                raise StateError(
                    f"{self._path(segment)}: missing or damaged: it does not hold what the checkpoint says\n"
                    f"  remove the folder {self.folder.parent} to start this run afresh"
                )

    def bytes_still_to_come(self, appended: int) -> int:
        """By how many bytes the files grow when so many records more are appended."""
        held = (self.count - self._first_needed(self.count) * self.per_segment) * self.kind.itemsize
        largest = (self.capacity + 2 * self.per_segment) * self.kind.itemsize
        return max(0, min(appended * self.kind.itemsize, largest - held))

    def _first_needed(self, count: int) -> int:
        """The first segment that is read where `count` records are there."""
        return max(0, count - self.capacity) // self.per_segment

    def _give_up_before(self, first: int) -> None:
        for segment in [segment for segment in self._sums if segment < first]:
            self._path(segment).unlink(missing_ok=True)
            del self._sums[segment]

    def _path(self, segment: int) -> Path:
        return self.folder / f"{self.name}-{segment:06d}.records"

    def _cannot_be_written(self, path: Path, error: OSError) -> OutputError:
        return OutputError(
            f"{path}: cannot be written: {error.strerror}\n"
            "  nothing is lost: the last checkpoint is kept\n"
            "  free some space or mend the permission, then start the same command again"
        )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(path: Path, length: int) -> int | None:
    """CRC-32 of the first `length` bytes; None where there are fewer."""
    found, left = 0, length
    try:
        with path.open("rb") as file:
            while left and (block := file.read(min(left, 1 << 20))):
                found, left = zlib.crc32(block, found), left - len(block)
    except OSError:
        return None
    return None if left else found
