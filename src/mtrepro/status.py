"""How the runs of a study stand, read from their files alone: after a logout, from another machine, without torch.

Nothing is asked of a process or of Snakemake, and nothing is changed. What is read of a run, in `results/`:

    <run>/run.json                    it is over: done or diverged
    .state/<run>/lease.json           somebody trains it, with the age of the last heartbeat
    .state/<run>/progress.json        step, speed, time left, latest success
    .state/<run>/source-*/<step>-*.pt what the next try continues from
    logs/train/<run>.log              how the last try ended
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from mtrepro.accepting import is_finished
from mtrepro.engine.holder import DamagedFileError, Holder, file_system_time, read_holder
from mtrepro.engine.lease import STALE_SECONDS
from mtrepro.lineage import changed_sources, state_digest
from mtrepro.paths import STATES_OF_CODE, checkpoint_folder, root, state_folder
from mtrepro.results import RESULT_FILES
from mtrepro.source import run_source
from mtrepro.study import ResolvedStudy, Run
from mtrepro.terminal import duration

State = Literal["done", "diverged", "running", "stalled", "saved", "failed", "damaged", "waiting"]
TAIL_BYTES = 1 << 16  # of a log or a table that are read at once, from its end
OTHER_CODE = " by other code than today's"
_LABEL = re.compile(r"^\[[^\]]*\] ")
_SAVED = re.compile(r"saved at step \d+ on (\w+)")
_ERROR = re.compile(r"[A-Za-z]\w*:( |$)")  # as `Reporter` writes an exception
_OVER = re.compile(r"(done|diverged at step \d+: .*|already done); results in ")
Read = TypeVar("Read", bound=BaseModel)


@dataclass(frozen=True)
class Row:
    """One run of a study, as its files say; None where they do not say, or where it makes no sense."""

    arm: str
    seed: int
    run: str
    state: State
    budget: int  # vector steps
    step: int | None = None  # vector steps done; of a run that nobody trains, those that the next try continues from
    steps_per_second: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None  # that a finished run took, over all its tries
    success: float | None = None  # mean over tasks and episodes of the latest evaluation
    heartbeat_age: float | None = None  # seconds since its trainer was last seen to live
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def read_rows(resolved: ResolvedStudy) -> list[Row]:
    """The runs of a study, in its order; a run whose files are damaged says so in its row."""
    results = root() / resolved.results
    now = file_system_time(results / ".state")
    return [_Files(run, results, now).row() for run in resolved.runs]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many runs are in each state; states without runs are left out."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in get_args(State) if found[state]}


def log_file(results: Path, run: str) -> Path:
    """Where the rule `train` lets a run write its log."""
    return results / "logs" / "train" / f"{run}.log"


class _Record(BaseModel):
    """What is read of run.json."""

    status: Literal["done", "diverged"]
    reason: str | None = None
    step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    specification_digest: str


class _Progress(BaseModel):
    """What is read of progress.json."""

    step: int = Field(ge=0)
    steps_per_second: float
    seconds_left: float | None
    success: float | None


class _Seen(NamedTuple):
    """progress.json and its age in seconds."""

    progress: _Progress
    age: float


class _Files:
    """The files of one run."""

    def __init__(self, run: Run, results: Path, now: float) -> None:
        self.run, self.now = run, now
        self.folder, self.state = results / run.name, state_folder(results, run.name)
        self.log = log_file(results, run.name)
        self.blank = Row(run.arm, run.seed, run.name, "waiting", run.specification.budget)

    def row(self) -> Row:
        """What they say."""
        try:
            holder = read_holder(self.state, self.now)
            if holder and holder.life == "alive":
                return self._running(holder)
            record, stalled = self._record(), holder is not None and holder.life == "stalled"
            if record and (not stalled or self._of_todays_code()):  # else older code's result is being made again
                return self._over(record)
            return self._stalled(holder) if holder and stalled else self._unfinished(holder)
        except DamagedFileError as error:
            return replace(self.blank, state="damaged", note=str(error))

    def _running(self, holder: Holder) -> Row:
        row = replace(self.blank, state="running", heartbeat_age=holder.age)
        try:
            seen = self._progress()
        except DamagedFileError as error:
            return replace(row, note=f"on {holder.host}; {error}")
        if seen is None:
            return replace(row, note=f"on {holder.host}, starting")
        if seen.age > STALE_SECONDS:  # of an earlier try: its speed says nothing of this one
            return replace(
                row, step=seen.progress.step, success=seen.progress.success, note=f"on {holder.host}, starting again"
            )
        return replace(row, **seen.progress.model_dump(), note=f"on {holder.host}")

    def _over(self, record: _Record) -> Row:
        stale = "its sources were trained again" if changed_sources(self.folder) else f"made{OTHER_CODE}"
        notes = (record.reason, None if self._of_todays_code() else stale)
        return replace(
            self.blank,
            state=record.status,
            step=record.step,
            steps_per_second=record.step / record.seconds if record.step and record.seconds else None,
            seconds=record.seconds,
            success=_last_success(self.folder / "evaluation.csv"),
            note="; ".join(note for note in notes if note),
        )

    def _stalled(self, holder: Holder) -> Row:
        seen = self._progress()
        return replace(
            self.blank,
            state="stalled",
            step=seen.progress.step if seen else self._saved_step(),
            success=seen.progress.success if seen else None,
            heartbeat_age=holder.age,
            note=f"process {holder.process} on {holder.host} gave no heartbeat for {duration(holder.age)}",
        )

    def _unfinished(self, holder: Holder | None) -> Row:
        """Nobody trains it: it waits for its first try, or for the next one after a saved or a failed one."""
        words, saved = _last_words(self.log), self._saved_step()
        seen = self._progress()
        row = replace(self.blank, step=saved, success=seen.progress.success if seen else None)
        if holder:
            gone = f"process {holder.process} is gone"
            return replace(row, state="failed", note=f"{gone}; last line: {words}" if words else f"{gone}; no log")
        if words is None:
            known = saved is not None
            return replace(row, state="saved", note="no log says how its last try ended") if known else row
        if stopped := _SAVED.match(words):
            next_try = ", waits for its next try" if saved is not None else f"{OTHER_CODE}: its next try starts afresh"
            return replace(row, state="saved", note=f"on {stopped[1]}{next_try}")
        if _OVER.match(words):  # its results were there, and somebody removed them
            return row
        return replace(
            row, state="failed", note=words if _ERROR.match(words) else f"ended without a word after: {words}"
        )

    def _record(self) -> _Record | None:
        """run.json, if the run is over.

        Raises:
            DamagedFileError: it is of another run, or another result file is missing.
        """
        record = read_model(self.folder / "run.json", _Record)
        if record is None:
            return None
        if record.specification_digest != self.run.specification.digest():
            raise DamagedFileError("run.json: of another specification")
        if missing := [name for name in RESULT_FILES if not (self.folder / name).exists()]:
            raise DamagedFileError(f"{', '.join(missing)}: missing beside run.json")
        return record

    def _progress(self) -> _Seen | None:
        path = self.state / "progress.json"
        progress = read_model(path, _Progress)
        try:
            return _Seen(progress, max(0.0, self.now - path.stat().st_mtime)) if progress else None
        except OSError:
            return None

    def _source_digest(self) -> str:
        specification = self.run.specification
        return run_source(specification.method, specification.benchmark["family"]).digest()

    def _of_todays_code(self) -> bool:
        return is_finished(self.folder, self.run.specification.digest(), self._source_digest())

    def _saved_step(self) -> int | None:
        """The step of the newest checkpoint of today's code; its name begins with it."""
        if not any(self.state.glob(STATES_OF_CODE)):
            return None
        made_by = state_digest(self._source_digest(), self.folder.parent, self.run.specification.sources)
        names = checkpoint_folder(self.state, made_by).glob("[0-9]*-*.pt")
        return max((int(path.name.partition("-")[0]) for path in names), default=None)


