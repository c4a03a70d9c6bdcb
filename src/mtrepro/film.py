"""A film: one episode of every task of a run, and what its world model predicted of it. One file, read without torch.

film.npz    schema_version, weights, diverged, every, seen, and of each task its name and what it earned: tasks, earned
            of task i: frames_i, truth_i, model_i
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.paths import shown

FILM = "film.npz"  # in the folder of its run
SCHEMA_VERSION = 1
LARGEST = 800_000  # bytes of a GIF that is drawn of it, where nobody says otherwise
Pictures = NDArray[np.uint8]


class TaskFilm(NamedTuple):
    """What was filmed of one task."""

    task: str
    frames: Pictures  # (F, side, side, 3): every so many of the episode's, from its first on
    truth: Pictures  # (windows, T, side, side, 3): what was there to be seen in each window
    model: Pictures  # the same shape: what the model saw of it, and then predicted
    earned: float  # sum of raw rewards


class Film(NamedTuple):
    """What was filmed of one run."""

    tasks: Sequence[TaskFilm]
    every: int  # the episode's frames from one of `TaskFilm.frames` to the next
    seen: int  # frames of a window that the model saw
    weights: str  # SHA-256 of the weights that played
    diverged: bool  # the run broke off: these are the weights of that moment, and no evaluation was of them


def write_film(path: Path, film: Film) -> None:
    """Write a film; equal films give equal bytes.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    arrays: dict[str, Any] = {
        "schema_version": np.array(SCHEMA_VERSION),
        "weights": np.array(film.weights),
        "diverged": np.array(film.diverged),
        "every": np.array(film.every),
        "seen": np.array(film.seen),
        "tasks": np.array([its.task for its in film.tasks]),
        "earned": np.array([its.earned for its in film.tasks]),
    }
    for index, its in enumerate(film.tasks):
        arrays |= {f"frames_{index}": its.frames, f"truth_{index}": its.truth, f"model_{index}": its.model}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def played_weights(path: Path) -> str | None:
    """SHA-256 of the weights that a film was played with; None where the film cannot be read. Reads no picture."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return str(found["weights"])
    except Exception:  # as below
        return None


def read_film(path: Path) -> Film:
    """Read a film.

    Raises:
        MtreproError: there is none, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            if (version := int(found["schema_version"])) != SCHEMA_VERSION:
                raise ValueError(f"version {version} of the format, expected {SCHEMA_VERSION}")
            tasks = [
                TaskFilm(str(task), found[f"frames_{i}"], found[f"truth_{i}"], found[f"model_{i}"], float(earned))
                for i, (task, earned) in enumerate(zip(found["tasks"], found["earned"], strict=True))
            ]
            return Film(tasks, int(found["every"]), int(found["seen"]), str(found["weights"]), bool(found["diverged"]))
    except Exception as error:  # a missing or torn file: numpy, zipfile and zlib each have their own errors
        raise MtreproError(
            f"{shown(path)}: no film that can be read ({type(error).__name__}: {error})\n"
            f"  make it again: `mtrepro film {shown(path.parent)} --output {shown(path)}`"
        ) from None
