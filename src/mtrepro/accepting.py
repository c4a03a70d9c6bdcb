"""`mtrepro accept`: a person says that an edit changes no result, so that finished runs need not be repeated.

What was said stands in config/accepted.yaml, which git tracks. Two source digests that it connects, directly or through
others, count as the same code; run.json keeps the digest of the code that the run really had.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pydantic import Field

from mtrepro import validation
from mtrepro.engine.files import write_atomically
from mtrepro.errors import SpecificationError
from mtrepro.lineage import changed_sources, read_record
from mtrepro.paths import root, shown
from mtrepro.results import RESULT_FILES
from mtrepro.source import run_source
from mtrepro.specification import Strict
from mtrepro.study import load_study


class Acceptance(Strict):
    """One saying: code with the one digest gives the results of code with the other."""

    source: str = Field(description="digest of the edited code")
    same_as: str = Field(description="digest of the code that finished runs were made by")
    reason: str = Field(description="why the edit changes no result")


class Acceptances(Strict):
    """config/accepted.yaml."""

    schema_version: int = Field(ge=1, le=1, description="version of this file format")
    accepted: list[Acceptance]


def same_results(one: str, other: str) -> bool:
    """Whether code with these two source digests counts as the same."""
    return one == other or other in _connected(one)


def accept_study(path: Path, reason: str) -> None:
    """Record, for every finished run of a study, that today's code gives the result that the run has.

    Raises:
        SpecificationError: no reason is given, or no finished run differs from today's code.
    """
    if not reason.strip():
        raise SpecificationError("accept: --reason must say why the edit changes no result")
    resolved = load_study(path)
    pairs: set[tuple[str, str]] = set()
    for run in resolved.runs:
        then = recorded_source(root() / resolved.results / run.name)
        today = run_source(run.specification.method, run.specification.benchmark["family"]).digest()
        if then is not None and not same_results(today, then):
            pairs.add((today, then))
    if not pairs:
        raise SpecificationError(f"{shown(path)}: no finished run was made by other code than today's")
    _record([Acceptance(source=today, same_as=then, reason=reason) for today, then in sorted(pairs)])
    print(f"recorded {len(pairs)} accepted source digests in {shown(_file())}")


def recorded_source(folder: Path) -> str | None:
    """The source digest in a run's run.json; None where there is none that can be read."""
    digest = read_record(folder).get("source_digest")
    return digest if isinstance(digest, str) else None


def is_finished(folder: Path, specification_digest: str, source_digest: str) -> bool:
    """Whether a run's result files are there, of this specification and of code that counts as this one, and it learnt
    from what its sources are now.

    It need not be repeated then, and what its state folder holds is not needed.
    """
    record = read_record(folder)
    if record.get("specification_digest") != specification_digest:
        return False
    same = same_results(str(record.get("source_digest")), source_digest)
    return same and all((folder / name).exists() for name in RESULT_FILES) and not changed_sources(folder)


def _record(new: list[Acceptance]) -> None:
    entries = [*_read(), *new]
    lines = [f"  - {json.dumps(entry.model_dump())}\n" for entry in entries]
    write_atomically(_file(), "schema_version: 1\naccepted:\n" + "".join(lines))
    _connected.cache_clear()


def _file() -> Path:
    return root() / "config" / "accepted.yaml"


def _read() -> list[Acceptance]:
    path = _file()
    if not path.exists():
        return []
    return validation.validate(Acceptances, validation.read_yaml(path), shown(path), "docs/resume.md").accepted


@functools.lru_cache
def _connected(digest: str) -> frozenset[str]:
    """Every digest that acceptances lead to from this one, in either direction."""
    pairs = [(entry.source, entry.same_as) for entry in _read()]
    found, waiting = {digest}, [digest]
    while waiting:
        at = waiting.pop()
        for pair in pairs:
            if at in pair:
                waiting += set(pair) - found
                found |= set(pair)
    return frozenset(found)
