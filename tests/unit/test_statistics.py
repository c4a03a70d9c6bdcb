"""Statistics against hand-worked cases, slow loops, rliable, and properties that must always hold."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.random import Generator

from mtrepro.analysis import statistics

ALL = functools.partial(statistics.estimate, names=tuple(statistics.STATISTICS))

scores = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 3)),
)


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(0)


def test_statistics_of_a_case_worked_by_hand() -> None:
    # Means of the tasks: 0.25 0.75 0.5 1.0. All scores, sorted: 0 0.25 0.5 0.5 0.75 1 1 1
    table = np.array([[0.0, 0.5, 0.75, 1.0], [0.5, 1.0, 0.25, 1.0]])
    assert statistics.mean(table) == 0.625  # 5 / 8
    assert statistics.median(table) == 0.625  # between 0.5 and 0.75
    assert statistics.worst_task(table) == 0.25
    assert (
        statistics.interquartile_mean(table) == (0.5 + 0.5 + 0.75 + 1.0) / 4
    )  # without 0 and 0.25, without two of the ones


def test_iqm_of_three_scores_is_their_mean_because_nothing_is_cut() -> None:
    assert statistics.interquartile_mean(np.array([[0.0], [0.0], [3.0]])) == 1.0


def test_area_under_curve_is_the_time_average() -> None:
    # From 0 to 1 within 100 steps (average 0.5), then 1 for 300 steps: (50 + 300) / 400
    assert statistics.area_under_curve(np.array([0.0, 1.0, 1.0]), np.array([0.0, 100.0, 400.0])) == 0.875


def test_area_under_a_reference_is_its_only_score() -> None:
    assert statistics.area_under_curve(np.array([[0.2, 0.4]]), np.array([0.0])).tolist() == [0.2, 0.4]


def test_statistics_of_many_evaluations_at_once_are_those_of_each(rng: Generator) -> None:
    table = rng.random((7, 5, 3))
    expected = np.stack([ALL(each) for each in table], axis=-1)
    np.testing.assert_array_equal(ALL(table), expected)


def test_point_estimates_are_rliable_s(rng: Generator) -> None:
    reference = pytest.importorskip("rliable.metrics")
    table = rng.random((7, 9))
    assert statistics.mean(table) == pytest.approx(reference.aggregate_mean(table), rel=1e-12)
    assert statistics.median(table) == pytest.approx(reference.aggregate_median(table), rel=1e-12)
    assert statistics.interquartile_mean(table) == pytest.approx(reference.aggregate_iqm(table), rel=1e-12)


@pytest.mark.filterwarnings("ignore")  # arch 7.2 warns of the argument that rliable gives it
def test_stratified_interval_is_rliable_s(rng: Generator) -> None:
    library, reference = pytest.importorskip("rliable.library"), pytest.importorskip("rliable.metrics")
    table = rng.random((6, 5))
    np.random.seed(0)  # rliable ignores the seed that it is given, and takes numpy's global one

    def estimates(values: Any) -> Any:
        return np.array([reference.aggregate_mean(values), reference.aggregate_iqm(values)])

    _, found = library.get_interval_estimates({"arm": table}, estimates, reps=2000)
    own = functools.partial(statistics.estimate, names=("mean", "iqm"))
    low, high = statistics.bootstrap_interval(table, own, rng, resamples=2000)
    # Measured: at 2000 resamples an end scatters by 2 % of the width; both scatter, so 10 % is 3.5 standard deviations
    np.testing.assert_allclose(np.stack([low, high]), found["arm"], atol=float(0.1 * np.min(high - low)))


def test_stratified_interval_equals_a_loop_that_draws_each_task_s_seeds_by_itself(rng: Generator) -> None:
    table, resamples = rng.normal(size=(4, 3)), 200
    stream = np.random.default_rng(1)
    drawn = [stream.integers(0, 4, (resamples, 4)) for _ in range(3)]
    values = []
    for index in range(resamples):
        middle = sorted(table[drawn[task][index][seed], task] for task in range(3) for seed in range(4))[3:-3]
        values.append(sum(middle) / len(middle))
    expected = np.quantile(values, [0.025, 0.975])
    found = statistics.bootstrap_interval(
        table, statistics.interquartile_mean, np.random.default_rng(1), resamples=resamples
    )
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-12)


def test_interval_over_runs_equals_a_loop_that_draws_whole_rows(rng: Generator) -> None:
    table, resamples = rng.normal(size=(4, 3)), 200
    rows = np.random.default_rng(1).integers(0, 4, (resamples, 4))
    expected = np.quantile([table[row].mean() for row in rows], [0.025, 0.975])
    found = statistics.bootstrap_interval(
        table, statistics.mean, np.random.default_rng(1), unit="run", resamples=resamples
    )
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-12)


def test_runs_that_fail_on_all_tasks_together_widen_the_interval_over_runs_only(rng: Generator) -> None:
    table = np.repeat(np.array([[1.0], [1.0], [0.0], [1.0], [0.0]]), 10, axis=1)
    width = {}
    units: tuple[Literal["task", "run"], ...] = ("task", "run")
    for unit in units:
        low, high = statistics.bootstrap_interval(table, statistics.mean, rng, unit=unit, resamples=2000)
        width[unit] = float(high - low)
    assert width["run"] > 2.5 * width["task"]  # 2.9; the square root of ten tasks is 3.2


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits, trials = np.random.default_rng(3), 0, 300
    for _ in range(trials):
        low, high = statistics.bootstrap_interval(rng.normal(size=(10, 5)), statistics.mean, rng, resamples=500)
        hits += int(low <= 0 <= high)
    # Percentile intervals of ten seeds are known to be somewhat narrow: 91 % here; the binomial scatter is 1.6 %
    assert 0.87 <= hits / trials <= 0.98


def test_one_seed_has_no_interval(rng: Generator) -> None:
    low, high = statistics.bootstrap_interval(rng.random((4, 1, 3)), ALL, rng)
    assert low.shape == high.shape == (4, 4)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_seeds_that_agree_have_an_interval_of_that_point(rng: Generator) -> None:
    low, high = statistics.bootstrap_interval(np.ones((3, 4)), ALL, rng, resamples=100)
    assert low.tolist() == high.tolist() == [1.0] * 4


def test_no_seeds_are_an_error_that_says_so(rng: Generator) -> None:
    with pytest.raises(statistics.EmptyScoresError, match="no scores to summarise: 0 seeds, 3 tasks"):
        statistics.mean(np.empty((0, 3)))
    with pytest.raises(statistics.EmptyScoresError):
        statistics.interquartile_mean(np.empty((0, 3)))
    with pytest.raises(statistics.EmptyScoresError):
        statistics.bootstrap_interval(np.empty((0, 3)), statistics.mean, rng)


def test_random_streams_follow_from_names_alone() -> None:
    # The number itself: it must be the same on every machine and in every version, or released tables would change
    assert statistics.random_stream("mt-sac", "success").integers(10**6) == 201540
    assert statistics.random_stream("mt-sac", "return").integers(10**6) != 201540


def test_memory_is_bounded_by_batches_that_leave_the_interval_as_it_is(
    rng: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rng.random((3, 5, 4))
    largest = 0

    def watched(values: statistics.Array) -> statistics.Array:
        nonlocal largest
        largest = max(largest, values.size)
        return statistics.mean(values)

    monkeypatch.setattr(statistics, "BATCH_NUMBERS", 600)
    statistics.bootstrap_interval(table, watched, rng, resamples=1000)
    assert largest == 600


@given(scores)
@settings(max_examples=60, deadline=None)
def test_statistics_lie_between_the_lowest_and_the_highest_score(table: statistics.Array) -> None:
    values = ALL(table)
    assert (values >= table.min() - 1e-9).all() and (values <= table.max() + 1e-9).all()
    assert statistics.worst_task(table) <= statistics.median(table) + 1e-9
    assert statistics.worst_task(table) <= statistics.mean(table) + 1e-9


@given(scores, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_statistics_do_not_depend_on_the_order_of_seeds_or_tasks(table: statistics.Array, random: Any) -> None:
    seeds, tasks = list(range(table.shape[0])), list(range(table.shape[1]))
    random.shuffle(seeds)
    random.shuffle(tasks)
    np.testing.assert_allclose(ALL(table[seeds][:, tasks]), ALL(table), rtol=1e-9, atol=1e-9)


@given(scores, st.floats(0.1, 10), st.floats(-100, 100))
@settings(max_examples=60, deadline=None)
def test_statistics_follow_a_change_of_unit(table: statistics.Array, factor: float, shift: float) -> None:
    np.testing.assert_allclose(ALL(factor * table + shift), factor * ALL(table) + shift, rtol=1e-9, atol=1e-6)


@given(scores, st.sampled_from(["task", "run"]))
@settings(max_examples=30, deadline=None)
def test_intervals_are_ordered_and_inside_the_scores(table: statistics.Array, unit: Any) -> None:
    low, high = statistics.bootstrap_interval(table, ALL, np.random.default_rng(0), unit=unit, resamples=50)
    if table.shape[0] == 1:
        assert np.isnan(low).all()
    else:
        assert (low <= high + 1e-9).all()
        assert (low >= table.min() - 1e-9).all() and (high <= table.max() + 1e-9).all()
