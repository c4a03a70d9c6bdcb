"""A run's specification: everything that decides its result, resolved, typed, digested.

Method settings and benchmark settings are typed where they are used: `Settings` in `methods/<name>.py` and in
`benchmarks/<family>.py`. This module finds them; no list of methods or benchmarks is kept anywhere.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from mtrepro import validation
from mtrepro.benchmarks.loading import load_family
from mtrepro.errors import SpecificationError
from mtrepro.paths import NAME, PACKAGE, shown

SCHEMA_VERSION: Literal[1] = 1


class Strict(BaseModel):
    """A model that refuses keys it does not know and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Evaluation(Strict):
    """When and how long a run is measured. Measuring never changes one bit of the training."""

    every: int = Field(gt=0, description="vector steps between evaluations; step 0 and the last step are evaluated too")
    episodes: int = Field(gt=0, description="episodes of each task at each evaluation")


class Learner(Strict):
    """How updates are computed. What published numbers are compared with is the default, and is not written down."""

    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: an update's matrix products round to bfloat16; no longer comparable with papers"
    )
    compile: Literal["auto", "eager", "graph"] = Field(
        "auto",
        description="eager: one operation after the other, the reference; graph: the update recorded as a CUDA graph; "
        "auto: graph on a GPU, else eager",
    )
    stale_policy: bool = Field(
        False,
        description="environments step beside the last owed update, moved by the policy from before it; "
        "no longer comparable with papers",
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A new key must not rename older runs."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value != type(self).model_fields[key].default}

    def over(self, other: Learner) -> Learner:
        """This one where it says something, else the other."""
        said = {key: getattr(its, key) for its in (other, self) for key in its.model_fields_set}
        return Learner.model_validate(said)

    def unlike_papers(self) -> list[str]:
        """What in it no paper did, as far as is known."""
        found = []
        if self.precision == "bf16":
            found.append("updates are computed in bf16 (learner.precision)")
        if self.stale_policy:
            found.append("environments are moved by the policy of one update before (learner.stale_policy)")
        return found


class SourceRun(Strict):
    """A run that another one learns from: what it is, not where it lies."""

    run: str = Field(pattern=rf"^{NAME}$", description="its name, which is also that of its folder beside this run's")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of its specification")


class Specification(Strict):
    """Everything that decides a run's result."""

    schema_version: Literal[1] = Field(description="version of this file format")
    method: str = Field(description="the file in src/mtrepro/methods/ that learns")
    settings: dict[str, Any] = Field(description="every setting of the method, resolved")
    benchmark: dict[str, Any] = Field(description="family of the benchmark and every setting of it, resolved")
    seed: int = Field(ge=0, description="the seed from which every random stream of the run is drawn")
    budget: int = Field(ge=0, description="vector steps of training; transitions = steps x tasks")
    evaluation: Evaluation
    metrics_every: int = Field(gt=0, description="vector steps between the rows of training.csv")
    learner: Learner = Field(
        default_factory=lambda: Learner.model_validate({}),
        description="how updates are computed; left out where nothing of it differs from its default",
    )
    sources: dict[str, SourceRun] = Field(
        {}, description="the runs that this one learns from, by what they are to it; absent where there is none"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most runs have neither, and are called what they were called before there were any."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if key not in ("learner", "sources") or value}

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form: equal for equal specifications, whatever the file's layout."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def run_name(self) -> str:
        """The run's name, which is also its folder's: method, seed and the head of the digest."""
        return f"{self.method}-s{self.seed}-{self.digest()[:12]}"

    def to_yaml(self) -> str:
        """The text of specification.yaml."""
        head = f"# The resolved specification of run {self.run_name()}, digest {self.digest()}.\n"
        return head + yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=120)


def load_specification(path: Path) -> Specification:
    """Read and check a specification.yaml.

    Raises:
        SpecificationError: it is not a specification, or its method or benchmark would not take its settings.
    """
    where = shown(path)
    given = validation.validate(Specification, validation.read_yaml(path), where, "docs/specification.md")
    if given.method not in method_names():
        raise validation.unknown(f"{where}: method", "method", given.method, method_names(), "docs/methods/")
    settings = resolve_settings(given.method, given.settings, f"{where}: settings")
    family, benchmark = resolve_benchmark(given.benchmark, f"{where}: benchmark")
    place = f"{where}: settings"
    refuse_conflicts(given.method, settings, given.budget, task_names(benchmark), place, held_out_names(benchmark))
    refuse_sources(given.method, settings, dict.fromkeys(given.sources), where)
    resolved = {"family": family, **benchmark.model_dump(mode="json")}
    for key in resolved:
        if given.benchmark.get(key) != resolved[key]:
            raise SpecificationError(
                f"{where}: benchmark.{key}: not resolved, expected {resolved[key]!r}\n"
                "  a specification holds every condition: let `mtrepro specify` write it"
            )
    return given


def refuse_different_arms(specifications: Mapping[str, Specification]) -> None:
    """Refuse specifications that one process cannot train at once; the keys say where each stands.

    Raises:
        SpecificationError: two differ in more than their seed, or not even in that.
    """
    if not specifications:
        raise SpecificationError("no specification is given")
    (first, one), *others = specifications.items()
    seeds: dict[int, str] = {one.seed: first}
    for where, other in others:
        here, there = (_flat(each.model_dump(mode="json")) for each in (other, one))
        for key in {**here, **there}:
            if key != "seed" and here.get(key) != there.get(key):
                raise SpecificationError(
                    f"{where}: {key}: {here.get(key)!r}, but {there.get(key)!r} in {first}\n"
                    "  one process trains seeds of one arm: start another for every other arm"
                )
        if twin := seeds.get(other.seed):
            raise SpecificationError(f"{where}: seed: {other.seed} as in {twin}; give each run once")
        seeds[other.seed] = where


def _flat(content: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{head}{key}.") if isinstance(value, Mapping) else {f"{head}{key}": value}
    return found


def task_names(benchmark: BaseModel) -> tuple[str, ...]:
    """The tasks of a benchmark's settings, in order."""
    return tuple(cast(Any, benchmark).task_names())


def held_out_names(benchmark: BaseModel) -> tuple[str, ...]:
    """The tasks that a benchmark's settings hold out of training; of most families none."""
    find = getattr(benchmark, "held_out_tasks", None)
    return tuple(find()) if find else ()


def refuse_conflicts(
    method: str,
    settings: BaseModel,
    budget: int,
    tasks: tuple[str, ...],
    where: str,
    held_out: tuple[str, ...] = (),
) -> None:
    """Refuse what the method itself calls impossible (`Settings.conflicts`); `where` names file and key.

    A conflict of no setting, but of the method with the tasks, has an empty key. Tasks that are held out of training
    are for methods that adapt alone (`Settings.adapts`): what another would do on them means nothing.
    """
    if held_out and not getattr(settings, "adapts", False):
        raise SpecificationError(
            f"{where}: {method} cannot adapt to tasks that it never trained on, and the benchmark holds out "
            f"{', '.join(held_out)}\n  choose a method that adapts, or settings of the benchmark without them "
            f"(`held_out: []`, of variants `split: training`)\n  see {method_page(method)}"
        )
    trained = tuple(task for task in tasks if task not in held_out)
    find = getattr(settings, "conflicts", None)
    for key, reason in find(budget=budget, tasks=trained) if find else ():
        raise SpecificationError(f"{where}{key and '.'}{key}: {reason}\n  see {method_page(method)}")


def refuse_sources(
    method: str, settings: BaseModel, sources: Mapping[str, Mapping[str, Any] | None], where: str
) -> None:
    """Refuse sources that the method cannot learn from (`Settings.source_conflicts`).

    Args:
        sources: the settings of each source run by what it is to this run; None where they are not known here.
        where: the file, and the key under which the run's own keys stand.

    Raises:
        SpecificationError: names the source, or the setting in which the two differ.
    """
    find = getattr(settings, "source_conflicts", None)
    found = find(sources) if find else (("sources", f"{method} learns from no other run"),) if sources else ()
    for key, reason in found:
        raise SpecificationError(f"{validation.join(where, key)}: {reason}\n  see {method_page(method)}")


def leaves_weights(method: str) -> bool:
    """Whether other runs can learn from a run of this method: it says so by `LEAVES_WEIGHTS` in its settings."""
    return bool(getattr(settings_model(method), "LEAVES_WEIGHTS", False))


def resolve_settings(method: str, values: dict[str, Any], where: str) -> BaseModel:
    """The typed settings of a method; `where` names the file and key they stand in."""
    return validation.validate(settings_model(method), values, where, method_page(method))


def resolve_benchmark(values: dict[str, Any], where: str) -> tuple[str, BaseModel]:
    """The family and the typed settings of a benchmark, from a mapping with `family` and the settings beside it."""
    settings = dict(values)
    family = settings.pop("family", None)
    if not isinstance(family, str):
        raise SpecificationError(f"{where}.family: missing")
    model = cast(type[BaseModel], load_family(family, where).Settings)
    return family, validation.validate(model, settings, where, "docs/adding-a-benchmark.md")


def method_names() -> list[str]:
    """Every method there is: the files in methods/."""
    return sorted(path.stem for path in (PACKAGE / "methods").glob("*.py") if not path.stem.startswith("_"))


def method_page(method: str) -> str:
    """The documentation of a method."""
    return f"docs/methods/{method}.md"


@functools.lru_cache
def settings_model(method: str) -> type[BaseModel]:
    """The class `Settings` of methods/<method>.py, without importing the file.

    Planning a study of hundreds of runs needs the settings' types but no torch, which takes seconds to import. So the
    class alone is taken out of the file and executed with what pydantic, typing and the shared settings modules offer.
    """
    path = PACKAGE / "methods" / f"{method}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    wanted: list[ast.stmt] = [
        node
        for node in tree.body
        if (isinstance(node, ast.ClassDef) and node.name == "Settings")
        or (isinstance(node, ast.ImportFrom) and _for_settings(node.module))
    ]
    if not any(isinstance(node, ast.ClassDef) for node in wanted):
        raise SpecificationError(f"{shown(path)}: has no class Settings; see docs/adding-a-method.md")
    namespace: dict[str, Any] = {"__name__": f"mtrepro.methods.{method}"}
    exec(compile(ast.Module(wanted, type_ignores=[]), str(path), "exec"), namespace)
    model = namespace["Settings"]
    model.model_rebuild(_types_namespace=namespace)
    if not issubclass(model, pydantic.BaseModel):
        raise SpecificationError(f"{shown(path)}: Settings must be a pydantic model; see docs/adding-a-method.md")
    return cast(type[BaseModel], model)


def _for_settings(module: str | None) -> bool:
    """Whether settings may use a module: the standard ones, and ours that hold nothing but settings."""
    shared = str(module).startswith("mtrepro.") and str(module).endswith("settings")
    return shared or module in {"__future__", "collections.abc", "pydantic", "typing"}
