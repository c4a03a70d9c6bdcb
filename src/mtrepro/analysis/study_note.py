"""study.json in the tables folder: what tables and figures say beside the numbers, so that they read nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mtrepro.analysis.curves import ArmCurves
from mtrepro.analysis.files import read_text, write_json
from mtrepro.analysis.load import KNOWN_SCHEMA_VERSION, StudyRuns
from mtrepro.paths import shown
from mtrepro.validation import validate

FILE = "study.json"
HELD_OUT = "mean of those held out"  # in the place of a task: no task is called so, a name has no spaces


class ArmNote(BaseModel):
    """An arm, and how much of it there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    label: str
    reference: bool
    budget: int
    seeds_present: int
    seeds_expected: int
    diverged: int
    inexact: int

    @property
    def seeds(self) -> str:
        """'10/10 seeds', '7/10 seeds, 1 diverged†'."""
        text = f"{self.seeds_present}/{self.seeds_expected} seeds"
        return text + (f", {self.diverged} diverged" if self.diverged else "") + ("†" if self.inexact else "")

    @property
    def whole(self) -> bool:
        """Whether every expected run is there, came to its end, and is bit-exact."""
        return self.seeds_present == self.seeds_expected and not self.diverged and not self.inexact


class StudyNote(BaseModel):
    """A study, as captions and footnotes need it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    study: str
    title: str
    protocol: str
    tasks: list[str]
    metrics: list[str]
    arms: list[ArmNote]
    notes: list[str]
    held_out: list[str] = []  # those of the tasks that no arm trains on
    pooled: list[str] = []  # columns of the result table that the study asks for besides

    @property
    def moved(self) -> int:
        """How many tasks a vector step of training moves."""
        return len(self.tasks) - len(self.held_out)

    @property
    def learners(self) -> list[ArmNote]:
        """The arms that learn."""
        return [arm for arm in self.arms if not arm.reference]

    @property
    def references(self) -> list[ArmNote]:
        """The arms drawn as horizontal lines."""
        return [arm for arm in self.arms if arm.reference]


def write_note(path: Path, study: StudyRuns, curves: list[ArmCurves]) -> None:
    """Write study.json."""
    manifest = study.manifest
    note = StudyNote(
        schema_version=KNOWN_SCHEMA_VERSION,
        study=manifest.study,
        title=manifest.title,
        protocol=_protocol(study),
        tasks=manifest.tasks,
        metrics=study.metrics,
        arms=[arm_note(each) for each in curves],
        notes=[
            *([manifest.note] if manifest.note else []),
            *manifest.notes,
            *(line for each in curves for line in _notes(each)),
        ],
        held_out=manifest.held_out,
        pooled=list(manifest.pooled),
    )
    write_json(path, note.model_dump(mode="json", exclude_defaults=True))


def read_note(tables: Path) -> StudyNote:
    """Read study.json from the folder that `mtrepro aggregate` wrote.

    Raises:
        MtreproError: there is none, or it is malformed.
    """
    path = tables / FILE
    return validate(StudyNote, json.loads(read_text(path)), shown(path))


def arm_note(curves: ArmCurves) -> ArmNote:
    """An arm, counted."""
    expected, runs = curves.arm.expected, curves.arm.runs
    return ArmNote(
        arm=expected.arm,
        label=expected.label,
        reference=expected.reference,
        budget=expected.budget,
        seeds_present=curves.seeds_present,
        seeds_expected=len(runs),
        diverged=sum(run.status == "diverged" for run in runs),
        inexact=sum(run.record is not None and not run.record.exact for run in runs),
    )


def _protocol(study: StudyRuns) -> str:
    """One line: benchmark, protocol, reward version, tasks, horizon, evaluation episodes."""
    benchmark: Mapping[str, Any] = study.manifest.benchmark
    name = "/".join(str(benchmark[key]) for key in ("family", "name") if benchmark.get(key))
    parts = [f"Benchmark {name}" if name else "Benchmark"]
    for key, words in (("protocol", "protocol"), ("reward_version", "reward"), ("horizon", "horizon")):
        if benchmark.get(key) is not None:
            parts.append(f"{words} {benchmark[key]}")
    parts.append(f"{len(study.manifest.tasks)} tasks")
    episodes = study.manifest.evaluation.episodes
    parts.append(f"{episodes} evaluation episode{'' if episodes == 1 else 's'} per task")
    return ", ".join(parts) + "."


def _notes(curves: ArmCurves) -> list[str]:
    """What a reader must know about the runs of an arm: holes, divergences, inexact resumes, mixed code."""
    label, runs = curves.arm.expected.label, curves.arm.runs
    lines = []
    if missing := [str(run.seed) for run in runs if run.status == "missing"]:
        lines.append(f"{label}: {len(missing)} of {len(runs)} runs missing (seed {', '.join(missing)}).")
    for run in runs:
        if run.status == "diverged" and run.record:
            rule = "its last evaluation stands for the rest" if run.evaluation else "before any evaluation: no score"
            lines.append(f"{label}: seed {run.seed} diverged at step {run.record.step}; {rule}.")
    if inexact := [str(run.seed) for run in runs if run.record and not run.record.exact]:
        lines.append(f"† {label}: seed {', '.join(inexact)} not bit-exact (docs/statistics.md: what makes it so).")
    sources = {run.record.source_digest for run in runs if run.record}
    if len(sources) > 1:
        lines.append(f"{label}: its runs were made by {len(sources)} versions of the code (runs.csv says which).")
    return lines
