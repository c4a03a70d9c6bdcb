"""Recorders that need no GPU: what is not the capture itself is the same on the CPU."""

from __future__ import annotations

from collections.abc import Callable

from mtrepro.engine.compilation import Outputs


class Rerun:
    """Makes the call again on the recording's buffers: what a CUDA graph does, operation by operation."""

    def __init__(self) -> None:
        self.recorded = self.replays = 0

    def warm_up(self, call: Callable[[], object], times: int) -> None:
        for _ in range(times):
            call()

    def record(self, call: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        self.recorded += 1
        outputs = {name: value.clone() for name, value in call().items()}

        def replay() -> None:
            self.replays += 1
            for name, value in call().items():
                outputs[name].copy_(value)

        return replay, outputs


class Refusing(Rerun):
    """Cannot capture, and finds out when half of the update is done."""

    def record(self, call: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        call()
        raise RuntimeError("operation not permitted when stream is capturing\nand further lines")


class Forgetful(Rerun):
    """Replays an update that is not the recorded one."""

    def record(self, call: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        replay, outputs = super().record(call)
        return lambda: [replay() for _ in range(2)] and None, outputs
