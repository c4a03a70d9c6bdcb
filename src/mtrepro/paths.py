"""Where the checkout keeps what: every path is relative to its root, wherever a command is called from."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The checkout: MTREPRO_ROOT if set, else the folder above src/ from which the package is imported."""
    return Path(os.environ.get("MTREPRO_ROOT") or PACKAGE.parents[1])


def shown(path: Path) -> str:
    """A path as a person would type it from the root of the checkout; others stay as they are."""
    absolute = path.resolve()
    return str(absolute.relative_to(root())) if absolute.is_relative_to(root()) else str(path)


NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # of arms, runs and folders: parts of paths and commands that lead nowhere else
STATES_OF_CODE = "source-*"  # the folders of checkpoints in a state folder, one for each code that trained the run


def state_folder(results: Path, run: str) -> Path:
    """Where a run keeps its lease, its progress and its checkpoints; `results` is the folder above the run's own."""
    return results / ".state" / run


def checkpoint_folder(state: Path, source_digest: str) -> Path:
    """Where, in a run's state folder, the checkpoints lie that code of this digest made."""
    return state / f"source-{source_digest[:16]}"
