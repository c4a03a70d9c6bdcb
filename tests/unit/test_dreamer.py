"""Dreamer: what learns from what, what it remembers, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.errors import SpecificationError
from mtrepro.specification import refuse_conflicts
from mtrepro.world_model.descent import descend
from tests.unit.dreamer_fixture import ACTIONS, V2, dreamer, fill, pictures, problem, settings, untold

# What learns from what


def copies(agent: Any) -> dict[str, list[torch.Tensor]]:
    return {name: [each.detach().clone() for each in group] for name, group in agent.parameter_groups().items()}


@pytest.mark.parametrize("learner", ["world_model", "actor", "critic"])
def test_each_loss_moves_its_own_group_and_no_other(learner: str) -> None:
    agent = dreamer()
    fill(agent)
    for name, optimiser in agent.optimisers.items():
        optimiser.rate = 1e-2 if name == learner else 0.0
    before = copies(agent)
    agent.learn()
    for name, group in agent.parameter_groups().items():
        moved = [not torch.equal(old, new) for old, new in zip(before[name], group, strict=True)]
        assert all(moved) if name == learner else not any(moved)
        assert all(parameter.grad is None for parameter in group)


@pytest.mark.parametrize("group", ["world_model", "actor", "critic"])
def test_a_step_of_each_group_is_that_of_torchs_adam(group: str) -> None:
    agent = dreamer()
    fill(agent)
    optimiser, given = agent.optimisers[group], list[torch.Tensor]()
    own = optimiser.descend

    def seen(gradients: Any) -> None:
        given.extend(gradients)
        own(given)

    optimiser.descend = seen  # type: ignore[method-assign]
    peers = [torch.nn.Parameter(each.detach().clone()) for each in optimiser.parameters]
    agent.learn()
    for peer, gradient in zip(peers, given, strict=True):
        peer.grad = gradient.clone(memory_format=torch.contiguous_format)
    torch.optim.Adam(peers, optimiser.rate, eps=optimiser.epsilon, foreach=False).step()
    for peer, mine in zip(peers, optimiser.parameters, strict=True):
        torch.testing.assert_close(mine.detach(), peer.detach(), rtol=1e-5, atol=1e-7)


def test_what_the_actor_does_changes_when_it_learns() -> None:
    agent = dreamer(actor_rate=1e-2)
    fill(agent)
    before = agent.act(pictures(1), np.arange(1), explore=False)
    model = agent.model.state_dict()
    agent.optimisers["world_model"].rate = 0.0
    for _ in range(5):
        agent.learn()
    assert np.abs(agent.act(pictures(1), np.arange(1), explore=False) - before).max() > 1e-3
    assert all(torch.equal(value, model[name]) for name, value in agent.model.state_dict().items())


def test_the_slow_critic_follows_when_it_is_due() -> None:
    agent = dreamer(slow_critic_every=3, slow_critic_share=0.5, critic_rate=1e-2)
    fill(agent)
    slow, fast = agent.behaviour.slow_critic, agent.behaviour.critic
    assert slow is not None
    for update in range(1, 7):
        before = slow[0].weight.clone()
        agent.learn()
        expected = 0.5 * (before + fast[0].weight) if update % 3 == 0 else before
        torch.testing.assert_close(slow[0].weight, expected)


def test_long_gradients_are_shortened_to_the_limit_and_weights_decay() -> None:
    agent = dreamer()
    optimiser, seen = agent.optimisers["critic"], []
    optimiser.descend = lambda gradients: seen.append(list(gradients))  # type: ignore[method-assign, assignment]
    before = [each.detach().clone() for each in optimiser.parameters]
    length = sum(each.numel() for each in optimiser.parameters) ** 0.5

    def of_length(factor: float, decay: float = 0.0) -> float:
        """Descend along gradients that are all `factor`; the norm that `descend` gives, in units of `length`."""
        loss = torch.stack([factor * each.sum() for each in optimiser.parameters]).sum()
        return float(descend(optimiser, loss, 100.0, decay)) / length

    assert of_length(1000.0, decay=0.1) == pytest.approx(1000)
    assert float(torch.cat([each.flatten() for each in seen[0]]).norm()) == pytest.approx(100, rel=1e-5)
    for old, new in zip(before, optimiser.parameters, strict=True):
        torch.testing.assert_close(0.9 * old, new.detach())
    assert of_length(0.001) == pytest.approx(0.001)
    assert float(torch.cat([each.flatten() for each in seen[1]]).norm()) == pytest.approx(0.001 * length, rel=1e-5)


def test_updates_are_owed_as_the_settings_say() -> None:
    agent = dreamer(random_steps=20, first_updates=7, learn_every=10, learn_updates=3)
    owed = []
    for _ in range(45):
        fill(agent, steps=1)
        owed.append(agent.owed)
        agent.owed = 0
    assert {step + 1: count for step, count in enumerate(owed) if count} == {20: 7, 30: 3, 40: 3}


# What it remembers


def test_an_evaluation_follows_the_episode_as_the_model_does() -> None:
    agent, seen = dreamer(), pictures(4, 1)
    memory: dict[str, Any] = {}
    actions = [agent.act(each, np.arange(1), explore=False, memory=memory) for each in seen]
    state, before = agent.model.dynamics.begin(untold(1)), torch.zeros(1, ACTIONS)
    with torch.no_grad():
        for t in range(4):
            e = agent.model.embed(torch.from_numpy(seen[t]))
            state = agent.model.dynamics.see(state, before, e, None)
            before = agent.behaviour.actor.policy(agent.behaviour.actor(state.features)).mode()
            np.testing.assert_array_equal(before.numpy(), actions[t])
    assert not np.array_equal(actions[1], agent.act(seen[1], np.arange(1), explore=False)), "it remembers the start"


@pytest.mark.parametrize("steps", [6, 7, 8], ids=["within an episode", "where one ended", "after its first step"])
@pytest.mark.parametrize("state_space", ["recurrent", "transformer"])
def test_training_forgets_an_episode_that_ended(state_space: str, steps: int) -> None:
    agent = dreamer(state_space=state_space)
    for _ in range(3):
        agent.act(pictures(1), np.arange(1), explore=True)
    assert all(each.any() for each in agent.remembered.tensors if each.numel())
    fill(agent, steps, episode=7)
    assert any(each.any() for each in agent.remembered.tensors) == (steps < 7)


# What it refuses


def test_what_is_no_picture_of_a_known_size_is_refused_with_what_would_do() -> None:
    for shape, kind in (((39,), np.float32), ((96, 96, 3), np.uint8), ((64, 64, 1), np.uint8), ((16, 32, 3), np.uint8)):
        other = problem()._replace(observation_shape=shape, observation_dtype=np.dtype(kind))
        with pytest.raises(SpecificationError) as caught:
            dreamer(other)
        assert f"this benchmark shows {np.dtype(kind)} of the shape {shape}" in str(caught.value)
        assert "dreamer: sees colour pictures of 16 x 16, 32 x 32, 64 x 64 alone" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "budget", "message"),
    [
        ({"random_steps": 50}, 50, "a.random_steps: 50 random steps leave nothing to learn in a budget of 50 steps"),
        ({"length": 42}, 99, "a.length: a sequence of 42 frames is longer than the 41 that the first updates find"),
        ({"replay_frames": 5}, 99, "a.length: a sequence of 6 frames is longer than the 5 that"),
        ({"latent": "categorical"}, 99, "a.latent_classes: a categorical latent needs a number of classes"),
        ({"latent_classes": 8}, 99, "a.latent_classes: a gaussian latent has no classes: give null"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(changed: dict[str, Any], budget: int, message: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        refuse_conflicts("dreamer", settings(**changed), budget, ("toy-0",), "a")
    assert str(caught.value).startswith(message)


def test_several_tasks_are_refused_by_their_names() -> None:
    with pytest.raises(SpecificationError) as caught:
        refuse_conflicts("dreamer", settings(), 99, ("walk", "run"), "config/x.yaml: arms.a.settings")
    assert str(caught.value) == (
        "config/x.yaml: arms.a.settings: dreamer learns one task, not 2: choose one of the benchmark's (walk, run)\n"
        "  see docs/methods/dreamer.md"
    )


def test_v2_is_all_settings() -> None:
    agent = dreamer(**V2, kl_balance=0.8, continue_scale=5.0, slow_critic_every=100)
    fill(agent)
    agent.learn()
    assert {"kl", "continue_loss", "picture_loss", "reward_loss", "actor_loss", "critic_loss"} <= set(agent.metrics())
    assert agent.trouble() is None
    agent.meters.add(critic_loss=torch.tensor(2e8))
    assert agent.trouble() == "the critic loss reached 2e+08, above 1e+08"
