"""Lock files of pinned requirements: versions and hashes, no addresses. `mtrepro doctor` and `make lint` read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtrepro.errors import MtreproError
from mtrepro.paths import shown

_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\*]+)(?=[\s;]|$)")
_HASHED = re.compile(r"--hash=sha256:[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Lock:
    """What a lock file says.

    Attributes:
        versions: of each package, by its normalised name: lower case, dashes.
        mistakes: each line that is not a pinned version with hashes, and each address, as messages.
    """

    versions: dict[str, str]
    mistakes: tuple[str, ...]


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        MtreproError: there is no such file, or it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MtreproError(f"{shown(path)}: there is no such lock file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MtreproError(f"{shown(path)}: cannot be read: {error}") from None
    versions: dict[str, str] = {}
    mistakes: list[str] = []
    for number, entry in _entries(text):
        place = f"{shown(path)}:{number}"
        if "://" in entry or "@ " in entry:
            mistakes.append(f"{place}: holds an address; a lock has versions and hashes only")
        found = _PINNED.match(entry)
        if found is None:
            mistakes.append(f"{place}: {entry.split()[0]!r} is not pinned; expected name==version with hashes")
            continue
        name = normalised(found[1])
        if versions.setdefault(name, found[2]) != found[2]:
            mistakes.append(f"{place}: {name} is pinned twice, to {versions[name]} and {found[2]}")
        if not _HASHED.search(entry):
            mistakes.append(f"{place}: {name} has no sha256 hash")
    return Lock(versions, tuple(mistakes))


def normalised(name: str) -> str:
    """A package's name as registries compare it: lower case, runs of dashes, dots and underscores as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(text: str) -> Iterator[tuple[int, str]]:
    """Each entry with the number of its first line; a line that ends in a backslash goes on in the next."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.sub(r"(^|\s)#.*", "", line).strip()
        if not parts:
            begun = number
        if words:
            parts.append(words.removesuffix("\\").strip())
        if parts and not words.endswith("\\"):
            yield begun, " ".join(parts)
            parts = []
    if parts:
        yield begun, " ".join(parts)
