"""The files in config/golden/: read, replayed, made. What was recorded is never replaced unless asked for by name."""

from __future__ import annotations

import importlib.metadata
import io
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field

from mtrepro import kernels, validation
from mtrepro.benchmarks.loading import load_family
from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.golden import PAGE
from mtrepro.golden.comparing import Comparison, compare, rounding
from mtrepro.golden.playing import OTHER_BITS, Job, Trajectory, play_all
from mtrepro.paths import root, shown
from mtrepro.specification import Strict, resolve_benchmark, task_names
from mtrepro.study import read_benchmark_file

SEED, STEPS = 0, 30
HEAD = f"""\
# The golden trajectories of this family. `variants` is written by hand, the rest by `mtrepro doctor --record`, the
# numbers themselves into the .npz file beside this one. What equal, other and drifted bits mean: {PAGE}.
"""


class MadeWith(Strict):
    """What golden trajectories were made with."""

    packages: dict[str, str] = Field(description="versions of the packages that the family's results depend on")
    machine: str = Field(
        description="architecture, instructions that numpy chooses among, C library, kernels that were asked for"
    )


class Golden(Strict):
    """A file config/golden/<family>.yaml."""

    schema_version: Literal[1] = Field(description="version of this file format")
    seed: int = Field(SEED, ge=0, description="seed of the benchmark and of the actions")
    steps: int = Field(STEPS, gt=0, description="steps of each trajectory")
    variants: dict[str, dict[str, Any]] = Field(min_length=1, description="settings of the family that are replayed")
    made_with: MadeWith | None = Field(None, description="what the trajectories were made with")
    trajectories: dict[str, str] = Field({}, description="SHA-256 of the trajectory of each variant/task")


class Stored(NamedTuple):
    """A trajectory as the file has it."""

    trajectory: Trajectory
    rounding: NDArray[np.float64]  # (rows,): how far other last bits had led it away at each row


@dataclass(frozen=True)
class Replay:
    """A trajectory played again, beside what was stored."""

    job: Job
    result: Comparison


def golden_file(family: str) -> Path:
    """config/golden/<family>.yaml."""
    return root() / "config" / "golden" / f"{family}.yaml"


def read_golden(family: str) -> Golden:
    """The golden file of a family.

    Raises:
        SpecificationError: there is none, or it cannot be meant as written.
    """
    path = golden_file(family)
    if not path.exists():
        raise SpecificationError(
            f"{shown(path)}: there are no golden trajectories of this family\n"
            f"  make them with `mtrepro doctor --record {family}`\n  see {PAGE}"
        )
    return validation.validate(Golden, validation.read_yaml(path), shown(path), PAGE)


def jobs_of(family: str, golden: Golden) -> list[Job]:
    """Every trajectory that a family's golden file asks for.

    Raises:
        SpecificationError: the settings of a variant cannot be meant as written.
    """
    found = []
    for variant, given in golden.variants.items():
        where = f"{shown(golden_file(family))}: variants.{variant}"
        _, settings = resolve_benchmark({**given, "family": family}, where)
        resolved = settings.model_dump(mode="json")
        for index, task in enumerate(task_names(settings)):
            found.append(Job(family, variant, resolved, index, task, golden.seed, golden.steps))
    return found


def replay(golden: Golden, jobs: Sequence[Job], workers: int) -> list[Replay]:
    """Play `jobs` of one family again and compare them with what is stored.

    Raises:
        SpecificationError: a trajectory is not stored, or the stored numbers are not those of the stored hash.
    """
    if not jobs:
        return []
    path = golden_file(jobs[0].family)
    for job in jobs:
        if job.name not in golden.trajectories:
            raise SpecificationError(
                f"{shown(path)}: trajectories: {job.name} is not recorded\n"
                f"  record what is missing with `mtrepro doctor --record {job.family}`"
            )
    stored = _read_numbers(path, golden, [job.name for job in jobs])
    played = zip(jobs, play_all(jobs, workers), strict=True)
    return [Replay(job, compare(*stored[job.name], found)) for job, found in played]


