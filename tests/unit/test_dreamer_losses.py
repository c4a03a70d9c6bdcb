"""Dreamer's returns and losses against slow references and cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mtrepro.methods import Problem
from mtrepro.world_model.imagination import Imagined, draw_noise, imagine
from mtrepro.world_model.returns import lambda_returns, weights
from mtrepro.world_model.state_space import State
from tests.unit.dreamer_fixture import ACTIONS, dreamer, fill, pictures, untold
from tests.unit.test_world_model import array, normal

# Returns


def test_a_return_worked_by_hand() -> None:
    r, v = torch.tensor([[1.0], [2.0]]), torch.tensor([[9.0], [3.0], [4.0]])
    # V_1 = 2 + 1/2 4 = 4; V_0 = 1 + 1/2 (1/2 3 + 1/2 4) = 2.75
    assert lambda_returns(r, v, torch.full((2, 1), 0.5), 0.5).flatten().tolist() == [2.75, 4.0]
    w = weights(torch.tensor([[0.5], [0.1], [0.9]]), torch.tensor([1.0]))
    np.testing.assert_allclose(array(w)[:, 0], [1, 0.5, 0.05])
    assert not weights(torch.ones(3, 1), torch.tensor([0.0])).any()


def return_by_hand(r: Any, v: Any, gamma: Any, lambda_: float, t: int) -> float:
    """v1 eq. 6: the n-step returns, mixed with (1 - lambda) lambda^(n-1); the last takes what is left."""
    horizon, total, mixed = len(r), 0.0, 0.0
    for n in range(1, horizon - t + 1):
        discounts = [np.prod(gamma[t : t + k]) for k in range(n + 1)]
        n_step = sum(discounts[k] * r[t + k] for k in range(n)) + discounts[n] * v[t + n]
        share = lambda_ ** (n - 1) * (1 if n == horizon - t else 1 - lambda_)
        total, mixed = total + share, mixed + share * n_step
    assert total == pytest.approx(1)
    return mixed


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_returns_are_the_mixture_of_n_step_returns(lambda_: float) -> None:
    r, v, gamma = normal(6, 3), normal(7, 3, seed=1), torch.sigmoid(normal(6, 3, seed=2))
    found = array(lambda_returns(r, v, gamma, lambda_))
    for n in range(3):
        given = [array(each)[:, n] for each in (r, v, gamma)]
        expected = [return_by_hand(*given, lambda_, t) for t in range(6)]
        np.testing.assert_allclose(found[:, n], expected, rtol=1e-5)


# The losses of actor and critic


def judged_by_hand(agent: Any, imagined: Imagined, alive: Any, share: float, entropy: float) -> dict[str, Any]:
    """The losses as docs/methods/dreamer.md writes them, one trajectory and moment at a time."""
    given = agent.settings
    critic = agent.behaviour.slow_critic or agent.behaviour.critic
    s = imagined.features
    r = array(agent.model.reward(s[:-1]))[..., 0]
    v = array(critic(s))[..., 0]
    gamma = np.full(r.shape, given.discount)
    if agent.model.continues is not None:
        gamma = 1 / (1 + np.exp(-array(agent.model.continues(s[:-1]))[..., 0]))
        gamma[0] = given.discount * alive
    policy = agent.behaviour.actor.policy(imagined.outputs)
    mu, sigma, u = array(policy.mu), array(policy.sigma), array(imagined.raw)
    log_pi = (norm.logpdf(u, mu, sigma) - np.log(1 - np.tanh(u) ** 2)).sum(-1)
    actor, critic_loss = [], []
    horizon, rows = r.shape
    for n in range(rows):
        returns = [return_by_hand(r[:, n], v[:, n], gamma[:, n], given.return_lambda, t) for t in range(horizon)]
        w = alive[n]
        for t in range(1, horizon):
            reinforce = log_pi[t - 1, n] * (returns[t] - v[t - 1, n])
            actor.append(-w * ((1 - share) * returns[t] + share * reinforce - entropy * log_pi[t - 1, n]))
            critic_loss.append(0.5 * w * (array(agent.behaviour.critic(s[t, n]))[0] - returns[t]) ** 2)
            w *= gamma[t, n]
    return {"actor": np.mean(actor), "critic": np.mean(critic_loss)}


def imagined_by(agent: Any, rows: int = 5, seed: int = 1) -> Imagined:
    dynamics, generator = agent.model.dynamics, torch.Generator().manual_seed(seed)
    start = State(normal(rows, dynamics.size), normal(rows, dynamics.latents.size, seed=2), untold(rows))
    noise = draw_noise(dynamics, agent.settings.imagination_horizon, rows, ACTIONS, generator)
    return imagine(dynamics, agent.behaviour.actor, start, agent.masks[0], noise)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"reinforce_share": 1.0},
        {"reinforce_share": 0.3, "entropy_scale": 0.1, "continue_scale": 1.0, "slow_critic_every": 3},
    ],
    ids=["v1", "REINFORCE", "mixed, with entropy, continue and a slow critic"],
)
def test_both_losses_are_the_equations_written_out(changed: dict[str, Any]) -> None:
    agent = dreamer(actor_initial_std=1.0, **changed)
    with torch.no_grad():
        for parameter in agent.behaviour.critic.parameters():  # so that the slow critic is another one
            parameter.add_(0.1 * normal(*parameter.shape))
    imagined = imagined_by(agent)
    alive = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]) if "continue_scale" in changed else torch.ones(5)
    judged = agent.behaviour.judge(agent.model, imagined, alive, agent.masks[0])
    share, entropy = agent.settings.reinforce_share, agent.settings.entropy_scale
    expected = judged_by_hand(agent, imagined, array(alive), share, entropy)
    assert float(judged.actor_loss.detach()) == pytest.approx(expected["actor"], rel=1e-3)
    assert float(agent.behaviour.critic_loss(judged).detach()) == pytest.approx(expected["critic"], rel=1e-3)


def test_the_critic_of_v2_also_learns_at_the_start() -> None:
    one, two = dreamer(), dreamer(critic_on_start=True)
    of_v1, of_v2 = (
        agent.behaviour.judge(agent.model, imagined_by(agent), torch.ones(5), agent.masks[0]) for agent in (one, two)
    )
    torch.testing.assert_close(of_v2.features[1:], of_v1.features)
    torch.testing.assert_close(of_v2.returns[1:], of_v1.returns)
    torch.testing.assert_close(of_v2.weights, torch.cat([torch.ones(1, 5), 0.99 * of_v1.weights]))


def test_reinforce_alone_climbs_by_likelihood_and_the_dynamics_alone_without_it() -> None:
    def gradient(share: float) -> torch.Tensor:
        agent = dreamer(reinforce_share=share)
        judged = agent.behaviour.judge(agent.model, imagined_by(agent), torch.ones(5), agent.masks[0])
        found = torch.autograd.grad(judged.actor_loss, list(agent.behaviour.actor.parameters()))
        return torch.cat([each.flatten() for each in found])

    through, by_likelihood, mixed = gradient(0.0), gradient(1.0), gradient(0.25)
    assert through.any() and by_likelihood.any() and not torch.allclose(through, by_likelihood)
    torch.testing.assert_close(mixed, 0.75 * through + 0.25 * by_likelihood)


def test_an_action_that_the_task_does_not_have_changes_nothing() -> None:
    mask = np.array([[True, False]])
    agent = dreamer(Problem(("toy-0",), (16, 16, 3), np.dtype(np.uint8), 2, mask, 20), entropy_scale=0.1)
    fill(agent)
    for explore in (True, False):
        assert agent.act(pictures(1), np.arange(1), explore)[0, 1] == 0
    judged = agent.behaviour.judge(agent.model, imagined_by(agent), torch.ones(5), agent.masks[0])
    last = agent.behaviour.actor.body[-1].weight
    (gradient,) = torch.autograd.grad(judged.actor_loss, [last])
    assert gradient[0].any() and not gradient[1].any() and not gradient[3].any()
