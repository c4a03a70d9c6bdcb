"""A run from specification to result files: lease, resume, signals, checkpoints, progress, outputs.

Training knows nothing of all this (`training.py`); what stands here can change without changing a result.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mtrepro import provenance
from mtrepro.accepting import is_finished
from mtrepro.engine import checkpoint
from mtrepro.engine.clock import Clock, Part
from mtrepro.engine.execution import be_deterministic
from mtrepro.engine.files import write_atomically
from mtrepro.engine.lease import Lease
from mtrepro.engine.processes import ancestors
from mtrepro.engine.record_files import Files
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import OutputError, StateError
from mtrepro.history import History
from mtrepro.lineage import WEIGHTS, learnt_exactly, state_digest, weights_digest
from mtrepro.options import Options, chosen_device, is_stock, keeps_weights
from mtrepro.paths import STATES_OF_CODE, checkpoint_folder, shown, state_folder
from mtrepro.results import write_results
from mtrepro.room import need_room
from mtrepro.source import run_source
from mtrepro.specification import Specification
from mtrepro.terminal import Reporter
from mtrepro.training import Stopped, Trainer
from mtrepro.weights import Sources, digest_of, packed, read_sources

STATE_FORMAT = 1  # of the checkpoint; a change of what a trainer's state holds raises it
ANCESTORS = 2  # a shell and the Snakemake that started it
COST_SHARE = 0.04  # of the time that checkpoints may take at most


class Running:
    """One process's share of a run; the trainer's monitor."""

    def __init__(
        self,
        specification: Specification,
        folder: Path,
        options: Options,
        reporter: Reporter,
        lease: Lease,
        clock: Clock,
        stop: StopRequest,
        started_by: dict[int, str | None],
    ) -> None:
        self.specification, self.folder, self.options = specification, folder, options
        self.reporter, self.lease, self.stop = reporter, lease, stop
        self.source = run_source(specification.method, specification.benchmark["family"])
        self.state_folder = state_folder(folder.parent, specification.run_name())
        made_by = state_digest(self.source.digest(), folder.parent, specification.sources)
        self.checkpoints = checkpoint_folder(self.state_folder, made_by)
        self.device = chosen_device(options.device)
        self.stock = is_stock(options.simulator)
        self.keeps_weights = keeps_weights(options.keep, specification.method)
        self.sources = Sources({}, {})  # read when the run begins
        self.started_by = started_by
        self.provenance = provenance.collect()  # now: what is committed while a run trains did not make it
        torch.set_num_threads(options.threads)
        be_deterministic(self.device)
        self.machine = provenance.machine(self.device, options.threads, specification.learner.precision)
        self.clock, self.history = clock, History(clock)
        self.saved, self.saving_took = time.monotonic(), 0.0
        self.saved_at_end = False

    def is_already_done(self) -> bool:
        """Whether this code has made the results; a run that is done is left as it is."""
        if self.options.keep == "weights" and weights_digest(self.folder) is None:
            return False
        if not is_finished(self.folder, self.specification.digest(), self.source.digest()):
            return False
        self._drop_checkpoints()
        self.reporter.say(f"already done; results in {shown(self.folder)}")
        return True

    def begin(self, beside: Sequence[Running]) -> None:
        """Make the trainer, or take it up where it was saved; `beside` are the runs of this process, this one too."""
        self.beside = beside
        self._beat()
        self.sources = read_sources(self.folder.parent, self.specification)
        frames = Files(self.checkpoints / "frames")
        trainer = self.trainer = Trainer(
            self.specification, self.device, self.options.workers, self.stock, frames, self.reporter.say,
            self.sources.weights,
        )  # fmt: skip
        trainer.benchmark.check()
        self._resume(trainer)
        steps_left = self.specification.budget - trainer.step
        need_room(self.checkpoints, trainer.state(), trainer.method, steps_left, len(beside))
        self.reporter.begin(trainer.step, self.specification.budget)

    def close(self) -> None:
        """End the trainer's environments, if there are any."""
        if hasattr(self, "trainer"):
            self.trainer.close()

    def _drop_checkpoints(self) -> None:
        with contextlib.suppress(OSError):
            for folder in self.state_folder.glob(STATES_OF_CODE):
                shutil.rmtree(folder)
            (self.state_folder / "progress.json").unlink(missing_ok=True)

    # The monitor

    def enter(self, part: Part) -> None:
        """Take the time: this part of the work begins. Several runs of one process have its parts in common."""
        for run in self.beside:
            run.clock.enter(part)

    def beat(self, trainer: Trainer) -> None:
        """Heartbeat, progress, and a checkpoint where one is due or a signal came."""
        self.enter("progress")
        self._show_life()
        if time.monotonic() - self.saved > self._pause() and self._is_last():
            for run in self.beside:
                run.save()
                self._beat()

    def beat_within_evaluation(self) -> None:
        """A signal ends the evaluation, which the next start repeats: it has changed nothing."""
        self.enter("progress")
        self._show_life()
        self.enter("evaluation")

    def _show_life(self) -> None:
        self._beat()
        if self.stop:
            raise Stopped
        if self.reporter.due():
            self._show(self.trainer)

    def _pause(self) -> float:
        """Seconds between checkpoints: as asked, or longer where saving is so slow that it would cost too much."""
        return max(self.options.checkpoint_seconds, sum(run.saving_took for run in self.beside) / COST_SHARE)

    def _beat(self) -> None:
        for run in self.beside:  # also those that are over: they are ours until all are
            run.lease.beat()

    def _is_last(self) -> bool:
        """Whether no other run is behind this one: in step, the last of a round; else one that catches up."""
        going_on = [run.trainer for run in self.beside if not run.trainer.over]
        return all(trainer.progress >= self.trainer.progress for trainer in going_on)

    def _show(self, trainer: Trainer) -> None:
        line = self.reporter.progress(trainer.step, trainer.latest_success())
        line |= {"device": self.machine["device"], "parts": self.clock.parts()}
        write_atomically(self.state_folder / "progress.json", json.dumps(line) + "\n")

    # Saving and resuming

    def save(self) -> None:
        """Write a checkpoint, unless the run is over and has been saved since."""
        trainer = self.trainer
        if self.saved_at_end:
            return
        self.enter("checkpoint")
        begun = time.monotonic()
        state = {
            "format": STATE_FORMAT,
            "specification": self.specification.digest(),
            "source": self.source.as_dict(),
            "machine": self.machine,
            "history": self.history.account(trainer.step),
            "trainer": trainer.state(),
        }
        checkpoint.save(self.checkpoints, trainer.step, state)
        self.saved = time.monotonic()
        self.saving_took, self.saved_at_end = self.saved - begun, trainer.over
        self.enter("progress")

    def _resume(self, trainer: Trainer) -> None:
        state = checkpoint.load(self.checkpoints, self.reporter.say)
        if state is None:
            self._explain_fresh_start()
            return
        self._refuse_foreign(state)
        trainer.load_state(state["trainer"])
        self.history.resume(state["history"], trainer.step)
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
        self.history.exact = False
        self.reporter.say(f"continuing on another machine ({change}): no longer bit-exact")

    def _explain_fresh_start(self) -> None:
        """Where only state of other code is there, say so: it is never resumed."""
        for other in sorted(self.state_folder.glob(STATES_OF_CODE)):
            if other != self.checkpoints and (state := checkpoint.load(other, self.reporter.say)):
                changed = ", ".join(self.source.differences(state["source"]))
                what, which = (
                    ("the code changed", f" ({changed})") if changed else ("its sources were trained again", "")
                )
                step = state["trainer"]["step"]
                self.reporter.say(f"{what} since step {step} was saved{which}: starting afresh")

    # The end

    def write(self) -> None:
        """Write the results; the checkpoints stay until `leave`."""
        trainer = self.trainer
        self.history.account(trainer.step)
        record = {
            **self.history.record(),
            "exact": self.history.exact
            and not trainer.execution.mixed
            and learnt_exactly(self.folder.parent, self.specification.sources),
            "updates": trainer.execution.described(),
            **self.machine,
            "simulator": self.options.simulator,
            "runs_in_process": len(self.beside),
            "source": self.source.as_dict(),
            "source_digest": self.source.digest(),
            "provenance": self.provenance,
        }
        (self.folder / "run.json").unlink(missing_ok=True)  # of older code: it must not vouch for newer numbers
        kept = {WEIGHTS: packed(trainer)} if self.keeps_weights else {}
        if kept:
            record["weights"] = digest_of(kept[WEIGHTS])
        if self.sources.record:
            record["sources"] = self.sources.record
        write_results(self.folder, self.specification, trainer, record, self.history.timing, kept)

    def leave(self) -> None:
        """Drop what only a run that is not over needs, and say how it ended."""
        trainer = self.trainer
        if self.started_by == ancestors(ANCESTORS):
            self._drop_checkpoints()
        elif not trainer.diverged:  # who waited is gone; a new Snakemake would delete the results and ask again
            with contextlib.suppress(OutputError):  # the results are there; this is only for speed
                self.save()
        outcome = f"diverged at step {trainer.step}: {trainer.diverged}" if trainer.diverged else "done"
        self.reporter.say(f"{outcome}; results in {shown(self.folder)}")
