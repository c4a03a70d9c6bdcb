"""The replay: a ring of vector steps, drawn as its name says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mtrepro.engine.replay import Batch, Replay, Sampling, Transitions
from mtrepro.engine.streams import numpy_stream

CPU = torch.device("cpu")


def replay(capacity: int = 12, tasks: int = 3, sampling: Sampling = "uniform") -> Replay:
    return Replay(capacity, tasks, (2,), 1, sampling, numpy_stream(0, "test"), CPU)


def step(number: int, tasks: int = 3) -> Transitions:
    """Vector step `number`: every value says from which step and task it is."""
    mark = 100 * number + np.arange(tasks, dtype=np.float32)
    pair = np.stack([mark, mark + 0.5], 1)
    flags = np.zeros(tasks, np.bool_)
    return Transitions(pair, mark[:, None], mark, pair + 1000, flags, flags)


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_a_drawn_row_is_one_stored_transition_whole_and_with_its_task(sampling: Sampling) -> None:
    memory = replay(sampling=sampling)
    for number in range(4):
        memory.add(step(number))
    batch = memory.draw(60)
    mark = batch.reward
    assert torch.equal(mark % 100, batch.task.float())
    assert torch.equal(batch.action[:, 0], mark)
    assert torch.equal(batch.observation, torch.stack([mark, mark + 0.5], 1))
    assert torch.equal(batch.next_observation, batch.observation + 1000)


def test_the_oldest_steps_give_way() -> None:
    memory = replay(capacity=12)  # four steps of three tasks
    for number in range(6):
        memory.add(step(number))
    assert len(memory) == 4
    assert {int(mark) // 100 for mark in memory.draw(500).reward} == {2, 3, 4, 5}


def test_uniform_hits_every_stored_transition_alike() -> None:
    memory = replay()
    for number in range(4):
        memory.add(step(number))
    _, counts = np.unique(memory.draw(12_000).reward, return_counts=True)
    assert len(counts) == 12
    assert chisquare(counts).pvalue > 0.001  # fixed seed: this is a fact about the stream, not a gamble


def test_stratified_draws_every_task_equally_often_sorted_by_task() -> None:
    memory = replay(sampling="stratified")
    for number in range(4):
        memory.add(step(number))
    assert memory.draw(30).task.tolist() == [0] * 10 + [1] * 10 + [2] * 10


def test_only_what_was_added_is_drawn() -> None:
    memory = replay(capacity=3000)
    memory.add(step(7))
    assert {int(mark) for mark in memory.draw(100).reward} == {700, 701, 702}


@pytest.mark.parametrize("added", [1, 3, 4, 6])
def test_a_loaded_state_draws_and_stores_on_to_the_same_bits(added: int) -> None:
    memory, other = replay(), replay()
    for number in range(added):
        memory.add(step(number))
    memory.draw(5)
    state: dict[str, Any] = {
        key: value.copy() if isinstance(value, np.ndarray) else value for key, value in memory.state().items()
    }
    other.load_state(state)
    for each in (memory, other):
        each.add(step(50))
    for mine, theirs in zip(memory.draw(40), other.draw(40), strict=True):
        assert torch.equal(mine, theirs)


def test_a_capacity_below_one_vector_step_is_refused() -> None:
    with pytest.raises(ValueError, match="replay of 2 transitions cannot hold one step of 3 tasks"):
        replay(capacity=2)


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_a_draw_into_room_for_several_seeds_has_the_bits_of_a_draw(sampling: Sampling) -> None:
    given, own = replay(sampling=sampling), replay(sampling=sampling)
    for number in range(6):
        given.add(step(number))
        own.add(step(number))
    room = given.room(3, 30)
    for seed in (2, 0):
        drawn, expected = given.draw(30, Batch(*(column[seed] for column in room))), own.draw(30)
        for mine, here, its in zip(drawn, room, expected, strict=True):
            assert torch.equal(mine, its) and torch.equal(here[seed], its) and mine.dtype == its.dtype
