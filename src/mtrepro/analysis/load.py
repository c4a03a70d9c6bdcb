"""Read a study: its manifest of expected runs, and those runs that are there.

A run is present when its folder holds evaluation.csv and run.json, which training writes last. Any other run is
missing: a hole with its count. A run that is there but is not the one that the manifest expects is an error, never a
number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from mtrepro.analysis.evaluation import Evaluation, read_evaluation, with_changes
from mtrepro.errors import MtreproError
from mtrepro.paths import NAME, shown
from mtrepro.validation import validate

KNOWN_SCHEMA_VERSION = 1
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]  # a manifest may be a stranger's


class Record(BaseModel):
    """Part of a JSON file. Keys that the analysis does not use are allowed."""

    model_config = ConfigDict(frozen=True)


class ExpectedRun(Record):
    """A run that the study asks for."""

    seed: int
    run: Name
    specification_digest: str


class ExpectedEvaluation(Record):
    """How the runs are measured."""

    episodes: int


class ExpectedArm(Record):
    """An arm as the manifest lists it."""

    arm: Name
    label: str
    reference: bool = False
    method: str
    budget: int
    runs: list[ExpectedRun]


class Printed(Record):
    """A printed number, or the empty cell where nobody could read it; docs/reviewing.md says what each key means."""

    paper: str
    arxiv: str | None
    table: str
    benchmark: str
    steps: str
    method: str
    metric: str
    statistic: Literal["mean", "iqm"]
    unit: Literal["share", "percent", "return"] | None
    highest: float | None = None  # manifests of 0.2 have none
    value: float | None
    error: float | None
    error_kind: str | None
    seeds: int | None
    conditions: str
    source: str | None
    trust: str | None
    note: str
    missing: str | None


class Comparison(Record):
    """A printed number that one arm is compared with, and every known reason why the two are not comparable."""

    cell: str
    arm: str
    step: int
    column: Literal["final", "best_of_mean_curve"]
    differs: list[str]
    conditions_alike: str | None = None  # manifests of 0.2 have none
    printed: Printed


class Manifest(Record):
    """manifest.json: what a study consists of."""

    schema_version: int
    study: str
    title: str
    runs_folder: Literal["..", "runs"]  # of a study in work, of a released one
    budget: int
    note: str = ""
    benchmark: dict[str, Any]
    tasks: list[str]
    held_out: list[str] = []  # those of the tasks that no run trains on; most manifests have none
    evaluation: ExpectedEvaluation
    arms: list[ExpectedArm]
    notes: list[str] = []  # what tables say beside the study's own note; manifests of 0.1 have neither of these
    published: list[Comparison] = []
    pooled: list[Literal["overall", "final_tenth"]] = []  # columns that the study asks for besides
    leading: Literal["success", "return"] = "success"  # the metric that tables begin with: return where none succeeds

    @property
    def moved(self) -> int:
        """How many tasks a vector step of training moves."""
        return len(self.tasks) - len(self.held_out)


class RunRecord(Record):
    """run.json: how a run ended and what made it."""

    schema_version: int
    run: str
    status: Literal["done", "diverged"]
    reason: str | None = None
    step: int
    budget: int
    specification_digest: str
    source_digest: str
    exact: bool
    device: str = ""
    threads: int | None = None
    cpu_capability: str = ""
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class Run:
    """An expected run, and what there is of it.

    Attributes:
        status: present (done), diverged, or missing.
        record: run.json; None for a missing run.
        evaluation: None for a missing run, and for one that diverged before its first evaluation.
    """

    seed: int
    name: str
    status: Literal["present", "diverged", "missing"]
    record: RunRecord | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class Arm:
    """An arm with its runs, in the manifest's order."""

    expected: ExpectedArm
    runs: tuple[Run, ...]

    @property
    def scored(self) -> list[Run]:
        """The runs whose scores enter the numbers."""
        return [run for run in self.runs if run.evaluation is not None]


@dataclass(frozen=True)
class StudyRuns:
    """A study as far as it has been run."""

    manifest: Manifest
    arms: tuple[Arm, ...]

    @property
    def metrics(self) -> list[str]:
        """The metrics that the runs measure, the leading one first; both usual ones where no run is there yet."""
        found = {name for arm in self.arms for run in arm.scored if run.evaluation for name in run.evaluation.scores}
        return sorted(found or {"success", "return"}, key=lambda name: (name != self.manifest.leading, name))


