"""Verdicts: worked by hand, and against scipy; the numbers of published.csv; the table that people read."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mtrepro.analysis import published, statistics
from mtrepro.analysis.aggregate import aggregate
from mtrepro.analysis.published_table import verdict_line
from mtrepro.analysis.tables import write_tables
from mtrepro.analysis.verdicts import Difference, Estimate, Verdict, difference, judge, missing_spread, standard_error
from tests.unit.analysis_fixture import RANDOM_POLICY, FakeArm, FakeStudy, printed

ACROSS = "the interval lies neither wholly within the margin nor wholly outside it"
SEEDS = {0: [0.0, 0.80], 1: [0.0, 0.82], 2: [0.0, 0.84], 3: [0.0, 0.86]}  # at steps 0 and 500


def by_seed(values: dict[int, list[float]]) -> Callable[..., float]:
    return lambda seed, step, task, episode, metric: values[seed][step // 500]


def four(**changed: Any) -> FakeArm:
    return FakeArm(**({"seeds": range(4), "steps": (0, 500), "score": by_seed(SEEDS)} | changed))


def numbers(folder: Path, entries: Sequence[dict[str, Any]], *arms: FakeArm) -> list[dict[str, str]]:
    study = FakeStudy(folder, arms or (four(),), published=entries).write()
    aggregate(study, study / "tables")
    write_tables(study / "tables", study / "tables")
    with (study / "tables" / "published.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# Ours: 0.80, 0.82, 0.84, 0.86. Mean 0.83; s^2 = (0.03^2 + 0.01^2 + 0.01^2 + 0.03^2) / 3 = 6.6667e-4,
# error^2 = s^2 / 4 = 1.6667e-4. Printed with standard error 0.02 of ten seeds, 4e-4: together 5.6667e-4,
# error 0.023805; df = 5.6667e-4^2 / (1.6667e-4^2 / 3 + 4e-4^2 / 9) = 3.2111e-7 / 2.7037e-8 = 11.877; t = 2.1814;
# reach 0.05193.
@pytest.mark.parametrize(
    ("changed", "low", "high", "verdict", "why"),
    [
        # 0.83 - 0.84 = -0.01
        ({"value": 0.84}, -0.06193, 0.04193, "reproduced", "the whole interval lies within the margin"),
        # 0.83 - 0.95 = -0.12
        ({"value": 0.95}, -0.17193, -0.06807, "undecided", ACROSS),  # 0 is outside it
        # 0.83 - 0.99 = -0.16
        ({"value": 0.99}, -0.21193, -0.10807, "differs", "the whole interval lies outside the margin"),
        # error^2 = 1.6667e-4 + 2.5e-3 = 2.6667e-3, error 0.05164; df = 7.1111e-6 / (9.2593e-9 + 2.5e-3^2 / 2) = 2.2688;
        # t = 3.8492; reach 0.19877
        (
            {"value": 0.84, "error": 0.05, "seeds": 3},
            *(-0.20877, 0.18877, "undecided", ACROSS),
        ),
        (
            {"value": 0.84, "differs": ["Version 3, not 1.", "B"]},
            *(-0.06193, 0.04193, "not comparable", "Version 3, not 1; B"),
        ),
        (
            {"value": 0.84, "conditions_alike": "their code, our machine."},
            *(-0.06193, 0.04193, "reproduced"),
            "the whole interval lies within the margin; conditions alike, as the study says: their code, our machine",
        ),
    ],
)
def test_a_verdict_worked_by_hand(
    tmp_path: Path, changed: dict[str, Any], low: float, high: float, verdict: str, why: str
) -> None:
    (row,) = numbers(tmp_path, [printed(**changed)])
    assert (row["value"], row["verdict"], row["why"], row["margin"]) == ("0.83", verdict, why, "0.1")
    assert float(row["difference"]) == pytest.approx(0.83 - changed["value"])
    assert float(row["difference_low"]) == pytest.approx(low, abs=3e-5)
    assert float(row["difference_high"]) == pytest.approx(high, abs=3e-5)


@pytest.mark.parametrize(("ours", "theirs"), [(3, 10), (10, 3), (5, 5)])
def test_the_interval_is_welch_s_as_scipy_has_it(ours: int, theirs: int) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.6, 0.1, ours), rng.normal(0.5, 0.3, theirs)
    of_a, of_b = (Estimate(x.mean(), x.std(ddof=1) / math.sqrt(len(x)), len(x)) for x in (a, b))
    found = difference(of_a, of_b)
    assert found.low is not None and found.high is not None
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-4)
    for end in (found.low, found.high):  # at either end the difference is just significant
        test = stats.ttest_ind_from_stats(
            a.mean() - end, a.std(ddof=1), ours, b.mean(), b.std(ddof=1), theirs, equal_var=False
        )
        assert test.pvalue == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "seeds", "expected"),
    [("stderr", 10, 0.06), ("SEM", 10, 0.06), ("std", 9, 0.02), ("not stated", 9, None), ("std", None, None),
     ("population std", 10, 0.02), ("population std", 1, None), ("stderr", 1, None)],
)  # fmt: skip
def test_a_printed_error_becomes_a_standard_error_by_its_kind(
    kind: str, seeds: int | None, expected: float | None
) -> None:
    assert standard_error(0.06, kind, seeds) == (None if expected is None else pytest.approx(expected))


def test_the_error_over_runs_of_a_mean_is_s_over_root_n() -> None:
    scores = np.random.default_rng(1).normal(size=(6, 4))
    expected = scores.mean(axis=1).std(ddof=1) / math.sqrt(6)
    assert statistics.error_over_runs(scores, statistics.mean) == pytest.approx(expected)
    assert math.isnan(statistics.error_over_runs(scores[:1], statistics.mean))


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        (four(missing=(1,)), "3 of 4 seeds have scores"),
        (four(diverged={1: 500}), "1 run diverged"),
        (four(inexact=(0, 2)), "2 runs are not bit-exact"),
        (four(seeds=(0, 1)), "2 seeds present, a verdict needs 3"),
        (four(seeds=(0,)), "1 seed present, a verdict needs 3"),
        (four(missing=range(4)), "no run is there yet"),
    ],
)
def test_runs_that_are_not_the_evidence_asked_for_decide_nothing(tmp_path: Path, arm: FakeArm, why: str) -> None:
    (row,) = numbers(tmp_path, [printed()], arm)
    assert (row["verdict"], row["why"]) == ("undecided", why)


def test_percent_becomes_a_share_with_its_error(tmp_path: Path) -> None:
    share, percent = numbers(tmp_path, [printed(), printed(unit="percent", value=84.0, error=2.0)])
    assert (share.pop("unit"), percent.pop("unit")) == ("share", "percent")
    assert percent == share
    assert (percent["printed"], percent["printed_error"], percent["printed_standard_error"]) == ("0.84", "0.02", "0.02")


def test_the_best_column_looks_no_further_than_the_step(tmp_path: Path) -> None:
    values = {seed: [0.1, 0.5, 0.3, 0.9] for seed in range(3)}
    arm = FakeArm(steps=(0, 500, 1000, 1500), score=by_seed(values))
    columns = [("best_of_mean_curve", 1000), ("best_of_mean_curve", 1500), ("final", 1000), ("final", 1500)]
    rows = numbers(tmp_path, [printed(column=column, step=step) for column, step in columns], arm)
    assert [(row["step"], row["value"]) for row in rows] == [
        *(("500", "0.5"), ("1500", "0.9")),
        *(("1000", "0.3"), ("1500", "0.9")),
    ]


def test_a_printed_iqm_is_compared_with_ours(tmp_path: Path) -> None:
    arm = four(score=lambda seed, step, task, episode, metric: float(seed == 3 or (seed == 2 and task == 0)))
    mean, iqm = numbers(tmp_path, [printed(), printed(statistic="iqm")], arm)
    # of the 12 scores four are 1; the IQM is the mean of the middle six, of which one is
    assert (mean["value"], iqm["value"]) == ("0.333333", "0.166667")


def test_an_empty_cell_has_no_verdict_and_says_how_to_fill_it(tmp_path: Path) -> None:
    missing = {"value": None, "unit": None, "error": None, "error_kind": None, "missing": "put the number here"}
    (row,) = numbers(tmp_path, [printed(**missing, differs=["A"])])
    assert (row["printed"], row["difference"], row["verdict"]) == ("", "", "no printed number")
    text = (tmp_path / "study-fake" / "tables" / "published_table.md").read_text()
    assert "| not read |" in text and "| no printed number (1) |" in text
    assert "\n(1) nobody could read the printed number: put the number here.\n" in text


def test_runs_without_success_are_not_comparable(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (four(),), metrics=("return",), published=[printed()]).write()
    aggregate(study, study / "tables")
    assert "not comparable,our runs do not measure success" in (study / "tables" / "published.csv").read_text()


NONE = "the paper gives no standard error"
ALIKE = "our runs all score alike: no spread was observed"


@pytest.mark.parametrize(
    ("score", "changed", "shown", "why"),
    [
        (None, {"value": 0.88, "error": None, "error_kind": None}, "-0.05", NONE),
        (None, {"value": 0.13, "error": None, "error_kind": None}, "0.7", NONE),
        (None, {"value": 0.88, "error_kind": "not stated"}, "-0.05", NONE),
        (None, {"value": 0.88, "error_kind": "std", "seeds": None}, "-0.05", NONE),
        (None, {"value": 0.88, "error": 0.0}, "-0.05", "the paper's standard error is 0: it observed no spread"),
        (0.8, {"value": 0.79}, "0.01", ALIKE),
        (0.1, {"value": 0.9}, "-0.8", ALIKE),
        (1.0, {"value": 0.95, "error": None, "error_kind": None}, "0.05", f"{ALIKE}; {NONE}"),
    ],
)
def test_without_a_spread_on_either_side_nothing_is_certain(
    tmp_path: Path, score: float | None, changed: dict[str, Any], shown: str, why: str
) -> None:
    arm = four() if score is None else four(score=lambda *where: score)
    (row,) = numbers(tmp_path, [printed(**changed)], arm)
    assert (row["verdict"], row["why"], row["difference"]) == ("undecided", why, shown)
    assert row["difference_low"] == row["difference_high"] == ""
    text = (tmp_path / "study-fake" / "tables" / "published_table.md").read_text()
    assert f"| {float(shown):+.2f} | undecided (1) |" in text


def test_rounding_is_no_spread() -> None:
    assert statistics.error_over_runs(np.full((10, 50), 0.02), statistics.mean) < 1e-15  # and not 0 everywhere
    ours, theirs = Estimate(0.1, 1e-17, 10), Estimate(0.1, 0.02, 10)
    assert difference(ours, theirs) == Difference(0.0)
    assert missing_spread(ours, theirs) == [ALIKE] and missing_spread(theirs, ours)[0].startswith(
        "the paper's standard"
    )
    assert missing_spread(Estimate(0.1, None, 1), theirs) == []  # too few runs are counted elsewhere


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.1, 0.1, "reproduced"),
        (0.02, 0.1, "reproduced"),  # a difference, too small to matter
        (0.02, 0.101, "undecided"),
        (-0.101, -0.02, "undecided"),
        (-0.3, 0.3, "undecided"),
        (0.1, 0.3, "undecided"),
        (0.101, 0.3, "differs"),
        (-0.3, -0.101, "differs"),
    ],
)
def test_a_verdict_is_claimed_where_the_whole_interval_is_on_one_side_of_the_margin(
    low: float, high: float, word: str
) -> None:
    assert judge(Difference((low + high) / 2, low, high), [], [], seeds=3).word == word
    assert judge(Difference((low + high) / 2, low, high), ["a doubt"], ["a caveat"], seeds=3) == Verdict(
        "undecided", "a doubt; a caveat"
    )


@pytest.mark.parametrize(
    ("changed", "seeds"),
    [({"seeds": 10}, "10"), ({"seeds": 4}, None), ({"seeds": None}, "not known"), ({"column": "final"}, None)],
)
def test_a_best_point_over_another_number_of_seeds_has_another_bias(
    tmp_path: Path, changed: dict[str, Any], seeds: str | None
) -> None:
    (row,) = numbers(tmp_path, [printed(**{"column": "best_of_mean_curve"} | changed)])
    sentence = f"seeds behind the best point: ours 4, the paper's {seeds}; its upward bias depends on seeds and"
    assert (sentence in row["why"]) == (seeds is not None)
    assert ("upward bias" in row["why"]) == (seeds is not None)


# What is written


def test_the_table_has_every_number_and_each_reason_once(tmp_path: Path) -> None:
    entries = [printed(), printed("care/b", value=0.99), printed("care/c", "random"), printed("care/d", value=0.85)]
    numbers(tmp_path, entries, four(label="CARE & co"), RANDOM_POLICY)
    folder = tmp_path / "study-fake" / "tables"
    text = (folder / "published_table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| care/")]
    assert lines[0] == (
        "| care/mt10-2m-care | CARE & co | 0.84 ± 0.02 (stderr, 10 seeds) | paper text | 0.83 [0.81, 0.85] @ 500 | 4/4 "
        "| -0.01 [-0.06, +0.04] | reproduced (1) |"
    )
    assert [line.rsplit("(", 1)[1][0] for line in lines] == ["1", "2", "3", "1"]
    assert "Margin: ±0.10 success" in text
    assert "care/b: CARE, arXiv 2102.06177, Table 1: CARE on MT10, 2M per task; mean success; conditions: v1" in text
    latex = (folder / "published_table.tex").read_text()
    assert latex.isascii() and r"0.84 $\pm$ 0.02" in latex and r"CARE \& co" in latex
    assert verdict_line(folder) == "printed numbers: 2 reproduced, 1 differs, 1 undecided; why: published_table.md"


def test_a_study_that_names_nothing_says_so(tmp_path: Path) -> None:
    assert numbers(tmp_path, []) == []
    folder = tmp_path / "study-fake" / "tables"
    assert (folder / "published.csv").read_text() == ",".join(published.COLUMNS) + "\n"
    for kind in ("md", "tex"):
        assert (folder / f"published_table.{kind}").read_text() == "This study is compared with no printed number.\n"
    assert verdict_line(folder) == ""


def test_a_manifest_older_than_the_comparison_still_loads(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (four(),))
    folder = study.write()
    manifest = (folder / "manifest.json").read_text()
    assert '"published": [], ' in manifest
    (folder / "manifest.json").write_text(manifest.replace('"published": [], ', ""))
    aggregate(folder, folder / "tables")
    assert (folder / "tables" / "published.csv").read_text().count("\n") == 1
