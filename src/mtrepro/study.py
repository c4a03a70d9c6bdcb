"""A study: one YAML file that resolves to runs. Nothing is started before all of it is known to be possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mtrepro import validation
from mtrepro.arms import (
    Arm,
    ArmName,
    BenchmarkChoice,
    BenchmarkFile,
    MethodFile,
    Source,
    read_benchmark_file,
    read_method_file,
)
from mtrepro.paths import NAME, shown
from mtrepro.published import Compared, Comparison, Sentence, resolve_comparisons
from mtrepro.specification import Learner, Strict
from mtrepro.study_runs import Run, Runs

__all__ = [
    "Arm",
    "BenchmarkFile",
    "MethodFile",
    "ResolvedStudy",
    "Resources",
    "Run",
    "Source",
    "Study",
    "StudyEvaluation",
    "load_study",
    "read_benchmark_file",
    "read_method_file",
]


class StudyEvaluation(Strict):
    """When and how long the runs are measured."""

    every: int = Field(gt=0, description="vector steps between evaluations; step 0 and the last step are evaluated too")
    episodes: int | None = Field(None, gt=0, description="episodes of each task; null means what the protocol asks for")


class Resources(Strict):
    """What one training job asks of the cluster."""

    threads: int = Field(1, gt=0, description="torch threads and CPU cores; they belong to the run, see docs/resume.md")
    workers: int = Field(0, ge=0, description="processes that step environments beside the trainer; same bits")
    gpu: int = Field(0, ge=0, le=1, description="GPUs of a training job")
    mem_mb: int = Field(8_000, gt=0, description="main memory in megabytes")
    runtime: int = Field(1_440, gt=0, description="time limit of one try in minutes")
    tries: int = Field(5, gt=0, description="tries of a job; each continues from the checkpoint of the one before")


class Study(Strict):
    """One published experiment block: a benchmark, its arms, seeds and budget."""

    schema_version: Literal[1] = Field(description="version of this file format")
    study: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="the study's name, used in paths")
    title: str = Field(description="one line for the head of tables and figures")
    note: str = Field("", description="what a reader of the tables must know")
    results: str = Field("results/runs", description="folder of the runs, inside results/")
    benchmark: BenchmarkChoice = Field(description="a name in config/benchmarks/, or a name and changed settings")
    budget: int = Field(gt=0, description="vector steps of every run; transitions = steps x tasks")
    seeds: list[int] = Field(min_length=1, description="one run of every arm for each seed")
    seeds_per_job: int = Field(
        1, gt=0, description="seeds of an arm that one job trains at once; on a CPU same results"
    )
    evaluation: StudyEvaluation
    metrics_every: int = Field(500, gt=0, description="vector steps between the rows of training.csv")
    settings: dict[str, Any] = Field({}, description="settings shared by all arms whose method knows them")
    learner: Learner = Field(
        default_factory=lambda: Learner.model_validate({}), description="how all runs compute their updates"
    )
    arms: dict[ArmName, Arm] = Field(min_length=1, description="the rows of the tables, in order")
    sources: dict[ArmName, Source] = Field({}, description="runs that arms learn from, in no table")
    published: list[Comparison] = Field([], description="the printed numbers that arms are compared with")
    pooled: list[Literal["overall", "final_tenth"]] = Field(
        [], description="more columns of the result table, as the transfer papers have them; see docs/statistics.md"
    )
    conditions_differ: list[Sentence] = Field(
        [], description="what differs from the papers in every comparison; any makes the verdict `not comparable`"
    )
    conditions_alike: Sentence | None = Field(
        None,
        description="why nothing differs from the papers; a comparison needs this or `conditions_differ`, not both",
    )
    resources: Resources = Field(default_factory=lambda: Resources.model_validate({}))

    @field_validator("benchmark", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: list[int]) -> list[int]:
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise ValueError(f"seed {seed} is given {seeds.count(seed)} times; a run counts once")
            if seed < 0:
                raise ValueError(f"seed {seed} is negative; seeds are 0 or more")
        return seeds

    @field_validator("results")
    @classmethod
    def _inside_results(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.parts[:1] != ("results",) or len(path.parts) < 2:
            raise ValueError(f"{value!r} is not a folder inside results/, such as results/runs")
        for part in path.parts[1:]:
            if not re.fullmatch(NAME, part):  # the rules put it into paths and commands; `..` would lead out
                raise ValueError(
                    f"{value!r} is not a folder inside results/, such as results/runs: a part of it is {part!r};\n"
                    "  letters, digits, dots, dashes and underscores are allowed, with a letter or digit first"
                )
        if path.parts[1] == "released":
            raise ValueError("results/released/ is written by `mtrepro release` alone")
        return str(path)

    @model_validator(mode="after")
    def _differ_or_alike(self) -> Self:
        if self.conditions_differ and self.conditions_alike is not None:
            raise ValueError("conditions_differ and conditions_alike contradict each other: keep one of the two")
        return self


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with all its runs, every setting resolved and checked."""

    path: Path
    study: Study
    benchmark: dict[str, Any]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]  # those of the tasks that no run trains on
    runs: tuple[Run, ...]  # of the arms, in order; then those that are there for others to learn from
    sources: frozenset[str]  # the runs that others learn from, by name
    published: tuple[Compared, ...]

    @property
    def arm_runs(self) -> tuple[Run, ...]:
        """The runs of the arms: those of which the tables speak."""
        return tuple(run for run in self.runs if run.arm in self.study.arms)

    @property
    def results(self) -> Path:
        """The folder of the runs, relative to the checkout."""
        return Path(self.study.results)

    @property
    def folder(self) -> Path:
        """The folder of the study's tables and figures, relative to the checkout."""
        return self.results / f"study-{self.study.study}"

    @property
    def jobs(self) -> list[list[Run]]:
        """The runs by training job: seeds of one arm, as many as one process shall train.

        A run that learns from others, or from which others learn, has a job of its own: it waits for other files than
        its neighbours.
        """
        found = [[run] for run in self.runs if run.specification.sources or run.name in self.sources]
        alone = {run.name for (run,) in found}
        for name, arm in self.study.arms.items():
            runs = [run for run in self.runs if run.arm == name and run.name not in alone]
            count = arm.seeds_per_job or self.study.seeds_per_job
            found += [runs[first : first + count] for first in range(0, len(runs), count)]
        return found

    def run(self, name: str) -> Run:
        """The run of this name.

        Raises:
            SpecificationError: no arm and seed of the study gives it.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise validation.unknown(shown(self.path), "run", name, [run.name for run in self.runs])


def load_study(path: Path) -> ResolvedStudy:
    """Read a study and resolve it to runs.

    Raises:
        SpecificationError: anything in it cannot be meant as written: every mistake with its file, key and reason.
    """
    where = shown(path)
    study = validation.validate(Study, validation.read_yaml(path), where, "docs/study.md")
    runs = Runs(study, where)
    of_arms = runs.of_arms()
    arms = {run.arm: run.specification for run in of_arms}
    here = runs.here
    trained = len(here.tasks) - len(here.held_out)
    published = resolve_comparisons(
        study.published, study.conditions_differ, study.conditions_alike, arms, trained, where
    )
    sources = {run.name: run for run in runs.sources.values()}
    others = [run for name, run in sources.items() if name not in {run.name for run in of_arms}]
    every = (*of_arms, *others)
    return ResolvedStudy(path, study, here.benchmark, here.tasks, here.held_out, every, frozenset(sources), published)
