"""The golden trajectories: each simulator still gives what it gave."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence

from mtrepro.benchmarks.loading import families, load_family
from mtrepro.doctor import Finding
from mtrepro.doctor.machine import usable_cores
from mtrepro.errors import MtreproError
from mtrepro.golden import PAGE
from mtrepro.golden.stored import Golden, Replay, jobs_of, made_with, read_golden, replay

QUICK = 10  # --quick replays one task in so many, of each variant
SHOWN = 5  # tasks that are told with the number that left; the others are named


def golden(quick: bool) -> Iterator[Finding]:
    """Replay every family's golden trajectories, one finding for each family."""
    for family in families():
        try:
            yield _examine(family, quick)
        except MtreproError as error:
            first, _, rest = str(error).partition("\n")
            yield Finding(_name(family), "problem", first, "\n".join(line.strip() for line in rest.splitlines()))


def _examine(family: str, quick: bool) -> Finding:
    if lacking := [name for name in load_family(family).PACKAGES if not _installed(name)]:
        return Finding(_name(family), "note", f"not replayed: not installed: {', '.join(lacking)}")
    stored = read_golden(family)
    jobs = [job for job in jobs_of(family, stored) if not quick or job.index % QUICK == 0]
    replays = replay(stored, jobs, usable_cores())
    drifted = [one for one in replays if one.result.verdict == "drifted"]
    other = [one for one in replays if one.result.verdict == "other bits"]
    some = f" (of {len(stored.trajectories)}: --quick)" if quick else ""
    if drifted:
        found = f"{len(drifted)} of {len(replays)} trajectories{some} drifted{_changes(stored, family)}"
        return Finding(_name(family), "problem", "\n".join([found, *_tell(drifted)]), _advice(family))
    if other:
        worst = max(other, key=lambda one: one.result.largest)
        bits = f"{len(replays) - len(other)} of {len(replays)} trajectories{some} equal, the others "
        bits += f"equal but for rounding (largest difference {worst.result.largest:.1g}, {worst.job.name})"
        return Finding(_name(family), "note", f"{bits}{_changes(stored, family)}", f"no promise is broken: see {PAGE}")
    return Finding(_name(family), "ok", f"{len(replays)} trajectories{some} equal, bit for bit")


def _tell(drifted: Sequence[Replay]) -> Iterator[str]:
    for one in drifted[:SHOWN]:
        yield f"{one.job.name}: {one.result.words}"
    if more := [one.job.name for one in drifted[SHOWN:]]:
        yield f"and {', '.join(more)}"


def _changes(stored: Golden, family: str) -> str:
    """What differs between the machine that recorded and this one, in words."""
    then, now = stored.made_with, made_with(family)
    if then is None or then == now:
        return "; recorded with the same packages and processor instructions"
    names = then.packages.keys() | now.packages.keys()
    changed = [
        f"{name} {then.packages.get(name, 'none')} -> {now.packages.get(name, 'none')}"
        for name in sorted(names)
        if then.packages.get(name) != now.packages.get(name)
    ]
    if then.machine != now.machine:
        changed.append(f"{then.machine} -> {now.machine}")
    return f"; since recording: {', '.join(changed)}"


def _advice(family: str) -> str:
    return (
        "do not train: results would not be comparable with those before\n"
        "the simulator's packages as the lock has them: `make setup`, or a container's image\n"
        f"if the change is meant: `mtrepro doctor --record {family} --force`; {PAGE}"
    )


def _name(family: str) -> str:
    return f"golden {family}"


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