def record(family: str, force: bool, workers: int) -> str:
    """Play every trajectory of a family and store it; returns a line that says what was done.

    A family without a file gets one variant for each file of config/benchmarks/ that names it.

    Args:
        force: replace trajectories that are stored and are other ones now.

    Raises:
        MtreproError: a trajectory cannot be played, or a stored one is another now and `force` is not given. Nothing
            was written.
    """
    load_family(family, "--record")
    path = golden_file(family)
    golden = read_golden(family) if path.exists() else _new(family)
    jobs = jobs_of(family, golden)
    made = _played(path, jobs, play_all(jobs, workers))
    hashes = {name: trajectory.digest() for name, trajectory in made.items()}
    if hashes == golden.trajectories and path.with_suffix(".npz").exists():
        return f"{shown(path)}: {len(made)} trajectories are as they were recorded; nothing was written"
    changed = [name for name, digest in golden.trajectories.items() if hashes.get(name) != digest]
    if changed and not force:
        raise MtreproError(
            f"{shown(path)}: {len(changed)} stored trajectories are other ones now, the first is {changed[0]}; nothing "
            "was written\n  `mtrepro doctor` says how they differ; --force replaces them: say in the commit why the\n"
            "  simulator may change, because older runs are then no longer comparable with new ones"
        )
    others = _played(path, jobs, play_all(jobs, workers, OTHER_BITS))
    noise = {name: rounding(trajectory, others[name]) for name, trajectory in made.items()}
    golden = golden.model_copy(update={"made_with": made_with(family), "trajectories": hashes})
    _write(path, golden, {name: Stored(trajectory, noise[name]) for name, trajectory in made.items()})
    moved = sum(bool(its[-1] > 0) for its in noise.values())
    return (
        f"{shown(path)}: recorded {len(made)} trajectories, of which {moved} depend on the processor's last bits; "
        f"commit it with {path.with_suffix('.npz').name}"
    )


def made_with(family: str) -> MadeWith:
    """The packages and the machine of this process."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    library = " ".join(platform.libc_ver()).strip() or platform.system()
    return MadeWith(
        packages={name: importlib.metadata.version(name) for name in load_family(family).PACKAGES},
        machine=", ".join(
            filter(None, (f"{platform.machine()} {' '.join(simd) or 'baseline'}", library, kernels.told()))
        ),
    )


def _new(family: str) -> Golden:
    """A golden file with one variant for each benchmark of the family, and no trajectory yet."""
    folder = root() / "config" / "benchmarks"
    files = {path.stem: read_benchmark_file(path.stem, "--record") for path in sorted(folder.glob("*.yaml"))}
    found = {name: file.settings for name, file in files.items() if file.family == family}
    if not found:
        raise MtreproError(
            f"--record {family}: no file in config/benchmarks/ has this family: which settings shall be played?\n"
            f"  write one, or write {shown(golden_file(family))} with `schema_version: 1` and `variants`\n  see {PAGE}"
        )
    return Golden.model_validate({"schema_version": 1, "variants": found})


def _played(path: Path, jobs: Sequence[Job], found: Iterable[Trajectory | str]) -> dict[str, Trajectory]:
    made = {}
    for job, its in zip(jobs, found, strict=True):
        if isinstance(its, str):
            raise MtreproError(f"{shown(path)}: {job.name} cannot be played, nothing was written: {its}")
        made[job.name] = its
    return made


def _write(path: Path, golden: Golden, made: Mapping[str, Stored]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, its in made.items():
        arrays[f"{name}/observation"] = its.trajectory.observation
        arrays[f"{name}/outcome"] = its.trajectory.outcome
        arrays[f"{name}/rounding"] = its.rounding
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    write_atomically(path, HEAD + yaml.safe_dump(golden.model_dump(mode="json"), sort_keys=False, width=120))


def _read_numbers(path: Path, golden: Golden, names: Iterable[str]) -> dict[str, Stored]:
    numbers = path.with_suffix(".npz")
    found: dict[str, Stored] = {}
    try:
        with np.load(numbers, allow_pickle=False) as arrays:
            for name in names:
                its = Trajectory(arrays[f"{name}/observation"], arrays[f"{name}/outcome"])
                if its.digest() != golden.trajectories[name]:
                    raise ValueError(f"{name} is not the trajectory whose hash stands in {path.name}")
                found[name] = Stored(its, arrays[f"{name}/rounding"])
    except Exception as error:  # a missing or torn file: numpy, zipfile and zlib each have their own errors
        mend = f"`git checkout -- {shown(path)} {shown(numbers)}`"
        raise SpecificationError(f"{shown(numbers)}: cannot be read: {error}\n  bring both back: {mend}") from None
    return found
