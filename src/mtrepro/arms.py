"""What a study says of an arm or a source, and the files in config/ that it builds on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field, StringConstraints

from mtrepro import validation
from mtrepro.paths import NAME, root, shown
from mtrepro.specification import (
    Learner,
    Strict,
    held_out_names,
    refuse_conflicts,
    resolve_benchmark,
    resolve_settings,
    settings_model,
    task_names,
)

ArmName = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]


class BenchmarkChoice(Strict):
    """A benchmark of config/benchmarks/, with settings that the study changes."""

    name: str = Field(description="a file in config/benchmarks/")
    settings: dict[str, Any] = Field({}, description="settings of the benchmark that differ from its file")


class SourceChoice(Strict):
    """One of the study's sources, and which of its runs."""

    name: str = Field(description="a key of the study's `sources`")
    seed: int | None = Field(None, ge=0, description="seed of the source's run; null means the run's own")


class MethodChoice(Strict):
    """A method with its settings, and what it learns from besides its benchmark."""

    method: str = Field(description="the file in src/mtrepro/methods/ that learns")
    budget: int | None = Field(None, ge=0, description="vector steps; null means the study's")
    settings: dict[str, Any] = Field({}, description="settings of the method that differ from its defaults")
    learner: Learner = Field(
        default_factory=lambda: Learner.model_validate({}), description="how updates are computed; beside the study's"
    )
    sources: dict[ArmName, SourceChoice | str] = Field(
        {}, description="what it learns from: for each part that the method knows, a key of the study's `sources`"
    )


class Arm(MethodChoice):
    """A method with the settings that one row of a table or one line of a figure uses."""

    label: str | None = Field(None, description="how tables and figures call the arm; null means its key")
    reference: bool = Field(False, description="draw it as a horizontal line to compare with, not as a curve")
    seeds_per_job: int | None = Field(None, gt=0, description="seeds of one training job; null means the study's")


class Source(MethodChoice):
    """Runs that others learn from; they stand in no table. Its runs are those that the arms ask for."""

    benchmark: BenchmarkChoice | str | None = Field(
        None, description="a name in config/benchmarks/, or a name and changed settings; null means the study's"
    )


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


class Met(NamedTuple):
    """A benchmark with every setting."""

    benchmark: dict[str, Any]  # the settings, and the family
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]  # those of the tasks that no run trains on
    episodes: int  # of its protocol


def resolve_choice(choice: BenchmarkChoice, where: str) -> Met:
    """A chosen benchmark with every setting."""
    file = read_benchmark_file(choice.name, f"{where}")
    changed = f"{where}.settings" if choice.settings else f"config/benchmarks/{choice.name}.yaml: settings"
    family, settings = resolve_benchmark({"family": file.family, **file.settings, **choice.settings}, changed)
    resolved = {"family": family, **settings.model_dump(mode="json")}
    return Met(resolved, task_names(settings), held_out_names(settings), int(cast(Any, settings).evaluation_episodes))


def resolve_method(
    choice: MethodChoice,
    shared: Mapping[str, Any],
    budget: int,
    tasks: tuple[str, ...],
    held_out: tuple[str, ...],
    where: str,
) -> dict[str, Any]:
    """Every setting of a chosen method; `shared` are the study's, of which it takes those that its method has."""
    known = settings_model(choice.method).model_fields
    given = {key: value for key, value in shared.items() if key in known}
    settings: dict[str, Any] = read_method_file(choice.method).settings
    for changed in (given, choice.settings):
        settings = merged(settings, changed)
    resolved = resolve_settings(choice.method, settings, f"{where}.settings")
    refuse_conflicts(choice.method, resolved, budget, tasks, f"{where}.settings", held_out)
    return resolved.model_dump(mode="json")


def merged(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with those of `changed`; of a setting that is a table, only the rows that are given."""
    together = {**settings, **changed}
    for key, value in changed.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            together[key] = {**settings[key], **value}
    return together
