"""What one process trains: a run, or several seeds of one arm at once, each with its own lease, state and files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mtrepro import gpus
from mtrepro.benchmarks.vector import TaskError, WorkerDiedError
from mtrepro.engine import checkpoint
from mtrepro.engine.clock import Clock, Part
from mtrepro.engine.lease import Lease
from mtrepro.engine.processes import ancestors
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import MtreproError, OutputError, WorkerError
from mtrepro.options import Options
from mtrepro.paths import shown, state_folder
from mtrepro.running import ANCESTORS, Running
from mtrepro.specification import Specification, load_specification, refuse_different_arms
from mtrepro.terminal import Reporter
from mtrepro.training import Stopped, train_in_step


def train(path: Path | Sequence[Path], options: Options, stop: StopRequest, begun: float | None = None) -> int:
    """Train the run of a specification.yaml to its end, or until a signal; returns the exit status.

    Several specifications of one arm, which differ by their seed alone, are trained at once. The result files appear
    beside each specification when all of it is over.

    Args:
        begun: when the command began, by `time.monotonic`; the runs' clocks start there. Now if None.

    Raises:
        SpecificationError: they are not of one arm.
    """
    started_by = ancestors(ANCESTORS)
    # In one order, in which every process takes its leases, so that no two can wait for each other.
    paths = sorted({each.resolve() for each in ([path] if isinstance(path, Path) else path)})
    named = {path: load_specification(path) for path in paths}
    refuse_different_arms({shown(path): specification for path, specification in named.items()})
    taken: list[tuple[Reporter, Lease, Clock]] = []
    clocks = [Clock("start-up", begun) for _ in named]

    def enter(part: Part) -> None:
        for clock in clocks:
            clock.enter(part)

    def go_on_waiting() -> bool:
        for _, lease, _ in taken:
            lease.beat()  # the run is ours meanwhile
        return not stop

    with contextlib.ExitStack() as held:
        enter("waiting")
        for (path, specification), clock in zip(named.items(), clocks, strict=True):
            reporter = held.enter_context(_reporter(specification, options, len(named)))
            if not os.access(path.parent, os.W_OK):
                raise OutputError(
                    f"{shown(path.parent)}: cannot be written, and the results belong there\n  mend the permission"
                )
            state = state_folder(path.parent.parent, specification.run_name())
            lease = Lease(state, reporter.say, go_on_waiting if options.wait else None)
            held.callback(lease.release)
            taken.append((reporter, lease, clock))
        if options.device != "cpu" and torch.cuda.device_count():
            wait = go_on_waiting if options.wait else None
            held.enter_context(gpus.one_of_them(options.threads, taken[0][0].say, wait))
        enter("start-up")
        runs = [
            Running(specification, path.parent, options, *each, stop, started_by)
            for (path, specification), each in zip(named.items(), taken, strict=True)
        ]
        return _train([run for run in runs if not run.is_already_done()], stop)


def _reporter(specification: Specification, options: Options, runs: int) -> Reporter:
    """Its lines are headed by the run's label, in a process of several by that and the seed."""
    name = specification.run_name()
    if runs == 1:
        return Reporter(options.log, options.label or name)
    log = options.log and options.log / f"{name}.log"
    return Reporter(log, f"{options.label} s{specification.seed}" if options.label else name)


def _train(runs: list[Running], stop: StopRequest) -> int:
    """Train runs that are not done yet: resume or start each, go on in step, write all results at the end."""
    try:
        for run in runs:
            run.begin(runs)
        checkpoint.rehearse()
        try:
            train_in_step([run.trainer for run in runs], runs)
        except Stopped:
            for run in runs:
                run.save()  # whole: `beat` raises between moments, an evaluation changes nothing
                run.reporter.say(f"saved at step {run.trainer.step} on {stop.name}; the same command continues")
            assert stop.status is not None
            return stop.status
        for run in runs:
            run.write()
        for run in runs:  # not before: what is not written yet must not cost those that are
            run.leave()
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
        for run in runs:
            run.close()
