"""What is installed: Python, and the packages against the lock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from mtrepro.benchmarks.loading import families, load_family
from mtrepro.doctor import Finding
from mtrepro.lock import normalised, read_lock
from mtrepro.paths import root, shown
from mtrepro.source import ALWAYS

PYTHON = (3, 11)  # as pyproject.toml says; a test compares them
SET_UP = "install what the lock says: `make setup`, or in a container its newest image"
NAMED = 5  # packages that a line names; the rest are counted


def python() -> Iterator[Finding]:
    """The interpreter's version."""
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] == PYTHON:
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "problem", found, f"use Python {PYTHON[0]}.{PYTHON[1]}: `make setup` finds it")


def packages(lock: Path | None) -> Iterator[Finding]:
    """The installed versions against a lock file.

    Args:
        lock: None for the one that MTREPRO_LOCK names, as an image sets it, or requirements.lock of the checkout.
    """
    path = lock or Path(os.environ.get("MTREPRO_LOCK") or root() / "requirements.lock")
    if not path.is_file():
        advice = "name the lock of this environment with --lock or MTREPRO_LOCK"
        yield Finding("packages", "problem", f"{shown(path)}: there is no such lock file", advice)
        return
    wanted = read_lock(path).versions
    installed = {normalised(its.name): its.version for its in importlib.metadata.distributions() if its.name}
    other = [f"{name} {installed[name]} (lock: {version})" for name, version in wanted.items() if _other(name, version)]
    missing = [name for name in wanted if name not in installed]
    needed = {normalised(name) for family in families() for name in load_family(family).PACKAGES} | {*ALWAYS}
    lacking = [name for name in missing if name in needed]
    there = f"{len(wanted) - len(missing)} of {len(wanted)} packages of {shown(path)}"
    if other:
        yield Finding("packages", "problem", f"{len(other)} have another version: {_some(other)}", SET_UP)
    elif not lacking:
        yield Finding("packages", "ok", f"{there} are installed, each in its version")
    if lacking:
        advice = f"training needs them; {SET_UP}"
        yield Finding("packages", "problem", f"{there} are installed; not there: {_some(lacking)}", advice)
    elif missing:
        yield Finding("packages", "note", f"not installed: {_some(missing)}; training needs none of them")


def _other(name: str, version: str) -> bool:
    try:
        return importlib.metadata.version(name).partition("+")[0] != version.partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return False


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
