"""The Transformer state-space model against the equations in numpy, and its kept keys against none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.errors import SpecificationError
from mtrepro.specification import refuse_conflicts
from mtrepro.world_model.imagination import draw_noise, imagine
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.policies import Actor
from mtrepro.world_model.state_space import State
from mtrepro.world_model.transformer import TransformerModel
from tests.unit.dreamer_fixture import ACTIONS, settings
from tests.unit.test_world_model import array, dense, elu, normal, softplus
from tests.unit.transformer_fixture import imagine_without_cache, sequences

FRAMES, ROWS = 6, 3


def make(code: int = 0, **changed: Any) -> TransformerModel:
    """A small model whose biases and norms are not what they begin as; a moment sees six."""
    model = TransformerModel(settings(state_space="transformer", **changed), embedding=5, actions=ACTIONS, code=code)
    initialise(model, torch.Generator().manual_seed(3))
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * normal(len(parameter), seed=4)
    return model


# The equations


def layer_norm(norm: Any, x: Any) -> Any:
    return (x - x.mean()) / np.sqrt(x.var() + norm.eps) * array(norm.weight) + array(norm.bias)


def turned(vector: Any, moment: int) -> Any:
    """Pairs of units as complex numbers, turned by moment times their speed."""
    half = len(vector) // 2
    pairs = vector[:half] + 1j * vector[half:]
    pairs = pairs * np.exp(1j * moment * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag])


def h_by_hand(model: TransformerModel, tokens: list[Any]) -> list[Any]:
    """h of every token of one episode, one token, head and earlier moment at a time."""
    rows = list(tokens)
    for layer in model._layers:
        projected = []
        for moment, x in enumerate(rows):
            q, k, v = np.split(array(layer.projections.weight) @ layer_norm(layer.attention_norm, x), 3)
            heads = [np.split(each, layer.heads) for each in (q, k, v)]
            projected.append([[turned(each, moment) for each in part] for part in heads[:2]] + [heads[2]])
        following = []
        for t, x in enumerate(rows):
            attended = []
            for head in range(layer.heads):
                seen = range(max(0, t - model.span + 1), t + 1)
                scores = np.array([projected[t][0][head] @ projected[j][1][head] for j in seen])
                share = np.exp(scores / np.sqrt(layer.units))
                attended.append(sum(w * projected[j][2][head] for w, j in zip(share / share.sum(), seen, strict=True)))
            y = x + dense(layer.output, np.concatenate(attended))
            first, _, last = layer.feedforward
            hidden = np.maximum(dense(first, layer_norm(layer.feedforward_norm, y)), 0)  # type: ignore[arg-type]
            following.append(y + dense(last, hidden))  # type: ignore[arg-type]
        rows = following
    return [layer_norm(model.norm, x) for x in rows]


@pytest.mark.parametrize("length", [6, 3], ids=["a moment sees all", "a moment sees three"])
@pytest.mark.parametrize("code", [0, 2])
def test_following_a_sequence_is_the_equations_written_out(length: int, code: int) -> None:
    model = make(code, length=length)
    e, a, is_first, c, noise = sequences(model, FRAMES, ROWS, ACTIONS)
    followed = model.follow(e, a, is_first, c, noise)
    for row in range(ROWS):
        starts = [t for t in range(FRAMES) if t == 0 or is_first[t, row]]
        for start, end in zip(starts, [*starts[1:], FRAMES], strict=True):
            tokens, z = [], np.zeros(model.latents.size)
            for t in range(start, end):
                action = 0 * array(a[t, row]) if is_first[t, row] else array(a[t, row])
                tokens.append(elu(dense(model.enter, np.concatenate([z, action, array(c[row])]))))
                outputs = dense(model.posterior_output, elu(dense(model.posterior_hidden, array(e[t, row]))))
                np.testing.assert_allclose(array(followed.posterior[t, row]), outputs, rtol=1e-4, atol=1e-5)
                mean, raw = np.split(outputs, 2)
                z = mean + (softplus(raw) + 0.1) * array(noise[t, row])
                np.testing.assert_allclose(array(followed.states.z[t, row]), z, rtol=1e-4, atol=1e-5)
            for t, h in zip(range(start, end), h_by_hand(model, tokens), strict=True):
                np.testing.assert_allclose(array(followed.states.h[t, row]), h, rtol=1e-3, atol=1e-4)
                prior = dense(model.prior_output, elu(dense(model.prior_hidden, h)))
                np.testing.assert_allclose(array(followed.prior[t, row]), prior, rtol=1e-3, atol=1e-4)


def test_no_moment_knows_another_episodes_nor_what_comes() -> None:
    model = make()
    e, a, is_first, c, noise = sequences(model, FRAMES, ROWS, ACTIONS)
    e.requires_grad_()
    h = model.follow(e, a, is_first, c, noise).states.h
    for row, t, episode in ((0, 4, 0), (1, 2, 0), (1, 5, 3)):
        (gradient,) = torch.autograd.grad(h[t, row].square().sum(), e, retain_graph=True)
        knows = [bool(each.any()) for each in gradient[:, row]]
        assert knows == [episode <= j < t for j in range(FRAMES)], "z of the moments before, within the episode"
        assert not gradient[:, [other for other in range(ROWS) if other != row]].any()


def test_a_moment_is_the_same_wherever_in_a_window_its_episode_begins() -> None:
    model = make()
    e, a, is_first, c, noise = sequences(model, FRAMES, ROWS, ACTIONS)
    whole, late = model.follow(e, a, is_first, c, noise), model.follow(e[3:], a[3:], is_first[3:], c, noise[3:])
    torch.testing.assert_close(whole.states.h[3:, 1], late.states.h[:, 1])


def test_the_task_changes_what_is_expected_and_not_what_is_seen() -> None:
    model = make(code=2)
    e, a, is_first, c, noise = sequences(model, FRAMES, ROWS, ACTIONS)
    one, other = (model.follow(e, a, is_first, code, noise) for code in (c, 1 - c))
    assert torch.equal(one.posterior, other.posterior)
    assert (one.prior != other.prior).any(-1).all()


# What is kept


@pytest.mark.parametrize("length", [6, 4])
def test_seeing_frame_by_frame_is_following_however_long_the_episode_is(length: int) -> None:
    model, frames = make(length=length), 15
    e, a, is_first, c, noise = sequences(model, frames, ROWS, ACTIONS)
    followed, state = model.follow(e, a, is_first, c, noise), model.begin(c)
    for t in range(frames):
        begins = is_first[t]
        for each in state.tensors:
            each[begins] = 0
        state = model.see(state, a[t] * (~begins).unsqueeze(-1), e[t], noise[t])
        torch.testing.assert_close(state.h, followed.states.h[t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state.z, followed.states.z[t])
        assert [each.shape for each in state.tensors] == [each.shape for each in model.begin(c).tensors]


@pytest.mark.parametrize("code", [0, 2])
@pytest.mark.parametrize("horizon", [4, 9], ids=["shorter than the span", "longer than the span"])
def test_imagination_with_kept_keys_is_that_without_and_so_are_its_gradients(horizon: int, code: int) -> None:
    model = make(code)
    actor = Actor(settings(actor_initial_std=1.0), model.features, ACTIONS)
    initialise(actor, torch.Generator().manual_seed(5))
    states = model.follow(*sequences(model, FRAMES, ROWS, ACTIONS)).states
    noise = draw_noise(model, horizon, FRAMES * ROWS, ACTIONS, torch.Generator().manual_seed(6))
    mask, found = torch.tensor([1.0, 0.0]), []
    for imagined in (
        imagine(model, actor, model.starts(states), mask, noise),
        imagine_without_cache(model, actor, states, mask, noise),
    ):
        objective = (normal(*imagined.features.shape) * imagined.features).sum()
        found.append((*imagined, *torch.autograd.grad(objective, [*actor.parameters()], retain_graph=True)))
        assert all(gradient.any() for gradient in torch.autograd.grad(objective, [model.enter.weight]))
    for with_keys, without in zip(*found, strict=True):
        torch.testing.assert_close(with_keys, without, rtol=1e-3, atol=1e-4)


def test_imagination_begins_from_what_the_model_now_is_and_passes_no_gradient_back() -> None:
    model = make()
    given = sequences(model, FRAMES, ROWS, ACTIONS)
    states = model.follow(*given).states
    with torch.no_grad():
        model.enter.weight.mul_(1.5)
    start = model.starts(states)
    assert not any(each.requires_grad for each in start.tensors)
    torch.testing.assert_close(start.z, states.z.flatten(0, 1))
    again = model.follow(*given).states
    torch.testing.assert_close(start.h, again.h.flatten(0, 1))
    assert not torch.allclose(start.h, states.h.flatten(0, 1))


def test_imagining_from_what_acting_remembers_is_the_prior() -> None:
    model = make()
    e, a, is_first, c, noise = sequences(model, FRAMES, ROWS, ACTIONS)
    is_first[:] = False
    followed, state = model.follow(e, a, is_first, c, noise), model.begin(c)
    for t in range(FRAMES):
        before, state = state, model.see(state, a[t], e[t], noise[t])
    imagined = model.imagine(before, a[-1], noise[-1])
    expected = model.latents.sample(followed.prior[-1], noise[-1])
    torch.testing.assert_close(imagined.z, expected, rtol=1e-4, atol=1e-5)


def test_it_can_be_differentiated_twice() -> None:
    model = make().double()
    given = [each.double() if each.is_floating_point() else each for each in sequences(model, 4, 2, ACTIONS)]
    weights = [layer.projections.weight for layer in model._layers]

    def gradients(create_graph: bool) -> list[torch.Tensor]:
        loss = model.follow(*given).prior.square().sum()
        return list(torch.autograd.grad(loss, weights, create_graph=create_graph))

    second = torch.autograd.grad(sum((each.square().sum() for each in gradients(True)), torch.zeros(())), weights)
    step, index = 1e-5, (3, 2)
    for weight, found in zip(weights, second, strict=True):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
            ends.append(sum(float(each.square().sum()) for each in gradients(False)))
            with torch.no_grad():
                weight[index] -= sign * step
        assert float(found[index]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


def test_heads_that_cannot_share_the_units_are_refused() -> None:
    given = settings(state_space="transformer", recurrent_size=10, attention_heads=4)
    with pytest.raises(SpecificationError, match=r"a\.attention_heads: 4 heads cannot share 10 units"):
        refuse_conflicts("dreamer", given, 99, ("toy-0",), "a")
    refuse_conflicts("dreamer", settings(recurrent_size=10, attention_heads=4), 99, ("toy-0",), "a")


def test_a_state_knows_all_its_tensors() -> None:
    state = State(torch.ones(2), torch.zeros(2), torch.zeros(0), (torch.ones(1), torch.zeros(3)))
    assert len(state.tensors) == 5 and [len(each) for each in state.map(torch.neg).memory] == [1, 3]
