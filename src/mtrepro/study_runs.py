"""From arms and sources to runs: which runs others learn from, each once for all that ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mtrepro import validation
from mtrepro.arms import ArmName, BenchmarkChoice, MethodChoice, Source, SourceChoice, resolve_choice, resolve_method
from mtrepro.errors import SpecificationError
from mtrepro.specification import (
    SCHEMA_VERSION,
    Evaluation,
    SourceRun,
    Specification,
    leaves_weights,
    method_names,
    refuse_sources,
    resolve_settings,
    settings_model,
)

if TYPE_CHECKING:
    from mtrepro.study import Study

PAGE = "docs/study.md"


@dataclass(frozen=True)
class Run:
    """One arm, or one source, with one seed."""

    arm: str
    seed: int
    specification: Specification
    name: str
    tasks: tuple[str, ...]  # that it trains on


class Conditions(NamedTuple):
    """What a run meets."""

    benchmark: dict[str, Any]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]  # those of the tasks that are not trained on
    evaluation: Evaluation


class Runs:
    """The runs of a study, made when they are asked for; `sources` then holds those that others learn from."""

    def __init__(self, study: Study, where: str) -> None:
        self.study, self.where = study, where
        self.sources: dict[tuple[str, int], Run] = {}
        self._settings: dict[str, dict[str, Any]] = {}  # by the place in the file
        self._conditions: dict[str, Conditions] = {}
        self._asked: list[str] = []  # the sources on the way to the one that is being made
        self._refuse_unknown_methods()
        self._refuse_unused_settings()
        self._refuse_shared_names()
        self.here = self._meet(study.benchmark, f"{where}: benchmark")

    def of_arms(self) -> list[Run]:
        """The runs of every arm with every seed, in order.

        Raises:
            SpecificationError: one cannot be meant as written, two are the same, or nothing asks for a source.
        """
        runs = []
        for name, arm in self.study.arms.items():
            place = validation.join(self.where, "arms", name)
            runs += [self._run(name, arm, seed, self.here, place) for seed in self.study.seeds]
        _refuse_twins(runs, self.where)
        used = {name for name, _ in self.sources}
        for name in self.study.sources:
            if name not in used:
                raise SpecificationError(
                    f"{validation.join(self.where, 'sources', name)}: nothing learns from it\n"
                    f"  name it in the `sources` of an arm, or remove it\n  see {PAGE}"
                )
        return runs

    def _run(self, name: str, chosen: MethodChoice, seed: int, met: Conditions, place: str) -> Run:
        budget = self.study.budget if chosen.budget is None else chosen.budget
        if place not in self._settings:
            self._settings[place] = resolve_method(chosen, self.study.settings, budget, met.tasks, met.held_out, place)
        settings = self._settings[place]
        sources = {role: self._chosen(choice, seed, place, role) for role, choice in chosen.sources.items()}
        typed = resolve_settings(chosen.method, settings, f"{place}.settings")
        given = {role: run.specification.settings for role, run in sources.items()}
        refuse_sources(chosen.method, typed, given, place)
        specification = Specification(
            schema_version=SCHEMA_VERSION,
            method=chosen.method,
            settings=settings,
            benchmark=met.benchmark,
            seed=seed,
            budget=budget,
            evaluation=met.evaluation,
            metrics_every=self.study.metrics_every,
            learner=chosen.learner.over(self.study.learner),
            sources={role: SourceRun(run=run.name, digest=run.specification.digest()) for role, run in sources.items()},
        )
        trained = tuple(task for task in met.tasks if task not in met.held_out)
        return Run(name, seed, specification, specification.run_name(), trained)

    def _chosen(self, choice: SourceChoice | str, seed: int, place: str, role: str) -> Run:
        """The run that one with this seed learns from, in the part of `role`."""
        choice = SourceChoice.model_validate({"name": choice}) if isinstance(choice, str) else choice
        asked = validation.join(place, "sources", role)
        if choice.name not in self.study.sources:
            raise validation.unknown(asked, "source", choice.name, self.study.sources, PAGE)
        if choice.name in self._asked:
            raise SpecificationError(f"{asked}: {' learns from '.join([*self._asked, choice.name])}: no run can begin")
        source, seed = self.study.sources[choice.name], seed if choice.seed is None else choice.seed
        if (choice.name, seed) not in self.sources:
            where = validation.join(self.where, "sources", choice.name)
            if not leaves_weights(source.method):
                raise SpecificationError(f"{where}.method: {source.method} leaves nothing that another run could use")
            self._asked.append(choice.name)
            self.sources[choice.name, seed] = self._run(choice.name, source, seed, self._met(source, where), where)
            self._asked.pop()
        return self.sources[choice.name, seed]

    def _met(self, source: Source, where: str) -> Conditions:
        if source.benchmark is None:
            return self.here
        if where not in self._conditions:
            chosen = source.benchmark
            choice = BenchmarkChoice.model_validate({"name": chosen}) if isinstance(chosen, str) else chosen
            self._conditions[where] = self._meet(choice, f"{where}.benchmark")
        return self._conditions[where]

    def _meet(self, choice: BenchmarkChoice, where: str) -> Conditions:
        met, asked = resolve_choice(choice, where), self.study.evaluation
        evaluation = Evaluation(every=asked.every, episodes=asked.episodes or met.episodes)
        return Conditions(met.benchmark, met.tasks, met.held_out, evaluation)

    def _choices(self) -> list[tuple[str, str, MethodChoice]]:
        """Every arm and every source: where it stands, its name, and itself."""
        arms: list[tuple[str, str, MethodChoice]] = [("arms", name, arm) for name, arm in self.study.arms.items()]
        return arms + [("sources", name, source) for name, source in self.study.sources.items()]

    def _refuse_unknown_methods(self) -> None:
        for kind, name, chosen in self._choices():
            if chosen.method not in method_names():
                place = validation.join(self.where, kind, name, "method")
                raise validation.unknown(place, "method", chosen.method, method_names(), "docs/methods/")

    def _refuse_unused_settings(self) -> None:
        methods = sorted({chosen.method for _, _, chosen in self._choices()})
        known = sorted({key for method in methods for key in settings_model(method).model_fields})
        for key in self.study.settings:
            if key not in known:
                raise validation.unknown(f"{self.where}: settings.{key}", "key", key, known)

    def _refuse_shared_names(self) -> None:
        both: list[ArmName] = [name for name in self.study.sources if name in self.study.arms]
        if both:
            raise SpecificationError(
                f"{self.where}: sources.{both[0]}: is also the name of an arm; `mtrepro status` could not tell them "
                f"apart\n  give the source another name\n  see {PAGE}"
            )


def _refuse_twins(runs: list[Run], where: str) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        twin = seen.setdefault(run.name, run)
        if twin is not run:
            raise SpecificationError(
                f"{where}: arms.{run.arm}: is the same as arm {twin.arm}: every setting is equal\n"
                "  change a setting of one, or remove it"
            )
