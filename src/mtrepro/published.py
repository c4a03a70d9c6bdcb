"""Printed numbers: what stands in config/published/, and which of them a study is compared with.

A printed number is a row of its paper's file, with where it was read; a cell that nobody could read is a row too, named
and empty. What a study's entry resolves to goes into the manifest whole, so that the analysis reads no configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from mtrepro import validation
from mtrepro.errors import SpecificationError
from mtrepro.paths import root, shown
from mtrepro.specification import Specification, Strict

PAGE = "docs/reviewing.md"
Sentence = Annotated[str, StringConstraints(min_length=1)]
Point = Literal["final", "best_of_mean_curve"]
NOBODY_SAID = (
    "nobody has said whether the conditions are the paper's: name what differs in conditions_differ, or say why they "
    "are alike in conditions_alike"
)


class PrintedRow(Strict):
    """A number that a paper prints, or the empty cell where nobody could read it: `value` or `missing`, not both."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="name of the row, unique in its file and stable")
    table: str = Field(description="table, figure or section of the paper")
    benchmark: str = Field(description="benchmark as printed")
    steps: str = Field(description="budget as printed")
    vector_steps: int | None = Field(description="that budget per environment; null where it is not known", ge=0)
    method: str = Field(description="method as printed")
    metric: str = Field(description="what was measured, in the paper's words")
    statistic: Literal["mean", "iqm"] = Field("mean", description="how the scores of seeds and tasks were summarised")
    column: Point | None = Field(None, description="which of our columns the paper's is; null: another, or not known")
    unit: Literal["share", "percent", "return", "seconds"] | None = Field(
        None, description="unit of value and error; a share or percent of success, or the return of an episode"
    )
    highest: float | None = Field(
        None, gt=0, description="of a return: the most that an episode can give, 0 being the least; null: not known"
    )
    value: float | None = Field(None, description="the number as printed; null in an empty cell")
    error: float | None = Field(None, ge=0, description="the error as printed; null where there is none")
    error_kind: Literal["stderr", "SEM", "std", "population std", "not stated"] | None = Field(
        None,
        description="what the error is; stderr and SEM are one thing under two names; std divides by n - 1, population "
        "std by n; null without an error",
    )
    seeds: int | None = Field(gt=0, description="runs behind the number; null where it is not known")
    conditions: str = Field(description="environments, rewards, horizon and code, as far as they are known")
    source: str | None = Field(None, description="where the number was read")
    trust: Literal["primary", "paper text", "secondary"] | None = Field(
        None, description="primary: the authors' own; paper text: the paper, read; secondary: somebody's transcription"
    )
    note: str = Field("", description="what else a reader must know")
    text_embedding: bool = Field(False, description="whether the method reads mtrl's embedding of task descriptions")
    missing: Sentence | None = Field(None, description="in an empty cell: why it is empty, and how to fill it")

    @model_validator(mode="after")
    def _value_or_missing(self) -> Self:
        if self.value is not None and self.missing is not None:
            raise ValueError(f"row {self.id!r} has a value and says that it is missing: remove one of the two")
        if self.value is None and self.missing is None:
            raise ValueError(f"row {self.id!r} has no value: give it, or say in `missing` why nobody could read it")
        if self.value is None and self.error is not None:
            raise ValueError(f"row {self.id!r} has an error without a value")
        for key in ("unit", "source", "trust") if self.value is not None else ():
            if getattr(self, key) is None:
                raise ValueError(f"row {self.id!r} has a value but no {key}: say it, or nobody can trust the number")
        if (self.error is None) != (self.error_kind is None):
            raise ValueError(f"row {self.id!r} needs both error and error_kind, or neither")
        if self.highest is not None and self.unit != "return":
            raise ValueError(f"row {self.id!r} has a highest return but no return: a share has its highest by itself")
        return self

    @property
    def tasks(self) -> int | None:
        """How many tasks the benchmark has, by its name: MT10 has ten."""
        found = re.match(r"MT(\d+)", self.benchmark)
        return int(found[1]) if found else None


class Paper(Strict):
    """A file in config/published/: what one paper prints."""

    schema_version: Literal[1] = Field(description="version of this file format")
    paper: str = Field(description="name, authors, where and when")
    arxiv: str | None = Field(description="its number on arXiv")
    rows: list[PrintedRow] = Field(min_length=1, description="a row for each printed number")

    @field_validator("rows")
    @classmethod
    def _ids_once(cls, rows: list[PrintedRow]) -> list[PrintedRow]:
        ids = [row.id for row in rows]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"id {name!r} is given {ids.count(name)} times; a study must know which one it means")
        return rows


class Comparison(Strict):
    """A printed number that one arm of a study is compared with."""

    cell: str = Field(description="file and row in config/published/, as in care/mt10-2m-care")
    arm: str = Field(description="the arm that is compared")
    step: int | None = Field(None, ge=0, description="vector step at which our curve is read; null means its end")
    column: Point = Field(description="the evaluation at `step`, or the best point of the mean curve up to there")
    conditions_differ: list[Sentence] = Field([], description="what differs from the paper in this comparison alone")


