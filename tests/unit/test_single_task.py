"""Stacked single-task agents learn as separate ones would: docs/methods/single_task.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.engine.replay import Batch
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.unit.family_fixture import ACTIONS, OBSERVATION, perturb, problem, tiny

TASKS, ROWS, UPDATES = 3, 8, 10


def layers(body: Any) -> list[torch.nn.Linear]:
    """The linear layers of a single agent's network."""
    return [layer for layer in body.modules() if isinstance(layer, torch.nn.Linear)]


def pairs(stacked: SoftActorCritic, single: SoftActorCritic) -> list[tuple[Any, Any]]:
    """Networks that mean the same: the actor, two critics, two slow critics."""
    bodies: list[tuple[Any, Any]] = [(stacked.actor.body, single.actor.body)]
    for ours, theirs in ((stacked.critics, single.critics), (stacked.targets, single.targets)):
        bodies += zip(ours.bodies, theirs.bodies, strict=True)
    return bodies


@torch.no_grad()
def copy_slice(stacked: SoftActorCritic, single: SoftActorCritic, task: int) -> None:
    """Give a single agent the numbers of one in the stack."""
    for ours, theirs in pairs(stacked, single):
        for stack, layer in zip(ours.layers, layers(theirs), strict=True):
            layer.weight.copy_(stack.weight[task].T)
            layer.bias.copy_(stack.bias[task, 0])
    single.log_alpha.copy_(stacked.log_alpha[task : task + 1])


def batches() -> list[Batch]:
    """Stratified batches of random rows, sorted by task."""
    generator, size = torch.Generator().manual_seed(8), TASKS * ROWS
    return [
        Batch(
            torch.randn(size, OBSERVATION, generator=generator),
            torch.rand(size, ACTIONS, generator=generator) * 2 - 1,
            torch.randn(size, generator=generator),
            torch.randn(size, OBSERVATION, generator=generator),
            (torch.rand(size, generator=generator) < 0.3).float(),
            torch.arange(TASKS).repeat_interleave(ROWS),
        )
        for _ in range(UPDATES)
    ]


def train(its: SoftActorCritic, given: list[Batch], noises: list[torch.Tensor]) -> None:
    """Updates on exactly these rows with exactly this noise, two of it for each update."""
    rows, noise = iter(given), iter(noises)
    its.replay.draw = lambda batch: next(rows)  # type: ignore[method-assign]
    its._noise = lambda rows: next(noise)  # type: ignore[method-assign]
    for _ in given:
        its.learn()
    assert next(rows, None) is None and next(noise, None) is None


@pytest.mark.parametrize(("epsilon", "rate"), [(1e-8, 3e-3), (0.1, 3e-2)])
def test_a_stack_learns_as_separate_agents_on_the_same_rows(epsilon: float, rate: float) -> None:
    # Adam forgets a gradient's scale; with a large epsilon the sizes of the losses count as well
    rates: dict[str, Any] = dict.fromkeys(("actor_rate", "critic_rate", "temperature_rate"), rate) | {
        "adam_epsilon": epsilon
    }
    stacked = tiny("single_task", problem(TASKS), **rates)
    perturb(stacked, scale=0.3)
    stacked.log_alpha.data = torch.tensor([-1.0, 0.0, 0.5])
    singles = [tiny("mt_sac", problem(1), seed=7, task_input="none", **rates) for _ in range(TASKS)]
    for task, single in enumerate(singles):
        copy_slice(stacked, single, task)
    given, generator = batches(), torch.Generator().manual_seed(9)
    noises = [torch.randn(TASKS * ROWS, ACTIONS, generator=generator) for _ in range(2 * UPDATES)]
    start = [parameter.detach().clone() for parameter in stacked.critics.parameters()]
    train(stacked, given, noises)
    for task, single in enumerate(singles):
        own = slice(task * ROWS, (task + 1) * ROWS)
        mine = [
            Batch(*(column[own] for column in batch))._replace(task=torch.zeros(ROWS, dtype=torch.int64))
            for batch in given
        ]
        train(single, mine, [noise[own] for noise in noises])
        for ours, theirs in pairs(stacked, single):
            for stack, layer in zip(ours.layers, layers(theirs), strict=True):
                torch.testing.assert_close(stack.weight[task].T, layer.weight, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(stack.bias[task, 0], layer.bias, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(stacked.log_alpha[task : task + 1], single.log_alpha, rtol=1e-5, atol=1e-5)
    learned = [float((a - b).abs().max().detach()) for a, b in zip(start, stacked.critics.parameters(), strict=True)]
    assert min(learned) > 1e-2, "they have hardly moved, so that nothing was compared"


def test_an_agent_of_the_stack_is_moved_by_its_own_rows_alone() -> None:
    given, generator = batches(), torch.Generator().manual_seed(9)
    noises = [torch.randn(TASKS * ROWS, ACTIONS, generator=generator) for _ in range(2 * UPDATES)]
    ends = []
    for shift in (0.0, 1.0):
        its = tiny("single_task", problem(TASKS))
        changed = [batch._replace(reward=batch.reward + shift * (batch.task == 1)) for batch in given]
        train(its, changed, noises)
        ends.append([value.detach().clone() for network in (its.actor, its.critics) for value in network.parameters()])
    for one, other in zip(*ends, strict=True):
        same = [torch.equal(one[task], other[task]) for task in range(TASKS)]
        assert same[0] and same[2] and not same[1]


@pytest.mark.parametrize("capacity", [300, 310])
def test_the_replay_is_shared_equally(capacity: int) -> None:
    its = tiny("single_task", problem(TASKS), replay_transitions=capacity)
    assert its.replay.reward.shape == (capacity // TASKS, TASKS)
    assert its.replay.sampling == "stratified"
    its.replay.added = 5
    np.testing.assert_array_equal(np.bincount(its.replay.draw(24).task.numpy()), [8, 8, 8])
