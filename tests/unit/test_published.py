"""Printed numbers: every committed row, and what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import paths
from mtrepro.errors import SpecificationError
from mtrepro.published import PrintedRow, read_paper

COLLECTED = paths.root().parent / "shared" / "facts"  # where the numbers were collected
FACTS, DREAMER_FACTS = COLLECTED / "published-sac.yaml", COLLECTED / "published-dreamer.yaml"
DREAMER = ("dreamer", "dreamer_v2")
COUNTS = {
    "cagrad": 18,
    "care": 60,
    "dreamer": 3,
    "dreamer_v2": 3,
    "meta_world_plus": 21,
    "nash_mtl": 12,
    "ntkmtl": 6,
    "offline_mtrl": 6,
    "ptsl": 26,  # all empty
    "ptsl_readme": 3,
    "soft_modularization": 34,
    "t3s": 28,
}
ROW: dict[str, Any] = {
    "id": "mt10-2m-care",
    "table": "Table 1",
    "benchmark": "MT10",
    "steps": "2M per task",
    "vector_steps": 2_000_000,
    "method": "CARE",
    "metric": "mean success",
    "unit": "share",
    "value": 0.84,
    "error": 0.051,
    "error_kind": "stderr",
    "seeds": 10,
    "conditions": "v1",
    "source": "the paper",
    "trust": "paper text",
}


# The committed files


def committed() -> dict[str, list[PrintedRow]]:
    names = sorted(path.stem for path in (paths.root() / "config" / "published").glob("*.yaml"))
    return {name: read_paper(name, "a test").rows for name in names}


def test_every_committed_row_loads_and_is_counted() -> None:
    rows = committed()
    assert {name: len(each) for name, each in rows.items()} == COUNTS
    assert sum(COUNTS.values()) - COUNTS["ptsl"] == 194  # the printed numbers
    assert all(row.missing is None for name, each in rows.items() if name != "ptsl" for row in each)


def test_ids_are_unique_in_their_file() -> None:
    for name, rows in committed().items():
        assert len({row.id for row in rows}) == len(rows), name


def test_ptsl_is_named_cells_without_numbers() -> None:
    rows = committed()["ptsl"]
    assert all(row.value is None and row.error is None and row.missing for row in rows)
    sizes = {(row.benchmark, row.steps) for row in rows[:20]}
    assert sizes == {("MT10", "200K"), ("MT10", "1M"), ("MT50", "200K"), ("MT50", "1M")}
    assert {row.vector_steps for row in rows} == {200_000, 1_000_000}  # the ablations' are the README's
    assert all("column" in str(row.missing) and "vector_steps" in str(row.missing) for row in rows)
    assert [row.id for row in rows[20:]] == [
        *("projection-shared", "projection-independent"),
        *("residual-none", "residual-sum", "residual-linear", "residual-project"),
    ]


@pytest.mark.skipif(not FACTS.exists(), reason="the collected facts are not part of the checkout")
def test_numbers_and_provenance_are_those_that_were_collected() -> None:
    facts = [tuple(map(str, _fact(row))) for row in yaml.safe_load(FACTS.read_text())]
    ours = [
        tuple(map(str, _comparable(row, read_paper(name, "a test").paper)))
        for name, rows in committed().items()
        for row in rows
        if row.missing is None and name not in DREAMER
    ]
    assert sorted(ours) == sorted(facts)


@pytest.mark.skipif(not DREAMER_FACTS.exists(), reason="the collected facts are not part of the checkout")
def test_the_dreamer_rows_are_those_that_were_collected() -> None:
    words = ("paper", "arxiv", "env", "method", "metric", "value", "error", "error_kind", "seeds", "source")
    facts = [tuple(row[key] for key in words) for row in yaml.safe_load(DREAMER_FACTS.read_text())]
    for name in DREAMER:
        paper = read_paper(name, "a test")
        assert [row.id for row in paper.rows] == ["cartpole-swingup", "cheetah-run", "walker-walk"]
        for row in paper.rows:
            kind = f"{row.error_kind} over seeds"
            numbers = (row.value, row.error, kind, row.seeds, row.source)
            assert (paper.paper, paper.arxiv, row.benchmark, row.method, row.metric, *numbers) in facts
            steps = int(row.metric.split("env step ")[1].split()[0])
            assert (row.vector_steps, row.steps) == (steps // 2, f"{steps:,} environment steps")
            assert (row.unit, row.highest, row.trust) == ("return", 1000, "primary")


def _fact(row: dict[str, Any]) -> tuple[Any, ...]:
    kind = "not stated" if str(row["error_kind"]).startswith("not stated") else row["error_kind"]
    number = [None if row[key] is None else float(row[key]) for key in ("value", "error")]
    words = [row[key] for key in ("paper", "table", "benchmark", "steps", "method", "metric", "seeds", "source")]
    return (*words, *number, kind, row["metaworld_version"], row["trust"].partition(", ")[0])


def _comparable(row: PrintedRow, paper: str) -> tuple[Any, ...]:
    words = (paper, row.table, row.benchmark, row.steps, row.method, row.metric, row.seeds, row.source)
    return (*words, row.value, row.error, row.error_kind, row.conditions, row.trust)


@pytest.mark.skipif(not FACTS.exists(), reason="the collected facts are not part of the checkout")
def test_what_the_short_words_leave_out_stands_in_the_note() -> None:
    facts = yaml.safe_load(FACTS.read_text())
    notes = {(row.method, row.benchmark, row.value): row.note for rows in committed().values() for row in rows}
    for row in facts:
        note = notes[row["method"], row["benchmark"], float(row["value"])]
        assert row["trust"].partition(", ")[2] in note
        assert str(row["error_kind"]) in note or row["error_kind"] in (None, "stderr", "SEM", "not stated")


# What a file may not say


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any]) -> str:
    path = folder / "config" / "published" / "care.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"schema_version": 1, "paper": "CARE", "arxiv": None, "rows": list(rows)}))
    monkeypatch.setenv("MTREPRO_ROOT", str(folder))
    with pytest.raises(SpecificationError) as caught:
        read_paper("care", "a test")
    text = str(caught.value)
    assert text.startswith("config/published/care.yaml: ") and text.endswith("\n  see docs/reviewing.md")
    return text.removeprefix("config/published/care.yaml: ").removesuffix("\n  see docs/reviewing.md")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"missing": "not read"},
            "rows.0: row 'mt10-2m-care' has a value and says that it is missing: remove one of the two",
        ),
        (
            {"value": None, "error": None, "error_kind": None},
            "rows.0: row 'mt10-2m-care' has no value: give it, or say in `missing` why nobody could read it",
        ),
        ({"value": None, "missing": "not read"}, "rows.0: row 'mt10-2m-care' has an error without a value"),
        (
            {"trust": None},
            "rows.0: row 'mt10-2m-care' has a value but no trust: say it, or nobody can trust the number",
        ),
        ({"error_kind": None}, "rows.0: row 'mt10-2m-care' needs both error and error_kind, or neither"),
        (
            {"trust": "secondhand"},
            "rows.0.trust: unknown trust 'secondhand'\n  known: primary, paper text, secondary (nearest: secondary)",
        ),
        (
            {"highest": 1000.0},
            "rows.0: row 'mt10-2m-care' has a highest return but no return: a share has its highest by itself",
        ),
        (
            {"error_kind": "stdder"},
            "rows.0.error_kind: unknown error_kind 'stdder'\n"
            "  known: stderr, SEM, std, population std, not stated (nearest: stderr)",
        ),
        ({"error": -0.1}, "rows.0.error: input should be greater than or equal to 0, found -0.1"),
    ],
)
def test_a_row_that_cannot_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    assert refused(tmp_path, monkeypatch, ROW | changed) == message


def test_an_id_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(tmp_path, monkeypatch, ROW, ROW | {"value": 0.5}) == (
        "rows: id 'mt10-2m-care' is given 2 times; a study must know which one it means"
    )
