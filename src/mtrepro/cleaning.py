"""Freeing the state that no run needs any more: of finished runs, and of code that was edited since.

A finished run drops its checkpoints itself. What is left is that of runs whose Snakemake or shell died before them, and
what earlier code saved: today's code never continues from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mtrepro.accepting import is_finished
from mtrepro.engine.holder import DamagedFileError, file_system_time, held_back, read_holder
from mtrepro.errors import MtreproError, OutputError
from mtrepro.head import awaited
from mtrepro.lineage import state_digest
from mtrepro.paths import STATES_OF_CODE, checkpoint_folder, root, shown, state_folder
from mtrepro.source import NOT_INSTALLED, run_source
from mtrepro.study import Run, load_study
from mtrepro.terminal import size


@dataclass(frozen=True)
class Cleaned:
    """What was done with one run's state; of a dry run, what would be done."""

    run: str
    freed: int = 0  # bytes
    freed_because: str = ""
    kept: int = 0  # bytes
    kept_because: str = ""


def clean(path: Path, dry_run: bool = False) -> Iterator[Cleaned]:
    """Free what the runs of a study need no more, run by run in the study's order; yields those that have state.

    Raises:
        MtreproError: which state is of today's code cannot be told here: a package that runs import is not installed.
        OutputError: something cannot be removed.
    """
    resolved = load_study(path)
    results = root() / resolved.results
    now, unnoted = file_system_time(results / ".state"), awaited()
    for run in resolved.runs:
        if any(state_folder(results, run.name).glob(STATES_OF_CODE)):
            record = resolved.results / run.name / "run.json"
            yield _clean(run, results, now, record.as_posix() in unnoted, dry_run)


def print_cleaned(path: Path, dry_run: bool) -> None:
    """Free it, and say of each run what was freed and what is kept, and the sum."""
    verb = "would free" if dry_run else "freed"
    freed = kept = 0
    for run in clean(path, dry_run):
        parts = [f"{verb} {size(run.freed)} ({run.freed_because})"] if run.freed_because else []
        parts += [f"keeps {size(run.kept)} ({run.kept_because})"] if run.kept_because else []
        print(f"{run.run}: {', '.join(parts)}")
        freed, kept = freed + run.freed, kept + run.kept
    print(f"{verb} {size(freed)}; {size(kept)} kept")


def _clean(run: Run, results: Path, now: float, unnoted: bool, dry_run: bool) -> Cleaned:
    folder, state = results / run.name, state_folder(results, run.name)
    today = _todays_digest(run)
    with held_back(state) as alone:
        if reason := _held(state, now, alone):
            return Cleaned(run.name, kept=_bytes(state.glob(STATES_OF_CODE)), kept_because=reason)
        made_by = state_digest(today, results, run.specification.sources)
        finished = is_finished(folder, run.specification.digest(), today)
        needed = checkpoint_folder(state, made_by) if unnoted or not finished else None
        kept = [found for found in state.glob(STATES_OF_CODE) if found == needed]
        freed = [found for found in state.glob(STATES_OF_CODE) if found != needed]
        waits = "Snakemake has not noted its result and would repeat it: start it first"
        cleaned = Cleaned(
            run.name,
            _bytes(freed),
            ("done" if finished else "of other code than today's") if freed else "",
            _bytes(kept),
            (waits if finished else "its next try continues from it") if kept else "",
        )
        if not dry_run:
            _remove(freed)
            if finished and not kept:
                (state / "progress.json").unlink(missing_ok=True)
    return cleaned


def _held(state: Path, now: float, alone: bool) -> str | None:
    """Why a run's state must not be touched now, or None."""
    try:
        holder = read_holder(state, now)
    except DamagedFileError as error:
        return f"{error}; remove it if nobody trains the run"
    if holder and (holder.life == "alive" or not alone):
        return f"process {holder.process} on {holder.host} trains it"
    return None if alone else "it is in use, or its lease cannot be locked"


def _todays_digest(run: Run) -> str:
    """The digest of the code that would train the run now."""
    source = run_source(run.specification.method, run.specification.benchmark["family"])
    if missing := [name for name, version in source.packages.items() if version == NOT_INSTALLED]:
        raise MtreproError(
            f"{', '.join(missing)}: not installed here, so it cannot be told which state is of today's code\n"
            "  call `mtrepro clean` where the runs train: in the same environment or container"
        )
    return source.digest()


def _bytes(folders: Iterable[Path]) -> int:
    return sum(file.lstat().st_size for folder in folders for file in folder.rglob("*") if not file.is_dir())


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise OutputError(
                f"{shown(folder)}: cannot be removed: {error.strerror}\n"
                "  mend the permission, then the same command again"
            ) from None
