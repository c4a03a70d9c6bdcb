"""MT-SAC against the published counts, and against its equations written out slowly in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from mtrepro.engine.replay import Batch
from mtrepro.methods.mt_sac import MtSac
from mtrepro.networks import squashed_gaussian
from mtrepro.networks.actor_critic import Seen
from mtrepro.networks.tasks import BatchTasks
from tests.unit import family_fixture
from tests.unit.family_fixture import fill, problem


def method(tasks: int = 3, **changed: Any) -> MtSac:
    small = {"width": 8, "depth": 2, "batch": 30, "random_steps": 5, "first_updates": 5, "replay_transitions": 300}
    agent = family_fixture.agent("mt_sac", problem(tasks, observation=12, actions=4), **(small | changed))
    assert isinstance(agent, MtSac)
    return agent


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_of_the_published_network() -> None:
    agent = method(tasks=10, width=400, depth=3, task_input="none")
    assert count(agent.actor) == 329_208
    assert [count(critic) for critic in agent.critics.bodies] == [328_001, 328_001]
    total = count(agent.actor) + count(agent.critics) + count(agent.targets) + agent.log_alpha.numel()
    assert total == 1_641_222


def test_weights_are_xavier_uniform_and_biases_zero() -> None:
    first: Any = next(layer for layer in method(width=400, depth=3).actor.modules() if isinstance(layer, nn.Linear))
    bound = np.sqrt(6 / (first.in_features + first.out_features))
    weight = first.weight.detach()
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-2)
    assert float(weight.std()) == pytest.approx(bound / np.sqrt(3), rel=5e-2)
    assert not first.bias.any()


def test_the_blind_arm_cannot_tell_tasks_apart_and_the_other_can() -> None:
    observation = np.tile(np.linspace(-1, 1, 12, dtype=np.float32), (3, 1))
    for task_input, differ in (("none", False), ("one_hot", True)):
        agent = method(task_input=task_input)
        actions = agent.act(observation, np.arange(3), explore=False)
        assert (np.ptp(actions, axis=0).max() > 1e-4) == differ


# One update, written out by hand: plain numpy, float64, a loop over samples


def network(module: nn.Module) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Weights and biases of the linear layers."""
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in linears]


def forward(layers: Any, x: Any) -> Any:
    for index, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        x = np.maximum(x, 0) if index < len(layers) - 1 else x
    return x


def policy(layers: Any, x: Any, noise: Any) -> tuple[Any, float]:
    """A squashed Gaussian sample and its log probability, from scipy's normal density."""
    output = forward(layers, x)
    mean, std = output[:4], np.exp(-20 + 11 * (np.tanh(output[4:]) + 1))
    action = np.tanh(mean + std * noise)
    density = norm.logpdf(mean + std * noise, mean, std) - np.log(np.maximum(1 - action**2, 0) + 1e-6)
    return action, float(density.sum())


def one_update_by_hand(agent: MtSac, batch: Batch, noises: Any) -> dict[str, float]:
    """The losses of the critics, the actor and the temperatures before any of them moves."""
    actor = network(agent.actor)
    critics = [network(body) for body in agent.critics.bodies]
    targets = [network(body) for body in agent.targets.bodies]
    alpha = np.exp(agent.log_alpha.detach().double().numpy())
    losses = {"critic_loss": 0.0, "temperature_loss": 0.0}
    size = len(batch.task)
    for i in range(size):
        task = int(batch.task[i])
        one_hot = np.eye(3)[task]
        x = np.concatenate([batch.observation[i].double().numpy(), one_hot])
        following = np.concatenate([batch.next_observation[i].double().numpy(), one_hot])
        action, log_probability = policy(actor, following, noises[0][i])
        least = min(forward(t, np.concatenate([following, action]))[0] for t in targets)
        target = float(batch.reward[i]) + 0.99 * (1 - float(batch.terminated[i])) * (
            least - alpha[task] * log_probability
        )
        pair = np.concatenate([x, batch.action[i].double().numpy()])
        losses["critic_loss"] += sum((forward(c, pair)[0] - target) ** 2 for c in critics) / size
        _, log_probability = policy(actor, x, noises[1][i])
        losses["temperature_loss"] += alpha[task] * (-log_probability + 4) / size
    return losses


def actor_loss_by_hand(agent: MtSac, batch: Batch, noise: Any, actor: Any, alpha: Any) -> float:
    """mean alpha_t log pi - min Q, by the actor before its step and the critics after theirs."""
    critics = [network(critic) for critic in agent.critics.bodies]
    total = 0.0
    for i in range(len(batch.task)):
        task = int(batch.task[i])
        x = np.concatenate([batch.observation[i].double().numpy(), np.eye(3)[task]])
        action, log_probability = policy(actor, x, noise[i])
        total += alpha[task] * log_probability - min(forward(c, np.concatenate([x, action]))[0] for c in critics)
    return total / len(batch.task)


