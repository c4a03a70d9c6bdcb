"""A study: one YAML file that resolves to runs. Nothing is started before all of it is known to be possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from mtrepro import validation
from mtrepro.errors import SpecificationError
from mtrepro.paths import NAME, root, shown
from mtrepro.published import Compared, Comparison, Sentence, resolve_comparisons
from mtrepro.specification import (
    SCHEMA_VERSION,
    Evaluation,
    Learner,
    Specification,
    Strict,
    held_out_names,
    method_names,
    refuse_conflicts,
    resolve_benchmark,
    resolve_settings,
    settings_model,
    task_names,
)


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


class Arm(Strict):
    """A method with the settings that one row of a table or one line of a figure uses."""

    method: str = Field(description="the file in src/mtrepro/methods/ that learns")
    label: str | None = Field(None, description="how tables and figures call the arm; null means its key")
    reference: bool = Field(False, description="draw it as a horizontal line to compare with, not as a curve")
    budget: int | None = Field(None, ge=0, description="vector steps; null means the study's")
    seeds_per_job: int | None = Field(None, gt=0, description="seeds of one training job; null means the study's")
    settings: dict[str, Any] = Field({}, description="settings of the method that differ from its defaults")
    learner: Learner = Field(
        default_factory=lambda: Learner.model_validate({}), description="how updates are computed; beside the study's"
    )


ArmName = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]


class BenchmarkChoice(Strict):
    """A benchmark of config/benchmarks/, with settings that the study changes."""

    name: str = Field(description="a file in config/benchmarks/")
    settings: dict[str, Any] = Field({}, description="settings of the benchmark that differ from its file")


class BenchmarkFile(Strict):
    """A file in config/benchmarks/."""

    schema_version: Literal[1] = Field(description="version of this file format")
    family: str = Field(description="the file in src/mtrepro/benchmarks/ that makes the environments")
    title: str = Field(description="one line that says what it is")
    settings: dict[str, Any] = Field(description="settings of the family")


class MethodFile(Strict):
    """A file in config/methods/: the default of every setting."""

    schema_version: Literal[1] = Field(description="version of this file format")
    title: str = Field(description="the method's name as papers write it")
    paper: str = Field(description="where it was published")
    settings: dict[str, Any] = Field(description="the default of every setting of the method")


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
    seeds_per_job: int = Field(1, gt=0, description="seeds of an arm that one job trains at once; same results")
    evaluation: StudyEvaluation
    metrics_every: int = Field(500, gt=0, description="vector steps between the rows of training.csv")
    settings: dict[str, Any] = Field({}, description="settings shared by all arms whose method knows them")
    learner: Learner = Field(
        default_factory=lambda: Learner.model_validate({}), description="how all arms compute their updates"
    )
    arms: dict[ArmName, Arm] = Field(min_length=1, description="the rows of the tables, in order")
    published: list[Comparison] = Field([], description="the printed numbers that arms are compared with")
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
class Run:
    """One arm with one seed."""

    arm: str
    seed: int
    specification: Specification
    name: str


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with all its runs, every setting resolved and checked."""

    path: Path
    study: Study
    benchmark: dict[str, Any]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]  # those of the tasks that no run trains on
    runs: tuple[Run, ...]
    published: tuple[Compared, ...]

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
        """The runs by training job: seeds of one arm, as many as one process shall train."""
        found: list[list[Run]] = []
        for name, arm in self.study.arms.items():
            runs, count = [run for run in self.runs if run.arm == name], arm.seeds_per_job or self.study.seeds_per_job
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
    benchmark, tasks, held_out, episodes = _resolve_benchmark(study, where)
    evaluation = Evaluation(every=study.evaluation.every, episodes=study.evaluation.episodes or episodes)
    _refuse_unknown_methods(study, where)
    _refuse_unused_settings(study, where)
    runs: list[Run] = []
    for name, arm in study.arms.items():
        settings = _resolve_arm(study, name, arm, tasks, held_out, where)
        for seed in study.seeds:
            specification = Specification(
                schema_version=SCHEMA_VERSION,
                method=arm.method,
                settings=settings,
                benchmark=benchmark,
                seed=seed,
                budget=_budget(study, arm),
                evaluation=evaluation,
                metrics_every=study.metrics_every,
                learner=arm.learner.over(study.learner),
            )
            runs.append(Run(name, seed, specification, specification.run_name()))
    _refuse_twins(runs, where)
    arms = {run.arm: run.specification for run in runs}
    published = resolve_comparisons(
        study.published, study.conditions_differ, study.conditions_alike, arms, len(tasks) - len(held_out), where
    )
    return ResolvedStudy(path, study, benchmark, tasks, held_out, tuple(runs), published)


def read_method_file(method: str) -> MethodFile:
    """config/methods/<method>.yaml."""
    path = root() / "config" / "methods" / f"{method}.yaml"
    return validation.validate(MethodFile, validation.read_yaml(path), shown(path), "docs/adding-a-method.md")


def read_benchmark_file(name: str, where: str) -> BenchmarkFile:
    """config/benchmarks/<name>.yaml; `where` names the key that asked for it."""
    folder = root() / "config" / "benchmarks"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise validation.unknown(where, "benchmark", name, known, "docs/adding-a-benchmark.md")
    path = folder / f"{name}.yaml"
    return validation.validate(BenchmarkFile, validation.read_yaml(path), shown(path), "docs/adding-a-benchmark.md")


def _resolve_benchmark(study: Study, where: str) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], int]:
    choice = study.benchmark
    file = read_benchmark_file(choice.name, f"{where}: benchmark")
    changed = f"{where}: benchmark.settings" if choice.settings else f"config/benchmarks/{choice.name}.yaml: settings"
    family, settings = resolve_benchmark({"family": file.family, **file.settings, **choice.settings}, changed)
    resolved = {"family": family, **settings.model_dump(mode="json")}
    return resolved, task_names(settings), held_out_names(settings), int(resolved["evaluation_episodes"])


def _resolve_arm(
    study: Study, name: str, arm: Arm, tasks: tuple[str, ...], held_out: tuple[str, ...], where: str
) -> dict[str, Any]:
    place = validation.join(where, "arms", name)
    known = settings_model(arm.method).model_fields
    shared = {key: value for key, value in study.settings.items() if key in known}
    defaults = read_method_file(arm.method).settings
    settings = resolve_settings(arm.method, {**defaults, **shared, **arm.settings}, f"{place}.settings")
    refuse_conflicts(arm.method, settings, _budget(study, arm), tasks, f"{place}.settings", held_out)
    return settings.model_dump(mode="json")


def _budget(study: Study, arm: Arm) -> int:
    return study.budget if arm.budget is None else arm.budget


def _refuse_unknown_methods(study: Study, where: str) -> None:
    for name, arm in study.arms.items():
        if arm.method not in method_names():
            place = validation.join(where, "arms", name, "method")
            raise validation.unknown(place, "method", arm.method, method_names(), "docs/methods/")


def _refuse_unused_settings(study: Study, where: str) -> None:
    methods = sorted({arm.method for arm in study.arms.values()})
    known = sorted({key for method in methods for key in settings_model(method).model_fields})
    for key in study.settings:
        if key not in known:
            raise validation.unknown(f"{where}: settings.{key}", "key", key, known)


def _refuse_twins(runs: list[Run], where: str) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        twin = seen.setdefault(run.name, run)
        if twin is not run:
            raise SpecificationError(
                f"{where}: arms.{run.arm}: is the same as arm {twin.arm}: every setting is equal\n"
                "  change a setting of one, or remove it"
            )
