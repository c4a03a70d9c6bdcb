"""Signals ask a run to stop; it answers at the next safe moment, having saved.

SIGTERM and SIGUSR1 (a cluster's early warning) and SIGINT (Ctrl-C) each end a run with a documented status. A second
SIGINT does not wait: the run ends where it is and loses only what came after its last checkpoint.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from mtrepro.errors import SAVED_ON_INTERRUPT, SAVED_ON_TERMINATE

_STATUS = {
    signal.SIGTERM: SAVED_ON_TERMINATE,
    signal.SIGUSR1: SAVED_ON_TERMINATE,
    signal.SIGINT: SAVED_ON_INTERRUPT,
}


class StopRequest:
    """Remembers the first signal that asked to stop; use as a context."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.name = ""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in _STATUS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return self.status is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.status is None:
            self.status, self.name = _STATUS[signal.Signals(number)], signal.Signals(number).name
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
