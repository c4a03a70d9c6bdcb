"""Verdicts on printed returns: worked by hand; the margin is a tenth of what an episode can give."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrepro.analysis import published
from tests.unit.analysis_fixture import printed
from tests.unit.test_verdicts import SEEDS, by_seed, four, numbers

# Ours: 800, 820, 840, 860: as above, in thousandths of the highest return. Printed 840 with population std 60 of 10
# seeds: standard error 60 / sqrt(9) = 20.
RETURN = {"unit": "return", "highest": 1000.0, "value": 840.0, "error": 60.0, "error_kind": "population std"}
RETURNS = four(score=lambda *where: 1000 * by_seed(SEEDS)(*where))


@pytest.mark.parametrize(("value", "verdict"), [(840.0, "reproduced"), (950.0, "undecided"), (990.0, "differs")])
def test_a_return_is_judged_by_a_tenth_of_the_highest(tmp_path: Path, value: float, verdict: str) -> None:
    (row,) = numbers(tmp_path, [printed(**RETURN | {"value": value})], RETURNS)
    assert (row["value"], row["margin"], row["printed_standard_error"], row["unit"]) == ("830", "100", "20", "return")
    assert row["verdict"] == verdict
    found = [float(row[key]) for key in ("difference", "difference_low", "difference_high")]
    assert found == pytest.approx([830 - value, 778.07 - value, 881.93 - value], abs=0.03)
    text = (tmp_path / "study-fake" / "tables" / "published_table.md").read_text()
    assert "Return of an episode. Ours" in text and "Margin: ±100 return." in text
    shown = (
        f"| {value:g} ± 60 (population std, 10 seeds) | paper text | 830 [810, 850] @ 500 | 4/4 | {830 - value:+.1f} ["
    )
    assert shown in text


def test_a_return_without_a_highest_decides_nothing(tmp_path: Path) -> None:
    (row,) = numbers(tmp_path, [printed(**RETURN | {"highest": None})], RETURNS)
    assert (row["verdict"], row["why"], row["margin"]) == ("undecided", published.NO_SCALE, "")
    assert "Margin: not known." in (tmp_path / "study-fake" / "tables" / "published_table.md").read_text()


def test_success_and_return_in_one_study_have_a_margin_each(tmp_path: Path) -> None:
    share, reward = numbers(tmp_path, [printed(), printed("dreamer/a", **RETURN)], RETURNS)
    assert (share["margin"], reward["margin"]) == ("0.1", "100")
    text = (tmp_path / "study-fake" / "tables" / "published_table.md").read_text()
    assert "Success, as a share. Return of an episode. Ours" in text
    assert "Margin: ±0.10 success, ±100 return." in text
