"""A run from specification to result files: lease, resume, signals, checkpoints, progress, outputs.

Training knows nothing of all this (`training.py`); what stands here can change without changing a result.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtrepro import gpus, provenance
from mtrepro.accepting import is_finished
from mtrepro.benchmarks.vector import TaskError, WorkerDiedError
from mtrepro.engine import checkpoint
from mtrepro.engine.files import write_atomically
from mtrepro.engine.lease import Lease
from mtrepro.engine.processes import ancestors
from mtrepro.engine.record_files import Files
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import MtreproError, OutputError, StateError, WorkerError
from mtrepro.paths import STATES_OF_CODE, checkpoint_folder, shown, state_folder
from mtrepro.results import write_results
from mtrepro.room import need_room
from mtrepro.source import run_source
from mtrepro.specification import Specification, load_specification
from mtrepro.terminal import Reporter
from mtrepro.training import Stopped, Trainer

STATE_FORMAT = 1  # of the checkpoint; a change of what a trainer's state holds raises it
ANCESTORS = 2  # a shell and the Snakemake that started it
COST_SHARE = 0.04  # of the time that checkpoints may take at most


@dataclass(frozen=True)
class Options:
    """How a run is carried out; nothing here changes its results, save what belongs to the machine."""

    threads: int = 1
    workers: int = 0
    device: str = "auto"
    checkpoint_seconds: float = 60.0
    log: Path | None = None
    label: str | None = None  # what progress lines call the run; the run's name if None
    wait: bool = False  # where another process holds the run, wait until it is over instead of leaving
    other_machine: bool = False  # resume with other threads, processor or device; marked as not bit-exact
    simulator: str = "fast"  # or "stock": the simulators' own environments; the same bits


def train(path: Path, options: Options, stop: StopRequest) -> int:
    """Train the run of a specification.yaml to its end, or until a signal; returns the exit status.

    The result files appear beside the specification when the run is over, all at once at the end.
    """
    started_by = ancestors(ANCESTORS)
    path = path.resolve()  # a run has one state folder, from wherever it is named
    specification = load_specification(path)
    folder = path.parent
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{shown(folder)}: cannot be written, and the results belong there\n  mend the permission")
    with Reporter(options.log, options.label or specification.run_name()) as reporter:
        state = state_folder(folder.parent, specification.run_name())
        patience = (lambda: not stop) if options.wait else None
        lease = Lease(state, reporter.say, patience)

        def wait_for_gpu() -> bool:
            lease.beat()  # the run is ours meanwhile
            return not stop

        one_gpu = gpus.one_of_them(options.threads, reporter.say, wait_for_gpu if options.wait else None)
        try:
            with one_gpu if options.device != "cpu" and torch.cuda.device_count() else contextlib.nullcontext():
                return _Running(specification, folder, state, options, reporter, lease, stop, started_by).run()
        finally:
            lease.release()


class _Running:
    """One process's share of a run; the trainer's monitor."""

    def __init__(
        self,
        specification: Specification,
        folder: Path,
        state: Path,
        options: Options,
        reporter: Reporter,
        lease: Lease,
        stop: StopRequest,
        started_by: dict[int, str | None],
    ) -> None:
        self.specification, self.folder, self.options = specification, folder, options
        self.reporter, self.lease, self.stop = reporter, lease, stop
        self.source = run_source(specification.method, specification.benchmark["family"])
        self.state_folder = state
        self.checkpoints = checkpoint_folder(state, self.source.digest())
        self.device = _device(options.device)
        self.stock = _is_stock(options.simulator)
        self.started_by = started_by
        self.provenance = provenance.collect()  # now: what is committed while a run trains did not make it
        torch.set_num_threads(options.threads)
        if self.device.type == "cuda":  # on the CPU the kernels in use are deterministic; the contract tests prove it
            torch.use_deterministic_algorithms(True)
        self.machine = provenance.machine(self.device, options.threads)
        self.history: dict[str, Any] = {"resumes": 0, "exact": True, "seconds": 0.0, "timing": []}
        self.accounted = self.saved = time.monotonic()
        self.accounted_step = 0
        self.saving_took = 0.0

    def run(self) -> int:
        """Resume or start, train, write the results; a run that is already done by this code is left as it is."""
        if self._already_done():
            self._drop_checkpoints()
            self.reporter.say(f"already done; results in {shown(self.folder)}")
            return 0
        frames = Files(self.checkpoints / "frames")
        trainer = self.trainer = Trainer(self.specification, self.device, self.options.workers, self.stock, frames)
        try:
            trainer.benchmark.check()
            self._resume(trainer)
            need_room(self.checkpoints, trainer.state(), trainer.method, self.specification.budget - trainer.step)
            checkpoint.rehearse()
            self.reporter.begin(trainer.step, self.specification.budget)
            try:
                trainer.run(self)
            except Stopped:
                self._save(trainer)  # whole: `beat` raises between moments, an evaluation changes nothing
                self.reporter.say(f"saved at step {trainer.step} on {self.stop.name}; the same command continues")
                assert self.stop.status is not None
                return self.stop.status
            self._finish(trainer)
            return 0
        except WorkerDiedError as error:
            raise WorkerError(
                f"{error}\n  nothing is lost but the steps since the last checkpoint: the same command continues there"
            ) from None
        except TaskError as error:
            if isinstance(error.__cause__, MtreproError):  # a slip that a message can mend, and no fault of the task's
                raise error.__cause__ from None
            raise
        finally:
            trainer.close()

    def _drop_checkpoints(self) -> None:
        with contextlib.suppress(OSError):
            for folder in self.state_folder.glob(STATES_OF_CODE):
                shutil.rmtree(folder)
            (self.state_folder / "progress.json").unlink(missing_ok=True)

    def _already_done(self) -> bool:
        return is_finished(self.folder, self.specification.digest(), self.source.digest())

    # The monitor

    def beat(self, trainer: Trainer) -> None:
        """Heartbeat, progress, and a checkpoint where one is due or a signal came."""
        self.lease.beat()
        if self.stop:
            raise Stopped
        if time.monotonic() - self.saved > self._pause():
            self._save(trainer)
        if self.reporter.due():
            self._show(trainer)

    def beat_within_evaluation(self) -> None:
        """A signal ends the evaluation, which the next start repeats: it has changed nothing."""
        self.lease.beat()
        if self.stop:
            raise Stopped
        if self.reporter.due():
            self._show(self.trainer)

    def _pause(self) -> float:
        """Seconds between checkpoints: as asked, or longer where saving is so slow that it would cost too much."""
        return max(self.options.checkpoint_seconds, self.saving_took / COST_SHARE)

    def _show(self, trainer: Trainer) -> None:
        line = self.reporter.progress(trainer.step, trainer.latest_success())
        write_atomically(self.state_folder / "progress.json", json.dumps(line) + "\n")

    # Saving and resuming

    def _save(self, trainer: Trainer) -> None:
        begun = time.monotonic()
        self._account(trainer.step, begun)
        state = {
            "format": STATE_FORMAT,
            "specification": self.specification.digest(),
            "source": self.source.as_dict(),
            "machine": self.machine,
            "history": self.history,
            "trainer": trainer.state(),
        }
        checkpoint.save(self.checkpoints, trainer.step, state)
        self.saved = time.monotonic()
        self.saving_took = self.saved - begun

    def _resume(self, trainer: Trainer) -> None:
        state = checkpoint.load(self.checkpoints, self.reporter.say)
        if state is None:
            self._explain_fresh_start()
            return
        self._refuse_foreign(state)
        self.history = state["history"]
        self.history["resumes"] += 1
        trainer.load_state(state["trainer"])
        self.accounted_step = trainer.step
        self.reporter.say(f"continuing at step {trainer.step}")

    def _refuse_foreign(self, state: dict[str, Any]) -> None:
        where = shown(self.checkpoints)
        expected = {"format": STATE_FORMAT, "specification": self.specification.digest()}
        for key, value in expected.items():
            if state.get(key) != value:
                raise StateError(
                    f"{where}: the checkpoint is of another {key}\n  found:    {state.get(key)}\n  expected: {value}\n"
                    "  somebody moved files there; remove the folder to start this run afresh"
                )
        if changed := self.source.differences(state["source"]):
            raise StateError(f"{where}: the checkpoint is of other code ({', '.join(changed)}); remove the folder")
        then = state["machine"]
        other = [key for key, value in self.machine.items() if then.get(key, value) != value]
        if not other:
            return
        change = ", ".join(f"{key} {then[key] or 'none'} -> {self.machine[key] or 'none'}" for key in other)
        if not self.options.other_machine:
            raise StateError(
                f"{where}: the run was begun with other settings of the machine: {change}\n"
                "  continue it as it was begun, or allow the change with --other-machine: the run is then marked as\n"
                "  not bit-exact in run.json and in every table"
            )
        state["history"]["exact"] = False
        self.reporter.say(f"continuing on another machine ({change}): no longer bit-exact")

    def _explain_fresh_start(self) -> None:
        """Where only state of other code is there, say so: it is never resumed."""
        for other in sorted(self.state_folder.glob(STATES_OF_CODE)):
            if other != self.checkpoints and (state := checkpoint.load(other, self.reporter.say)):
                changed = ", ".join(self.source.differences(state["source"])) or "unknown"
                self.reporter.say(
                    f"the code changed since step {state['trainer']['step']} was saved ({changed}): starting afresh"
                )

    def _account(self, step: int, now: float) -> None:
        """Add the time since the last look to the run's clock, which outlives this process."""
        seconds, since = now - self.accounted, step - self.accounted_step
        self.history["seconds"] += seconds
        self.history["timing"].append([step, self.history["seconds"], since / max(seconds, 1e-9), socket.gethostname()])
        self.accounted, self.accounted_step = now, step

    # The end

    def _finish(self, trainer: Trainer) -> None:
        self._account(trainer.step, time.monotonic())
        record = {
            "exact": self.history["exact"],
            "resumes": self.history["resumes"],
            "seconds": self.history["seconds"],
            **self.machine,
            "simulator": self.options.simulator,
            "source": self.source.as_dict(),
            "source_digest": self.source.digest(),
            "provenance": self.provenance,
        }
        (self.folder / "run.json").unlink(missing_ok=True)  # of older code: it must not vouch for newer numbers
        write_results(self.folder, self.specification, trainer, record, self.history["timing"])
        if self.started_by == ancestors(ANCESTORS):
            self._drop_checkpoints()
        elif not trainer.diverged:  # who waited is gone; a new Snakemake would delete the results and ask again
            with contextlib.suppress(OutputError):  # the results are there; this is only for speed
                self._save(trainer)
        outcome = f"diverged at step {trainer.step}: {trainer.diverged}" if trainer.diverged else "done"
        self.reporter.say(f"{outcome}; results in {shown(self.folder)}")


def _is_stock(simulator: str) -> bool:
    if simulator not in ("fast", "stock"):
        raise MtreproError(f"--simulator {simulator}: unknown simulator\n  known: fast, stock")
    return simulator == "stock"


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise MtreproError(f"--device {name}: unknown device\n  known: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MtreproError("--device cuda: torch finds no GPU here; see that the driver works, or use --device cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))