@dataclass(frozen=True)
class Compared:
    """A comparison, resolved: the printed row, the step, and every reason why the two numbers are not comparable.

    `alike` is the study's word for why the conditions are the paper's; None where it says nothing of the kind.
    """

    comparison: Comparison
    paper: Paper
    row: PrintedRow
    step: int
    differs: tuple[str, ...]
    alike: str | None

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            **self.comparison.model_dump(include={"cell", "arm"}),
            "step": self.step,
            "column": self.comparison.column,
            "differs": list(self.differs),
            "conditions_alike": self.alike,
            "printed": {"paper": self.paper.paper, "arxiv": self.paper.arxiv, **self.row.model_dump(mode="json")},
        }


def read_paper(name: str, where: str) -> Paper:
    """config/published/<name>.yaml; `where` names the key that asked for it.

    Raises:
        SpecificationError: there is no such file, or it cannot be meant as written.
    """
    folder = root() / "config" / "published"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise validation.unknown(where, "paper", name, known, PAGE)
    path = folder / f"{name}.yaml"
    return validation.validate(Paper, validation.read_yaml(path), shown(path), PAGE)


def resolve_comparisons(
    comparisons: Sequence[Comparison],
    conditions: Sequence[str],
    alike: str | None,
    arms: Mapping[str, Specification],
    tasks: int,
    where: str,
) -> tuple[Compared, ...]:
    """Find the cells, the arms and the steps of a study's comparisons.

    Args:
        conditions: what differs from the papers in every comparison of the study.
        alike: why nothing does; None where nobody has said so.
        arms: the specification of one run of each arm.
        tasks: how many tasks the study's benchmark has.
        where: the study's file.

    Raises:
        SpecificationError: a cell, an arm or a step that there is not.
    """
    papers: dict[str, Paper] = {}
    resolved = []
    for index, comparison in enumerate(comparisons):
        place = validation.join(where, "published", index)
        name, _, row_id = comparison.cell.partition("/")
        if name not in papers:
            papers[name] = read_paper(name, f"{place}.cell")
        row = _find_row(papers[name], comparison.cell, row_id, f"{place}.cell")
        if comparison.arm not in arms:
            raise validation.unknown(f"{place}.arm", "arm", comparison.arm, arms)
        step = _find_step(comparison, arms[comparison.arm], f"{place}.step")
        said = (*conditions, *comparison.conditions_differ)
        silence = () if said or alike else (NOBODY_SAID,)
        automatic = _differences(comparison, row, step, arms[comparison.arm], tasks)
        resolved.append(Compared(comparison, papers[name], row, step, (*said, *silence, *automatic), alike))
    return tuple(resolved)


def _find_row(paper: Paper, cell: str, row_id: str, where: str) -> PrintedRow:
    rows = {row.id: row for row in paper.rows}
    name = cell.partition("/")[0]
    if row_id not in rows:
        near = validation.nearest(cell, (f"{name}/{known}" for known in rows))
        raise SpecificationError(
            f"{where}: unknown cell {cell!r}\n"
            f"  known: the {len(rows)} rows of config/published/{name}.yaml{near}\n  see {PAGE}"
        )
    if rows[row_id].unit == "seconds":
        raise SpecificationError(f"{where}: {cell!r} is a time in seconds; what is compared here is success or return")
    return rows[row_id]


def _find_step(comparison: Comparison, run: Specification, where: str) -> int:
    step, every = comparison.step, run.evaluation.every
    if step is None:
        return run.budget
    if step > run.budget:
        raise SpecificationError(
            f"{where}: {step} is beyond the budget of arm {comparison.arm}, {run.budget} vector steps "
            f"(nearest: {run.budget})"
        )
    if step % every and step != run.budget:
        nearest = min((*range(0, run.budget + 1, every), run.budget), key=lambda known: abs(known - step))
        raise SpecificationError(
            f"{where}: {step} is not an evaluation: arm {comparison.arm} has one every {every} vector steps and at "
            f"{run.budget} (nearest: {nearest})"
        )
    return step


def _differences(comparison: Comparison, row: PrintedRow, step: int, run: Specification, tasks: int) -> Iterator[str]:
    """What differs without anybody having to say so."""
    if row.tasks is not None and row.tasks != tasks:
        yield f"the study has {tasks} tasks, {row.benchmark} has {row.tasks}"
    if row.vector_steps is None:
        yield f"how many vector steps the printed number took is not known (printed: {row.steps})"
    elif row.vector_steps != step:
        yield f"our curve is read at vector step {step:,}, the printed number took {row.vector_steps:,}"
    if row.column is None:
        yield "which point of the curve the paper prints is not known, or is none of ours"
    elif row.column != comparison.column:
        yield f"the paper's number is {_WORDS[row.column]}, ours {_WORDS[comparison.column]}"
    reference = run.settings.get("task_embedding")
    if row.text_embedding and not isinstance(reference, str):
        yield "the printed method reads a text embedding, this arm reads none"
    elif row.text_embedding and isinstance(reference, str) and not _is_published(reference):
        yield f"task embedding {reference.partition('@')[0]} is not the published one (mtrl's RoBERTa)"
    yield from run.learner.unlike_papers()


_WORDS = {"final": "the evaluation at one step", "best_of_mean_curve": "the best point of the mean curve"}


def _is_published(reference: str) -> bool:
    from mtrepro import embeddings  # reads the vectors; only studies that name one pay for it

    return reference != embeddings.LEARNED and embeddings.is_published(reference)
