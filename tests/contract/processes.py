"""Runs of `mtrepro train` in processes of their own, for tests that end them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtrepro.specification import Specification
from tests.conftest import command, toy_specification

Undisturbed = Callable[[Specification], dict[str, bytes]]
OFTEN = ("--checkpoint-seconds", "0")  # as often as the share of time allows


def longer(budget: int = 1500, **changed: Any) -> Specification:
    """A toy run of some seconds, so that there is time to kill it."""
    return toy_specification(budget=budget, evaluation={"every": 400, "episodes": 3}, metrics_every=100, **changed)


def start(path: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run and wait until it trains."""
    process = subprocess.Popen(command("train", path, *OFTEN, *words), stderr=subprocess.PIPE, text=True)
    state = path.parent.parent / ".state" / path.parent.name
    seen = {file.name for file in state.glob("source-*/*.pt")}
    deadline = time.monotonic() + 120
    while not {file.name for file in state.glob("source-*/*.pt")} - seen:
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        if process.poll() is not None:  # it was nearly over, and has finished
            break
        time.sleep(0.01)
    return process


def state_folder(path: Path) -> Path:
    """Where the run's checkpoints are."""
    return next((path.parent.parent / ".state" / path.parent.name).glob("source-*"))


def run_record(path: Path) -> dict[str, Any]:
    return dict(json.loads((path.parent / "run.json").read_text()))


def comes(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until something is so; False if it never is."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
