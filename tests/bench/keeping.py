"""What it costs a run to be watched and to be continued: checkpoints, metrics and progress, in % of its time."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from mtrepro.engine.clock import KEEPING, Clock
from mtrepro.engine.lease import Lease
from mtrepro.engine.signals import StopRequest
from mtrepro.options import Options
from mtrepro.paths import root
from mtrepro.running import Running
from mtrepro.specification import Specification
from mtrepro.terminal import Reporter
from mtrepro.training import Evaluation, Stopped, Trainer
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios
from tests.bench.training import StopAt, demo, demo_study, full_size

ASKED = 5.0  # % of a run's time that all three may take together
COLUMNS: tuple[str, ...] = KEEPING
_AGAIN = 10  # times as many steps of the bare loop as `training` takes


def measure(effort: Effort) -> Topic:
    """MT10 at full size and the demo, each with a replay that is full."""
    threads = demo_study().study.resources.threads
    with (
        Watched(full_size(effort), effort, effort.steps, effort.threads) as full,
        Watched(demo(), effort, effort.demo_steps, threads) as small,
    ):
        cycles = {"MT10, 400 x 3": full, "demo, 64 x 2": small}
        found = in_turn(effort.saves, {name: cycle.measure for name, cycle in cycles.items()})
    notes = (
        f"The trainer itself with a full replay of {effort.transitions:,} transitions, its lease, its progress and its "
        "checkpoints on the disk that holds results/, in its "
        f"learning phase; each repeat lasts from one checkpoint to the next, {effort.pause:.0f} s and the saving. The "
        f"run's own clock takes the parts, as `mtrepro profile` shows them; at most {ASKED:.0f} % is asked for.",
        "bare, ms: a step of the same loop with a monitor that does nothing, which has no clock either; in turn.",
    )
    rows = tuple(Row(name, "ours", "% of run", found[name], *cycles[name].columns()) for name in cycles)
    return Topic("Checkpoints, metrics and progress together", notes, rows)


class Watched(Running):
    """A trainer with its monitor, which stops after each checkpoint."""

    def __init__(self, specification: Specification, effort: Effort, steps: int, threads: int) -> None:
        self.steps, self.threads, self.limit = steps, threads, effort.limit
        self.rest = contextlib.ExitStack()
        (root() / "results").mkdir(exist_ok=True)
        folder = Path(self.rest.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=root() / "results")))
        options = Options(threads, device="cpu", checkpoint_seconds=effort.pause)
        reporter = self.rest.enter_context(Reporter(folder / "log", "bench"))
        lease = Lease(folder, reporter.say)
        self.rest.callback(lease.release)
        changed = {"random_steps": effort.random_steps, "first_updates": 0, "replay_transitions": effort.transitions}
        specification = specification.model_copy(update={"settings": specification.settings | changed})
        super().__init__(specification, folder, options, reporter, lease, Clock("start-up"), StopRequest(), {})
        self.trainer, self.beside = Trainer(specification, self.device), [self]
        self.rest.callback(self.trainer.close)
        self.found: dict[str, list[float]] = {name: [] for name in (*COLUMNS, "ms", "bare, ms")}

    def __enter__(self) -> Self:
        none = np.zeros((len(self.trainer.tasks), 1))
        self.trainer.evaluations.append(Evaluation(0, none, none.astype(np.bool_), {}))  # so that none is due at step 0
        self._bare(self.trainer.method.settings.random_steps)
        _fill(self.trainer.method)
        self._bare(3)
        self.reporter.begin(self.trainer.step, self.specification.budget)
        self.save()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest.close()

    def measure(self) -> float:
        """% of the time from one checkpoint to the next that being watched and continued takes."""
        torch.set_num_threads(self.threads)
        bare = self._bare(self.steps * _AGAIN, self.limit)
        self.saved = time.monotonic()
        before, step = self.clock.parts(), self.trainer.step
        with contextlib.redirect_stderr(io.StringIO()):
            self._until(self)
        spent = {part: seconds - before[part] for part, seconds in self.clock.parts().items()}
        whole = sum(spent.values())
        for part in COLUMNS:
            self.found[part].append(100 * spent[part] / whole)
        self.found["ms"].append(1000 * whole / max(self.trainer.step - step, 1))
        self.found["bare, ms"].append(bare)
        return 100 * sum(spent[part] for part in KEEPING) / whole

    def columns(self) -> tuple[int, int, dict[str, list[float]]]:
        """Threads, processes and the further columns of the row."""
        columns = {f"{part}, %": self.found[part] for part in COLUMNS}
        whole, bare = self.found["ms"], self.found["bare, ms"]
        columns |= {"ms/step": whole, "bare, ms": bare, "x bare": ratios(whole, bare)}
        return self.threads, 1, columns

    def beat(self, trainer: Trainer) -> None:
        """As in a run, until it has saved."""
        before = self.saved
        super().beat(trainer)
        if self.saved != before:
            raise Stopped

    def _bare(self, steps: int, limit: float = float("inf")) -> float:
        """Milliseconds of a step that nobody watches."""
        before, begun = self.trainer.step, time.perf_counter()
        self._until(StopAt(before + steps, begun + limit))
        return 1000 * (time.perf_counter() - begun) / (self.trainer.step - before)

    def _until(self, monitor: Any) -> None:
        try:
            self.trainer.run(monitor)
        except Stopped:
            return
        raise RuntimeError(f"training ended by itself: {self.trainer.diverged}")


def _fill(method: Any) -> None:
    """Repeat what the replay holds until it is full."""
    replay = method.replay
    for name in ("observation", "next_observation", "action", "reward", "terminated"):
        column = getattr(replay, name)
        column[:] = np.resize(column[: len(replay)], column.shape)
    replay.added = replay.steps
