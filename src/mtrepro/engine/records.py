"""Records that are appended one after another and never changed; the oldest give way once there are enough.

Who runs a method decides where they are kept, not the method: in the machine's memory they are part of every
checkpoint; in files (`record_files.py`) they are not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]  # of a structured type


class Records(Protocol):
    """Records of one type."""

    count: int  # appended so far; the last `capacity` of them can be read

    def append(self, record: Rows) -> None:
        """Add one record, shape ()."""
        ...

    def read(self, start: int, stop: int) -> Rows:
        """Records `start` to `stop` - 1, counted from the first ever appended: (stop - start,), a copy."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit: what was appended after it is forgotten."""
        ...


class Storage(Protocol):
    """Where records are kept."""

    def records(self, name: str, kind: np.dtype[Any], capacity: int) -> Records:
        """The records of this name, none as yet; `kind` is a structured type."""
        ...


class Memory:
    """Keeps records in the machine's memory."""

    def records(self, name: str, kind: np.dtype[Any], capacity: int) -> MemoryRecords:
        """A ring of `capacity` records."""
        return MemoryRecords(kind, capacity)


class MemoryRecords:
    """A ring in memory; see the protocol `Records`. Its state holds every record."""

    def __init__(self, kind: np.dtype[Any], capacity: int) -> None:
        self.capacity, self.count = capacity, 0
        self._rows: Rows = np.zeros(capacity, kind)

    def append(self, record: Rows) -> None:
        """The oldest record gives way."""
        self._rows[self.count % self.capacity] = record
        self.count += 1

    def read(self, start: int, stop: int) -> Rows:
        """A copy, also where the ring begins anew."""
        rows: Rows = self._rows[np.arange(start, stop) % self.capacity]
        return rows

    def state(self) -> dict[str, Any]:
        """Every record that can be read, field by field: torch has no structured types."""
        held = self._rows[: self.count]
        return {"count": self.count, "rows": {name: held[name].copy() for name in held.dtype.names or ()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take all of them."""
        self.count = state["count"]
        for name, column in state["rows"].items():
            self._rows[name][: self.count] = column
