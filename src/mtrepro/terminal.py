"""What a run says while it works: short lines, to the terminal and to its log alike."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mtrepro.errors import OutputError

PROGRESS_SECONDS = 5.0  # between two progress lines in the first minute
LATER_SECONDS = 30.0  # and afterwards


class Reporter:
    """Prints lines headed by the run's label; use as a context."""

    def __init__(self, log: Path | None, label: str) -> None:
        self.label = label
        self._log: IO[str] | None = None
        if log is not None:
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                self._log = log.open("a", encoding="utf-8")
                print(f"$ {shlex.join(['mtrepro', *sys.argv[1:]])}", file=self._log, flush=True)
            except OSError as error:
                raise OutputError(f"{log}: the log cannot be written: {error.strerror}") from None
        self._begun = self._shown = time.monotonic()
        self._first_step = self._budget = 0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log:
            if error is not None:
                print(f"[{self.label}] {kind.__name__ if kind else ''}: {error}", file=self._log)
            self._log.close()

    def say(self, line: str) -> None:
        """Print one line. A terminal that went away must not end a run."""
        text = f"[{self.label}] {line}"
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
        if self._log:
            with contextlib.suppress(OSError):  # a full disk: the checkpoint will say so, with what to do
                print(text, file=self._log, flush=True)

    def begin(self, step: int, budget: int) -> None:
        """Note where this process starts, for speed and time left."""
        self._begun, self._first_step, self._budget = time.monotonic(), step, budget

    def due(self) -> bool:
        """Whether it is time for another progress line."""
        now = time.monotonic()
        return now - self._shown > (PROGRESS_SECONDS if now - self._begun < 60 else LATER_SECONDS)

    def progress(self, step: int, success: float | None) -> dict[str, Any]:
        """Print step, speed, time left and latest success; returns them for progress.json."""
        self._shown = time.monotonic()
        speed = (step - self._first_step) / max(self._shown - self._begun, 1e-9)
        left = (self._budget - step) / speed if speed > 0 else None
        parts = [f"step {step:,}/{self._budget:,}", f"{speed:.1f} steps/s"]
        parts.append(f"{duration(left)} left" if left is not None else "time left unknown")
        parts.append(f"success {success:.2f}" if success is not None else "not evaluated yet")
        self.say(" | ".join(parts))
        return {
            "schema_version": 1,
            "step": step,
            "budget": self._budget,
            "steps_per_second": speed,
            "seconds_left": left,
            "success": success,
            "time": time.time(),
        }


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 42 s, 3:05 min, 2:10 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"


def size(count: int) -> str:
    """Bytes as a person reads them: 512 bytes, 12 kB, 351 MB, 1.2 GB; a kB is 1,000 bytes."""
    if count < 1000:
        return f"{count} bytes"
    for unit, bytes_of_it in (("kB", 1e3), ("MB", 1e6)):
        if count < 999.5 * bytes_of_it:
            return f"{count / bytes_of_it:.{0 if count >= 9.95 * bytes_of_it else 1}f} {unit}"
    return f"{count / 1e9:.1f} GB"
