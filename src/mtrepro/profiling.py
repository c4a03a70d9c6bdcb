"""Where a run's time went: from run.json when it is over, before that from the progress that its trainer told last."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtrepro.engine.clock import KEEPING, MEANING, Part, worked
from mtrepro.engine.holder import DamagedFileError, file_system_time
from mtrepro.errors import MtreproError
from mtrepro.paths import NAME, root, shown, state_folder
from mtrepro.results import RESULT_FILES
from mtrepro.status import read_model
from mtrepro.status_table import WIDTH
from mtrepro.terminal import duration
from mtrepro.validation import nearest

SCHEMA_VERSION = 1
SPECIFICATION = "specification.yaml"
SEE = "docs/performance.md#where-a-runs-time-went"


class Profile(BaseModel):
    """What is read of run.json or progress.json; of an older version's file `parts` is missing."""

    status: str = "not over"
    step: int = Field(ge=0)
    budget: int = Field(ge=0)
    device: str = "cpu"
    parts: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None  # seconds


def print_profile(run: str, as_json: bool) -> None:
    """Show where the time of a run went.

    Args:
        run: its folder, a file in it, or its name.

    Raises:
        MtreproError: that is no run, or one that has told nothing of its time.
    """
    folder = find_run(run)
    profile, told = read_profile(folder)
    if as_json:
        print(json.dumps(as_content(folder, profile), indent=1))
        return
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table(folder, profile, told))


def find_run(run: str) -> Path:
    """The folder of a run.

    Raises:
        MtreproError: there is none, or what is named is something else.
    """
    path = Path(run)
    if path.is_file() and path.name in (SPECIFICATION, *RESULT_FILES):
        path = path.parent
    if path.is_file():
        raise MtreproError(
            f"{run}: a file, not a run\n  give a run's folder or name; `mtrepro status STUDY` lists a study's runs"
        )
    if path.is_dir():
        if not (path / SPECIFICATION).is_file():
            raise MtreproError(f"{run}: not the folder of a run: it has no {SPECIFICATION}")
        return path
    known = _known_runs()
    if run in known:
        return known[run]
    near = nearest(run, known) if re.fullmatch(NAME, run) else ""
    raise MtreproError(
        f"{run}: neither a folder nor the name of a run in results/{near}\n"
        "  `mtrepro status STUDY` lists the runs of a study"
    )


def _known_runs() -> dict[str, Path]:
    """Every run in results/ by its name; what is in work comes before what was released."""
    results = root() / "results"
    files = [*sorted(results.glob(f"*/*/{SPECIFICATION}")), *sorted(results.glob(f"released/*/runs/*/{SPECIFICATION}"))]
    return {file.parent.name: file.parent for file in reversed(files)}


def read_profile(folder: Path) -> tuple[Profile, float | None]:
    """What a run told last of its time, and how many seconds ago if it is not over.

    Raises:
        MtreproError: nothing yet, nothing because an older version ran it, or in a damaged file.
    """
    record, state = folder / "run.json", state_folder(folder.resolve().parent, folder.resolve().name)
    progress = state / "progress.json"
    written, told = _written(record), _written(progress)
    newest = record if written is not None and (told is None or told <= written) else progress  # or it runs again
    try:
        profile = read_model(newest, Profile)
    except DamagedFileError as error:
        raise MtreproError(f"{shown(folder)}: {error}\n  the file is damaged; train the run again") from None
    if profile is None:
        raise MtreproError(
            f"{shown(folder)}: the run has told nothing yet: it has not begun, or is in its first seconds\n"
            f"  begin or continue it: mtrepro train {shown(folder / SPECIFICATION)}"
        )
    if profile.parts is None:
        raise MtreproError(
            f"{shown(newest)}: an older version trained this run and did not note where the time went\n"
            "  only a run that is trained anew tells; timing.csv has the seconds of the whole"
        )
    if newest == record or told is None:
        return profile, None
    return profile, max(0.0, file_system_time(state) - told)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def as_content(folder: Path, profile: Profile) -> dict[str, Any]:
    """What `--json` prints."""
    parts = profile.parts or {}
    return {
        "schema_version": SCHEMA_VERSION,
        "run": folder.resolve().name,
        "status": profile.status,
        "step": profile.step,
        "budget": profile.budget,
        "device": profile.device,
        "seconds": sum(parts.values()),
        "keeping_share": keeping_share(parts),
        "parts": parts,
    }


def keeping_share(parts: dict[str, float]) -> float | None:
    """The share of checkpoints, metrics and progress in the time without waiting; None where there is no time."""
    whole = worked(parts)
    return sum(parts.get(part, 0.0) for part in KEEPING) / whole if whole else None


def table(folder: Path, profile: Profile, told: float | None = None) -> RenderableType:
    """The table for a terminal; `told` seconds ago, if the run is not over."""
    parts = profile.parts or {}
    whole = sum(parts.values())
    columns = Table(title=f"{folder.resolve().name}: {_stand(profile, told)}", title_justify="left")
    for name in ("part", "seconds", "share", "ms/step", "what it is"):
        columns.add_column(name, justify="right" if name in ("seconds", "share", "ms/step") else "left")
    for part, seconds in parts.items():
        columns.add_row(part, *_numbers(seconds, whole, profile.step), MEANING.get(cast(Part, part), ""))
    columns.add_section()
    columns.add_row("together", *_numbers(whole, whole, profile.step), "wall time, over all its tries")
    lines: list[RenderableType] = [columns]
    if (share := keeping_share(parts)) is not None:
        lines.append(Text(f"{', '.join(KEEPING)} together: {100 * share:.1f} % of the time without waiting"))
    if profile.device != "cpu":
        lines.append(Text(f"on a GPU an update ends in the part that waits for its result: {SEE}"))
    return Group(*lines)


def _stand(profile: Profile, told: float | None) -> str:
    steps = f"{profile.step:,}/{profile.budget:,} steps"
    return f"{profile.status}, {steps}" if told is None else f"{steps}, as told {duration(told)} ago"


def _numbers(seconds: float, whole: float, steps: int) -> tuple[str, str, str]:
    share = f"{100 * seconds / whole:.1f} %" if whole else ""
    return f"{seconds:,.1f}", share, f"{1000 * seconds / steps:.3f}" if steps else ""