def load_study_runs(study_folder: Path) -> StudyRuns:
    """Read a study folder, in work (`results/runs/study-NAME`) or released (`results/released/NAME`).

    Raises:
        MtreproError: there is no manifest, a file is malformed, or a run is not the one that the manifest expects.
    """
    path = study_folder / "manifest.json"
    if not path.is_file():
        raise MtreproError(
            f"{shown(path)}: there is no manifest, so nobody knows which runs to expect\n"
            f"  write it with `mtrepro manifest STUDY_YAML --output {shown(path)}`"
        )
    manifest = read_manifest(path)
    folder = study_folder / manifest.runs_folder
    arms = (Arm(arm, tuple(_read_run(folder, manifest, arm, run) for run in arm.runs)) for arm in manifest.arms)
    study = StudyRuns(manifest, tuple(arms))
    for arm in study.arms:
        _check_metrics(folder, arm, study.metrics)
    return study


def read_manifest(path: Path) -> Manifest:
    """A manifest.json.

    Raises:
        MtreproError: it is malformed, or a name in it could lead out of the study's folder.
    """
    return validate(Manifest, _read_json(path), shown(path))


def _read_run(folder: Path, manifest: Manifest, arm: ExpectedArm, expected: ExpectedRun) -> Run:
    record_file, evaluation_file = (folder / expected.run / name for name in ("run.json", "evaluation.csv"))
    if not (record_file.is_file() and evaluation_file.is_file()):
        return Run(expected.seed, expected.run, "missing")
    record = validate(RunRecord, _read_json(record_file), shown(record_file))
    _check_record(record_file, record, arm, expected)
    evaluation = with_changes(read_evaluation(evaluation_file, manifest.tasks))
    if evaluation.episodes not in (0, manifest.evaluation.episodes):
        wanted = manifest.evaluation.episodes
        raise _error(evaluation_file, f"has {evaluation.episodes} episodes a task, the manifest expects {wanted}")
    finite = evaluation.finite_part()
    if record.status == "diverged":
        return Run(expected.seed, expected.run, "diverged", record, finite if finite.steps else None)
    if finite.steps != evaluation.steps:
        if evaluation.without_adapted().finite_part().steps == evaluation.steps:
            # Training went well, adapting did not: a result, to be counted and not to be repeated.
            return Run(expected.seed, expected.run, "diverged", record, finite if finite.steps else None)
        step = evaluation.steps[len(finite.steps)]
        raise _error(evaluation_file, f"step {step}: a score is not finite, but run.json says that the run is done")
    if not evaluation.steps or evaluation.steps[-1] != arm.budget:
        last = evaluation.steps[-1] if evaluation.steps else "none"
        raise _error(evaluation_file, f"the last evaluation is {last}, the run ended at step {arm.budget}")
    return Run(expected.seed, expected.run, "present", record, evaluation)


def _check_record(path: Path, record: RunRecord, arm: ExpectedArm, expected: ExpectedRun) -> None:
    """Refuse a run that is not the expected one: a folder renamed or copied by hand, or a manifest of another day."""
    if record.run != expected.run:
        raise _error(path, f"run: is {record.run!r}, the manifest expects {expected.run!r}")
    if record.specification_digest != expected.specification_digest:
        found, wanted = record.specification_digest[:12], expected.specification_digest[:12]
        raise _error(path, f"specification_digest: begins with {found!r}, the manifest expects {wanted!r}")
    if record.budget != arm.budget:
        raise _error(path, f"budget: is {record.budget}, the manifest expects {arm.budget} (arm {arm.arm})")


def _check_metrics(folder: Path, arm: Arm, metrics: list[str]) -> None:
    for run in arm.scored:
        missing = [name for name in metrics if run.evaluation and name not in run.evaluation.scores]
        if missing:
            raise _error(
                folder / run.name / "evaluation.csv", f"has no {missing[0]}, which other runs of the study have"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise MtreproError(f"{shown(path)}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MtreproError(f"{shown(path)}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise MtreproError(f"{shown(path)}: expected a JSON object, found {type(content).__name__}")
    version = content.get("schema_version")
    if isinstance(version, int) and version > KNOWN_SCHEMA_VERSION:
        raise MtreproError(
            f"{shown(path)}: schema_version: is {version}, this mtrepro knows {KNOWN_SCHEMA_VERSION} and older\n"
            "  use the mtrepro that wrote the file, or a newer one"
        )
    return content


def _error(path: Path, what: str) -> MtreproError:
    return MtreproError(
        f"{shown(path)}: {what}\n"
        f"  write the manifest again with `mtrepro manifest`, or remove {shown(path.parent)} and run it again"
    )