def read_model(path: Path, model: type[Read]) -> Read | None:
    """A JSON file as a model; None where there is none.

    Raises:
        DamagedFileError: it is there and cannot be what its name says.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFileError(f"{path.name}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFileError(f"{path.name}: {where + ': ' if where else ''}{first['msg']}") from None


def _tail(path: Path, count: int) -> tuple[bytes, bool]:
    """The last `count` bytes of a file, and whether they are all of it."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - count))
        return file.read(count), length <= count


def _last_words(log: Path) -> str | None:
    """The last thing that a log says, without the run's label and what to do; None where there is no log."""
    try:
        text = _tail(log, TAIL_BYTES)[0].decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFileError(f"{log.name}: {error.strerror}") from None
    said = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    return _LABEL.sub("", said[-1]).strip() if said else "an empty log"


def _last_success(table: Path) -> float | None:
    """Mean success of the last evaluation in an evaluation.csv; None where it cannot be read.

    Rows are sorted by step, and a whole table may be long: only its end is read, and counted as text.
    """
    count = TAIL_BYTES
    try:
        while True:
            text, whole = _tail(table, count)
            step = text.rstrip(b"\n").rpartition(b"\n")[2].partition(b",")[0]
            first = text.find(b"\n" + step + b",")
            lines = text[first:]
            if whole or any(not line.startswith(step + b",") for line in text[:first].splitlines()[1:]):
                won, lost = (lines.count(b",success,%d\n" % outcome) for outcome in (1, 0))
                return won / (won + lost) if won + lost else None
            count *= 4
    except OSError:
        return None
