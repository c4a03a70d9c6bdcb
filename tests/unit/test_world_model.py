"""The world model's parts against slow references in numpy and scipy, cases worked by hand, and published counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import chisquare, norm, truncnorm
from torch import nn
from torch.nn import functional

from mtrepro.world_model.latents import Categorical, Gaussian, divergence_loss
from mtrepro.world_model.layers import LayerNormGru, initialise
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.pictures import Decoder
from mtrepro.world_model.policies import TanhNormal, TruncatedNormal
from mtrepro.world_model.recurrent import RecurrentModel
from mtrepro.world_model.state_space import State
from tests.unit.dreamer_fixture import ACTIONS, V2, dreamer, problem, settings, untold


def array(value: torch.Tensor) -> Any:
    return value.detach().double().numpy()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(layer: nn.Linear, x: Any) -> Any:
    return array(layer.weight) @ x + array(layer.bias)


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


# Parameters


def count(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module else 0


def test_the_defaults_have_the_parameters_of_v1() -> None:
    published = {"width": 400, "recurrent_size": 200, "hidden_size": 200, "latent_size": 30, "picture_channels": 32}
    depths = {"reward_depth": 2, "continue_depth": 3, "actor_depth": 4, "critic_depth": 3, "replay_frames": 10}
    agent = dreamer(problem(8, side=64), **published, **depths)
    model, behaviour = agent.model, agent.behaviour
    convolutions = ((3, 32), (32, 64), (64, 128), (128, 256))
    assert count(model.encoder) == sum((16 * a + 1) * b for a, b in convolutions) == 690_144
    transposed = ((1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 3, 6))
    assert count(model.decoder) == 231 * 1024 + sum(a * b * k * k + b for a, b, k in transposed) == 3_795_555
    assert count(model.dynamics) == 558_320
    assert count(model.reward) == 231 * 400 + 401 * 400 + 401 == 253_201
    assert (count(behaviour.critic), count(behaviour.actor)) == (413_601, 580_016)
    printed = {"encoder": 0.69, "decoder": 3.8, "dynamics": 0.56, "reward": 0.25, "critic": 0.41, "actor": 0.58}
    found = {name: count(getattr(model, name, None) or getattr(behaviour, name)) / 1e6 for name in printed}
    assert {name: round(value, 1 if name == "decoder" else 2) for name, value in found.items()} == printed


@pytest.mark.parametrize("side", [16, 32, 64])
def test_pictures_of_every_size_come_back_in_their_size(side: int) -> None:
    model = WorldModel(settings(), side, ACTIONS)
    seen = torch.zeros(5, 2, side, side, 3, dtype=torch.uint8)
    assert model.embed(seen).shape == (5, 2, model.encoder.size)
    assert model.decoder(normal(3, model.dynamics.features)).shape == (3, 3, side, side)


def test_the_decoders_first_layer_is_the_transposed_convolution_that_it_stands_for() -> None:
    decoder = Decoder(5, 16, 4, "relu")
    s = normal(7, 5)
    pixel = decoder.enter(s)[:, :, None, None]
    whole = decoder.layers(functional.conv_transpose2d(pixel, decoder.first.weight, decoder.first.bias, stride=2))
    torch.testing.assert_close(decoder(s), whole)


# The recurrent state-space model


def gru_by_hand(cell: nn.GRUCell, x: Any, h: Any) -> Any:
    """Cho et al. 2014 with the reset gate behind the product, gate by gate."""
    given = np.split(array(cell.weight_ih) @ x + array(cell.bias_ih), 3)
    held = np.split(array(cell.weight_hh) @ h + array(cell.bias_hh), 3)
    reset, update = expit(given[0] + held[0]), expit(given[1] + held[1])
    return (1 - update) * np.tanh(given[2] + reset * held[2]) + update * h


def layer_norm_gru_by_hand(cell: LayerNormGru, x: Any, h: Any) -> Any:
    """danijar/dreamerv2, common/nets.py, GRUCell."""
    parts = array(cell.gates.weight) @ np.concatenate([x, h])
    parts = (parts - parts.mean()) / np.sqrt(parts.var() + 1e-3) * array(cell.norm.weight) + array(cell.norm.bias)
    reset, candidate, update = np.split(parts, 3)
    update = expit(update - 1)
    return update * np.tanh(expit(reset) * candidate) + (1 - update) * h


@pytest.mark.parametrize("changed", [{}, V2], ids=["v1", "v2"])
def test_following_a_sequence_is_the_equations_frame_by_frame(changed: dict[str, Any]) -> None:
    model = RecurrentModel(settings(**changed), embedding=5, actions=ACTIONS)
    initialise(model, torch.Generator().manual_seed(3))
    for bias in (parameter for parameter in model.parameters() if parameter.dim() == 1):
        bias.data += normal(len(bias), seed=4)
    e, a, noise = normal(6, 2, 5), normal(6, 2, ACTIONS, seed=1), normal(6, 2, model.latents.draws, seed=2)
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[3, 1] = is_first[0, 0] = True
    followed = model.follow(e, a, is_first, untold(e.shape[1]), noise)
    for row in range(2):
        h, z = np.zeros(model.size), np.zeros(model.latents.size)
        for t in range(6):
            action = array(a[t, row])
            if is_first[t, row]:
                h, z, action = 0 * h, 0 * z, 0 * action
            x = elu(dense(model.enter, np.concatenate([z, action])))
            h = gru_by_hand(model.cell, x, h) if not changed else layer_norm_gru_by_hand(model.cell, x, h)
            prior = dense(model.prior_output, elu(dense(model.prior_hidden, h)))
            both = np.concatenate([h, array(e[t, row])])
            posterior = dense(model.posterior_output, elu(dense(model.posterior_hidden, both)))
            if changed:
                z = np.eye(4)[(posterior + array(noise[t, row])).reshape(-1, 4).argmax(1)].ravel()
            else:
                mean, raw = np.split(posterior, 2)
                z = mean + (softplus(raw) + 0.1) * array(noise[t, row])
            expected = {"h": h, "z": z, "prior": prior, "posterior": posterior}
            found = {
                "h": followed.states.h,
                "z": followed.states.z,
                "prior": followed.prior,
                "posterior": followed.posterior,
            }
            for name, value in expected.items():
                np.testing.assert_allclose(array(found[name][t, row]), value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_episode_that_begins_within_a_window_knows_nothing_of_the_one_before() -> None:
    model = RecurrentModel(settings(), embedding=5, actions=ACTIONS)
    e, a, noise = normal(7, 1, 5), normal(7, 1, ACTIONS, seed=1), normal(7, 1, model.latents.draws, seed=2)
    is_first = torch.zeros(7, 1, dtype=torch.bool)
    is_first[4] = True
    whole = model.follow(e, a, is_first, untold(e.shape[1]), noise).states
    alone = model.follow(e[4:], a[4:], is_first[4:], untold(1), noise[4:]).states
    torch.testing.assert_close(whole.h[4:], alone.h)
    torch.testing.assert_close(whole.z[4:], alone.z)


def test_seeing_frame_by_frame_is_following_and_imagining_is_the_prior() -> None:
    model = RecurrentModel(settings(), embedding=5, actions=ACTIONS)
    e, a, noise = normal(4, 3, 5), normal(4, 3, ACTIONS, seed=1), normal(4, 3, model.latents.draws, seed=2)
    followed = model.follow(e, a, torch.zeros(4, 3, dtype=torch.bool), untold(3), noise)
    state = model.begin(untold(3))
    for t in range(4):
        before, state = state, model.see(state, a[t], e[t], noise[t])
        torch.testing.assert_close(state.z, followed.states.z[t])
    imagined = model.imagine(before, a[3], noise[3])
    torch.testing.assert_close(imagined.z, model.latents.sample(followed.prior[3], noise[3]))


# Latents


def test_the_kl_of_gaussians_is_that_of_the_integral() -> None:
    latents, q, p = Gaussian(2), normal(1, 4), normal(1, 4, seed=1)
    grid = np.linspace(-30, 30, 400_001)
    expected = 0.0
    for i in range(2):
        log_q, log_p = (norm.logpdf(grid, array(o)[0, i], softplus(array(o)[0, 2 + i]) + 0.1) for o in (q, p))
        expected += float((np.exp(log_q) * (log_q - log_p)).sum() * (grid[1] - grid[0]))
    assert float(latents.divergence(q, p)) == pytest.approx(expected, rel=1e-4)


def test_the_kl_of_one_hot_vectors_is_the_sum() -> None:
    latents, q, p = Categorical(3, 4), normal(1, 12), normal(1, 12, seed=1)
    expected = 0.0
    for i in range(3):
        x, y = (np.exp(array(o)[0, 4 * i : 4 * i + 4]) for o in (q, p))
        x, y = x / x.sum(), y / y.sum()
        expected += sum(x[k] * math.log(x[k] / y[k]) for k in range(4))
    assert float(latents.divergence(q, p)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("latents", [Gaussian(2), Categorical(2, 2)])
def test_balance_shares_the_kls_gradient_and_free_nats_stop_it(latents: Any) -> None:
    def gradients(balance: float | None, free: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        q, p = normal(5, 3, 4).requires_grad_(), normal(5, 3, 4, seed=1).requires_grad_()
        loss = divergence_loss(latents, q, p, balance, free)
        return float(loss.detach()), *torch.autograd.grad(loss, (q, p))

    kl, of_q, of_p = gradients(None, 0.0)
    assert kl == pytest.approx(float(latents.divergence(normal(5, 3, 4), normal(5, 3, 4, seed=1)).mean()))
    value, shared_q, shared_p = gradients(0.8, 0.0)
    assert value == pytest.approx(kl)
    torch.testing.assert_close(shared_q, 0.2 * of_q)
    torch.testing.assert_close(shared_p, 0.8 * of_p)
    for balance in (None, 0.8):  # the floor is under the mean over frames and sequences: single ones may be below
        value, of_q, of_p = gradients(balance, kl + 0.1)
        assert value == pytest.approx(kl + 0.1) and not of_q.any() and not of_p.any()
        assert gradients(balance, kl - 0.1)[1].any()


def test_a_one_hot_sample_passes_the_gradient_of_its_probabilities() -> None:
    latents, weight = Categorical(3, 4), normal(5, 12, seed=2)
    logits = normal(5, 12).requires_grad_()
    z = latents.sample(logits, latents.noise(5, generator=torch.Generator().manual_seed(0)))
    vectors = z.detach().reshape(5, 3, 4)
    torch.testing.assert_close(vectors.sort(-1).values, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(5, 3, 4))
    probabilities = logits.reshape(5, 3, 4).softmax(-1).flatten(1)
    (expected,) = torch.autograd.grad((weight * probabilities).sum(), logits)
    (found,) = torch.autograd.grad((weight * z).sum(), logits)
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_one_hot_samples_come_as_often_as_their_probabilities_say() -> None:
    latents, logits = Categorical(1, 4), torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn = latents.sample(logits.expand(20_000, 4), latents.noise(20_000, generator=torch.Generator().manual_seed(0)))
    expected = 20_000 * np.exp(array(logits)) / np.exp(array(logits)).sum()
    assert chisquare(array(drawn).sum(0), expected, sum_check=False).pvalue > 0.001  # a fact about the stream


# Policies


def test_the_tanh_normals_density_is_the_change_of_variables_and_sums_to_one() -> None:
    mu, sigma = torch.tensor([0.3, -1.2]), torch.tensor([0.7, 1.5])
    a = np.linspace(-0.9999, 0.9999, 20_001)
    policy = TanhNormal(mu, sigma)
    found = array(policy.log_probability(torch.from_numpy(np.arctanh(a))[:, None]))
    for i in range(2):
        expected = norm.logpdf(np.arctanh(a), float(mu[i]), float(sigma[i])) - np.log(1 - a**2)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-5, atol=1e-5)
    mass = np.exp(found).sum(0) * (a[1] - a[0])
    np.testing.assert_allclose(mass, 1, atol=5e-3)
    far = policy.log_probability(torch.tensor([12.0, -12.0]))  # where 1 - tanh^2 is 0 in float32
    assert torch.isfinite(far).all()


def test_the_truncated_normal_is_scipys() -> None:
    mu, sigma = torch.tensor([0.3, -1.0, 0.99]), torch.tensor([0.1, 0.8, 2.1])
    policy, low = TruncatedNormal(mu, sigma), (-1 - array(mu)) / array(sigma)
    reference = truncnorm(low, (1 - array(mu)) / array(sigma), loc=array(mu), scale=array(sigma))
    noise = torch.tensor([0.001, 0.2, 0.5, 0.9, 0.999])[:, None].expand(5, 3)
    raw = policy.raw(noise)
    np.testing.assert_allclose(array(raw), reference.ppf(array(noise)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(array(policy.log_probability(raw)), reference.logpdf(array(raw)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(array(policy.entropy(raw)), reference.entropy(), rtol=1e-3, atol=1e-4)
    assert torch.equal(policy.mode(), mu) and policy.action(policy.raw(torch.tensor([0.0, 1.0, 0.5]))).abs().max() <= 1


def test_a_fresh_tanh_normal_has_the_initial_deviation_and_its_mean_stays_in_scale() -> None:
    actor = dreamer(actor_initial_std=5.0, actor_min_std=1e-4, actor_mean_scale=5.0).behaviour.actor
    policy = actor.policy(torch.tensor([0.0, 100.0, 0.0, 0.0]))
    assert isinstance(policy, TanhNormal)
    np.testing.assert_allclose(array(policy.mu), [0, 5], atol=1e-5)
    np.testing.assert_allclose(array(policy.sigma), 5.0001, rtol=1e-5)
    cut = dreamer(actor_distribution="truncated_normal", actor_min_std=0.1).behaviour.actor
    policy = cut.policy(torch.tensor([0.5, -0.5, 0.0, 1.0]))
    np.testing.assert_allclose(array(policy.mode()), np.tanh([0.5, -0.5]), rtol=1e-6)
    np.testing.assert_allclose(array(policy.sigma), 2 * expit(np.array([0.0, 0.5])) + 0.1, rtol=1e-6)  # type: ignore[attr-defined]


def test_a_state_is_what_the_heads_see() -> None:
    state = State(torch.ones(2, 3), torch.zeros(2, 4), 2 * torch.ones(2, 1))
    assert state.features.tolist() == [[1.0] * 3 + [0.0] * 4 + [2.0]] * 2