def test_one_update_equals_the_equations_written_out_per_sample() -> None:
    agent = method()
    fill(agent, 40)
    agent.log_alpha.data = torch.tensor([-0.5, 0.1, 0.4])
    drawn, noise = agent.replay.state()["generator"], agent.noise.get_state()
    batch = agent.replay.draw(30)
    noises = [torch.randn(30, 4, generator=agent.noise).double().numpy() for _ in range(2)]
    expected = one_update_by_hand(agent, batch, noises)
    actor, alpha = network(agent.actor), np.exp([-0.5, 0.1, 0.4])
    actor = [(weight.copy(), bias.copy()) for weight, bias in actor]
    agent.replay.generator.bit_generator.state = drawn
    agent.noise.set_state(noise)
    agent.learn()
    measured = agent.metrics()
    assert measured["critic_loss"] == pytest.approx(expected["critic_loss"], rel=1e-5)
    assert measured["temperature_loss"] == pytest.approx(expected["temperature_loss"], rel=1e-5)
    # the critics have moved first, and stand still afterwards
    expected_actor_loss = actor_loss_by_hand(agent, batch, noises[1], actor, alpha)
    assert measured["actor_loss"] == pytest.approx(expected_actor_loss, rel=1e-5)


def test_a_step_of_the_actor_lowers_its_loss_and_leaves_the_critics_alone() -> None:
    agent = method(actor_rate=1e-4)
    fill(agent, 40)
    inputs = torch.randn(300, 12, generator=torch.Generator().manual_seed(3))
    seen = Seen(inputs, BatchTasks(torch.arange(300) % 3, 3))
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(4))

    def loss() -> torch.Tensor:
        drawn = squashed_gaussian.sample(agent.actor(seen), noise, -20, 2)
        least: torch.Tensor = agent.critics(seen, drawn.action).amin(0)
        return (drawn.log_probability - least).mean()

    before, critics = loss(), [parameter.clone() for parameter in agent.critics.parameters()]
    agent.optimisers["actor"].minimise(before)
    assert loss().item() < before.item()
    assert all(torch.equal(a, b) for a, b in zip(critics, agent.critics.parameters(), strict=True))


def test_targets_follow_by_tau() -> None:
    agent = method()
    fill(agent, 40)
    before = [parameter.clone() for parameter in agent.targets.parameters()]
    agent.learn()
    for old, new, fast in zip(before, agent.targets.parameters(), agent.critics.parameters(), strict=True):
        torch.testing.assert_close(new.data, 0.995 * old + 0.005 * fast.data, rtol=1e-5, atol=1e-7)


def test_a_task_that_is_absent_keeps_its_temperature_and_the_present_one_moves_towards_its_entropy() -> None:
    agent = method(tasks=3)
    fill(agent, 40)
    only = agent.replay.draw(30)
    agent.replay.draw = lambda batch: only._replace(task=torch.zeros_like(only.task))  # type: ignore[method-assign]
    agent.learn()
    moved = agent.log_alpha.detach()
    assert moved[0] != 0 and not moved[1:].any()
    # log_std starts at the middle of [-20, 2]: the fresh policy has too little entropy, so the temperature must rise
    assert agent.metrics()["entropy"] < -4 and moved[0] > 0


def test_updates_are_owed_as_mtrl_does_them() -> None:
    agent = method(random_steps=5, first_updates=7, updates_per_step=2)
    owed = []
    for _ in range(8):
        fill(agent, 1)
        owed.append(agent.owed)
    assert owed == [0, 0, 0, 0, 7, 9, 11, 13]


def test_random_phase_is_uniform_and_ends() -> None:
    agent = method(tasks=500, random_steps=5, replay_transitions=5000)
    observation, task = np.zeros((500, 12), np.float32), np.arange(500)
    first = agent.act(observation, task, explore=True)
    assert first.min() < -0.98 and first.max() > 0.98 and abs(float(first.mean())) < 0.05
    assert np.abs(agent.act(observation, task, explore=False)).max() < 0.9  # evaluation never acts at random


@pytest.mark.parametrize(
    ("poison", "reason"),
    [(float("nan"), "a loss is not finite"), (float("inf"), "a loss is not finite"), (1e6, "the critic loss reached")],
)
def test_divergence_is_noticed(poison: float, reason: str) -> None:
    agent = method(critic_loss_limit=1e8)
    fill(agent, 40)
    agent.learn()
    assert agent.trouble() is None
    agent.replay.reward[:] = poison
    agent.learn()
    agent.metrics()  # taking the means forgets nothing
    assert reason in str(agent.trouble())
