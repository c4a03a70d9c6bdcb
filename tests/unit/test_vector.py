"""Stepping all tasks at once: the same bits in any number of processes, and no way to die that hangs or leaks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrepro.benchmarks.loading import families, load_benchmark
from mtrepro.benchmarks.shares import shares
from mtrepro.benchmarks.vector import PATIENCE, VectorEnvironment, patience
from mtrepro.errors import SpecificationError
from tests.unit.vector_fixture import FEW_OR_MANY, TOY, actions, have_cores, record

CLOSING = {"tasks": ["door-close-v3", "push-v3", "window-close-v3"], "protocol": "2020", "horizon": 12}


@FEW_OR_MANY
@pytest.mark.parametrize("kind", ["state", "pixels"])
def test_any_number_of_workers_gives_the_same_bits_on_toy(
    kind: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_cores(monkeypatch, cores)
    assert (PATIENCE if cores == 64 else 0.0) == patience(2)
    benchmark = load_benchmark("toy", {**TOY, "kind": kind}, 0)
    records = []
    for workers in (0, 1, 2, 3, 9):  # 9: more than tasks
        with VectorEnvironment(benchmark, "training", workers) as environment:
            assert len(environment.worker_pids) == min(workers, 3)
            records.append(environment.reset().tobytes() + record(environment, actions(benchmark, 40)))
    assert records == records[:1] * 5


def test_any_number_of_workers_gives_the_same_bits_on_metaworld() -> None:
    records = []
    for workers in (0, 1, 2, 3):
        benchmark = load_benchmark("metaworld", CLOSING, 0)
        with VectorEnvironment(benchmark, "training", workers) as environment:
            records.append(environment.reset().tobytes() + record(environment, actions(benchmark, 30)))
    assert records == records[:1] * 4


def test_shares_cost_about_the_same_and_hold_each_task_once() -> None:
    assert shares([5, 1, 1, 1, 1, 1], 2) == [[0], [1, 2, 3, 4, 5]]
    assert shares([1.0] * 4, 3) == [[0, 3], [1], [2]]
    assert shares([2, 1], 3) == [[], [0], [1]], (
        "where every worker has a task and none is left, the main process has none"
    )
    costs = np.random.default_rng(0).uniform(70, 142, 50).tolist()
    found = shares(costs, 4)
    assert sorted(task for share in found for task in share) == list(range(50))
    sums = [sum(costs[task] for task in share) for share in found]
    assert max(sums) < 1.08 * min(sums)  # less than half a task


@pytest.mark.parametrize("workers", [0, 2])
def test_next_observation_is_the_true_one_also_where_an_episode_ended(workers: int) -> None:
    benchmark = load_benchmark("toy", {"tasks": 2, "horizon": 3}, 0)
    alone = [benchmark.make(task, "training") for task in range(2)]
    with VectorEnvironment(benchmark, "training", workers) as environment:
        np.testing.assert_array_equal(environment.reset(), np.stack([one.reset() for one in alone]))
        for action in actions(benchmark, 7):
            given = environment.step(action)
            steps = [one.step(action[task]) for task, one in enumerate(alone)]
            np.testing.assert_array_equal(given.next_observation, np.stack([step.observation for step in steps]))
            if steps[0].truncated:
                np.testing.assert_array_equal(given.observation, np.stack([one.reset() for one in alone]))
                assert (given.observation != given.next_observation).any()
            else:
                np.testing.assert_array_equal(given.observation, given.next_observation)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_autoreset_an_ended_task_stands_still_for_no_reward(workers: int) -> None:
    benchmark = load_benchmark("toy", {"tasks": 2, "horizon": 3}, 0)
    with VectorEnvironment(benchmark, "evaluation", workers, autoreset=False) as environment:
        environment.reset(0)
        last = [environment.step(action) for action in actions(benchmark, 5)]
    assert [bool(step.truncated.all()) for step in last] == [False, False, True, True, True]
    assert not last[3].reward.any() and not last[4].raw_reward.any() and not last[4].success.any()
    np.testing.assert_array_equal(last[4].observation, last[2].next_observation)


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 12), kind=st.sampled_from(["state", "pixels"]), terminates=st.booleans())
def test_a_loaded_state_continues_with_the_same_bits(before: int, kind: str, terminates: bool) -> None:
    benchmark = load_benchmark("toy", {**TOY, "kind": kind, "terminates": terminates}, 0)
    one, other = VectorEnvironment(benchmark, "training"), VectorEnvironment(benchmark, "training")
    one.reset()
    record(one, actions(benchmark, before))
    other.load_state(one.state())
    np.testing.assert_array_equal(one.observation, other.observation)
    assert record(one, actions(benchmark, 10, 1)) == record(other, actions(benchmark, 10, 1))


def test_a_state_moves_between_any_numbers_of_workers() -> None:
    benchmark, sequence = load_benchmark("toy", TOY, 0), actions(load_benchmark("toy", TOY, 0), 12)
    with VectorEnvironment(benchmark, "training") as environment:
        environment.reset()
        record(environment, sequence[:4])
        state, expected = environment.state(), record(environment, sequence[4:])
    for workers in (1, 2, 3):
        with VectorEnvironment(benchmark, "training", workers) as environment:
            environment.load_state(state)
            assert record(environment, sequence[4:]) == expected


@pytest.mark.parametrize(("family", "values"), [("toy", TOY), ("metaworld", {**CLOSING, "tasks": ["push-v3"]})])
def test_evaluation_changes_no_bit_of_training(family: str, values: dict[str, Any]) -> None:
    benchmark = load_benchmark(family, values, 0)
    sequence, records = actions(benchmark, 20), []
    for evaluated in (False, True):
        training, evaluation = (VectorEnvironment(benchmark, purpose) for purpose in ("training", "evaluation"))
        parts = [training.reset().tobytes()]
        for index, action in enumerate(sequence):
            if evaluated and index % 4 == 0:
                evaluation.reset(index)
                record(evaluation, sequence[:6])
            parts.append(record(training, action[None]))
        records.append(b"".join(parts))
    assert records[0] == records[1]


def test_what_a_step_gave_is_not_overwritten_by_the_next() -> None:
    benchmark = load_benchmark("toy", {}, 0)
    with VectorEnvironment(benchmark, "training") as environment:
        parts = [environment.reset(), *environment.step(actions(benchmark, 1)[0])]
        before = [part.copy() for part in parts]
        record(environment, actions(benchmark, 25, 1))
    for part, copy in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_actions_of_a_wrong_shape_are_refused() -> None:
    environment = VectorEnvironment(load_benchmark("toy", {}, 0), "training")
    environment.reset()
    with pytest.raises(ValueError, match=r"actions have the shape \(3, 1\), expected \(tasks, size\) \(3, 2\)"):
        environment.step(np.zeros((3, 1), np.float32))


def test_benchmarks_import_neither_torch_nor_a_simulator() -> None:
    modules = ", ".join(f"mtrepro.benchmarks.{name}" for name in (*families(), "vector", "worker", "loading"))
    program = (
        f"import {modules}, sys; print(sorted({{'torch', 'mujoco', 'metaworld', 'gymnasium'}} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_an_unknown_family_is_refused_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(SpecificationError) as caught:
        load_benchmark("metawrld", {}, 0)
    known = ", ".join(families())
    assert str(caught.value) == (
        f"benchmark.family: unknown benchmark family 'metawrld'\n  known: {known} (nearest: metaworld)\n"
        "  see docs/adding-a-benchmark.md"
    )
    assert {"metaworld", "toy"} <= set(families()) and not {"vector", "worker", "loading"} & set(families())


def test_an_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecificationError, match=r"benchmark: horizn: unknown key 'horizn'\n.*\(nearest: horizon\)"):
        load_benchmark("toy", {"horizn": 3}, 0)
