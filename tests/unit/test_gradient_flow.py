"""Who receives gradient from which loss: the tables of docs/methods/care.md and soft_modularization.md, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrepro.networks.actor_critic import Seen
from mtrepro.networks.tasks import BatchTasks
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.unit.family_fixture import copies, fill, named, perturb, problem, tiny, uneven

# Each loss, and the optimisers whose steps follow from it.
LOSSES = {"critic": {"critics", "task_encoder"}, "actor": {"actor"}, "temperature": {"temperature"}}

CARE = [
    {"attention": "task", "actor_attention": "frozen"},
    {"attention": "task", "actor_attention": "trained"},
    {"attention": "context", "actor_attention": "frozen"},
]
EVERY: list[tuple[str, dict[str, Any]]] = [
    *(("care", settings) for settings in CARE),
    *(("care_ptsl", settings | {"residual": "linear"}) for settings in CARE),
    ("soft_modularization", {"variant": "mtrl", "module_layers": 3}),
    ("soft_modularization", {"variant": "original", "module_layers": 3, "temperature_weights": True}),
]
NAMES = [" ".join([method, *(str(value) for value in settings.values())]) for method, settings in EVERY]
every = pytest.mark.parametrize(("method", "settings"), EVERY, ids=NAMES)


def ready(method: str, **settings: Any) -> SoftActorCritic:
    """An agent that can learn, with no parameter at zero."""
    its = tiny(method, **settings)
    perturb(its, scale=0.2)
    fill(its)
    return its


def without(its: SoftActorCritic, names: Iterable[str]) -> None:
    """Let these optimisers stand still."""
    for name in names:
        if name in its.optimisers:
            its.optimisers[name].descend = lambda gradients: None  # type: ignore[method-assign]


def moved(its: SoftActorCritic, updates: int = 1) -> set[str]:
    """The names of what has changed after some updates."""
    before = copies(its)
    for _ in range(updates):
        its.learn()
    return {name for name, value in named(its).items() if not torch.equal(before[name], value)}


def recorded(its: SoftActorCritic) -> list[tuple[str, list[Tensor | None]]]:
    """One update; the steps of its optimisers in order, with the gradients that each was given."""
    steps: list[tuple[str, list[Tensor | None]]] = []
    for name, optimiser in its.optimisers.items():

        def record(gradients: Iterable[Tensor | None], name: str = name, descend: Any = optimiser.descend) -> None:
            given = list(gradients)
            steps.append((name, [None if gradient is None else gradient.clone() for gradient in given]))
            descend(given)

        optimiser.descend = record  # type: ignore[method-assign]
    its.learn()
    return steps


def moved_by(name: str, method: str, settings: dict[str, Any]) -> str | None:
    """What the tables say: the loss that moves the parameter of this name, or None."""
    if name == "log_alpha":
        return "temperature"
    if name.startswith(("critics.", "task_encoder.")):
        return "critic"
    if name.startswith("actor.body."):
        return "actor"
    if method == "soft_modularization" or name.startswith("actor.encoder.experts."):
        return "critic"  # the critics' own encoder, and CARE's experts: the actor's are the same numbers
    assert name.startswith("actor.encoder.attention.")
    return "actor" if settings["actor_attention"] == "trained" else None


@pytest.mark.parametrize("loss", LOSSES)
@every
def test_each_loss_moves_exactly_what_the_table_says(method: str, settings: dict[str, Any], loss: str) -> None:
    its = ready(method, **settings)
    without(its, set().union(*(optimisers for other, optimisers in LOSSES.items() if other != loss)))
    assert moved(its, updates=5) == {name for name in named(its) if moved_by(name, method, settings) == loss}


@every
def test_the_actors_parameters_get_the_actor_loss_alone_and_nothing_moves_twice(
    method: str, settings: dict[str, Any]
) -> None:
    its = ready(method, **settings)
    groups = list(its.parameter_groups().values())
    assert len({id(parameter) for group in groups for parameter in group}) == sum(map(len, groups))
    for name, gradients in recorded(its):
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients), name


@pytest.mark.parametrize("method", ["care", "care_ptsl"])
def test_the_actors_attention_stays_as_drawn_or_is_trained(method: str) -> None:
    for attention in ("frozen", "trained"):
        its = ready(method, actor_attention=attention)
        own = {name for name in named(its) if name.startswith("actor.encoder.attention.")}
        assert len(own) == 6
        assert moved(its, updates=20) & own == (own if attention == "trained" else set())
    assert not any("actor.encoder.attention" in name for name in named(ready(method, attention="context")))


@pytest.mark.parametrize("method", ["care", "care_ptsl", "soft_modularization"])
def test_no_gradient_flows_from_the_actor_into_the_encoder_or_the_codes(method: str) -> None:
    its = ready(method)
    seen, _ = uneven(its)
    encoder = list(its.critics.encoder.parameters())
    shared = [parameter for parameter in its.actor.parameters() if any(parameter is other for other in encoder)]
    assert its.task_encoder is not None and shared
    loss = its.actor(seen.stopped()).sum()
    assert set(torch.autograd.grad(loss, [*shared, *its.task_encoder.parameters()], allow_unused=True)) == {None}


@pytest.mark.parametrize("method", ["care", "care_ptsl", "soft_modularization"])
def test_actor_and_critics_hold_the_same_encoder_also_after_a_state_is_loaded(method: str) -> None:
    other = ready(method, seed=5)
    saved = other.state()
    its = ready(method)
    for _ in range(2):
        values = named(its)
        shared = {
            name: name.replace("actor.encoder.encoder.", "critics.encoder.") for name in values if "encoder.enc" in name
        }
        shared |= {
            name: name.replace("actor.", "critics.") for name in values if name.startswith("actor.encoder.experts")
        }
        assert shared and all(values[a] is values[b] for a, b in shared.items())
        assert set(shared) <= moved(its)
        its.load_state(saved)
        assert all(torch.equal(values[name], value) for name, value in named(other).items())


def critic_loss_by_hand(its: SoftActorCritic, batch: Any, codes: Tensor, attended: Tensor, target: Tensor) -> Tensor:
    """The critic loss of CARE with attention reading `attended` and the networks `codes`."""
    tasks = BatchTasks(batch.task, its.problem.tasks)
    encoder: Any = its.critics.encoder
    encodings = encoder.experts(batch.observation)
    if hasattr(encoder.attention, "network"):
        alpha = encoder.attention.network(attended).softmax(1)[batch.task]
    else:
        alpha = torch.stack([(e * attended[batch.task]).sum(1) for e in encodings], dim=1).softmax(1)
    z = sum(alpha[:, k : k + 1] * encodings[k] for k in range(len(encodings)))
    inputs = torch.cat([torch.as_tensor(z), codes[batch.task], batch.action], dim=1)
    values = [body(inputs, Seen(batch.observation, tasks)).squeeze(1) for body in its.critics.bodies]
    return torch.stack([(value - target).square().mean() for value in values]).sum()


@pytest.mark.parametrize(("attention", "through_attention"), [("task", True), ("context", False)])
def test_the_task_encoder_gets_the_critic_loss_through_the_paths_of_the_table(
    attention: str, through_attention: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = ready("care", attention=attention)
    batch, target = its.replay.draw(24), torch.linspace(-1, 1, 24)
    monkeypatch.setattr(its.replay, "draw", lambda size: batch)
    monkeypatch.setattr(its, "_target", lambda *given: target)
    assert its.task_encoder is not None
    parameters, expected = list(its.task_encoder.parameters()), {}
    for cut in (False, True):
        codes = its.task_encoder()
        loss = critic_loss_by_hand(its, batch, codes, codes.detach() if cut else codes, target)
        expected[cut] = torch.autograd.grad(loss, parameters)
    measured = dict(recorded(its))["task_encoder"]
    for index, gradient in enumerate(measured):
        assert gradient is not None and gradient.any()
        torch.testing.assert_close(gradient, expected[not through_attention][index], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(gradient, expected[through_attention][index], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["care", "care_ptsl", "soft_modularization"])
def test_the_task_encoders_step_comes_last_and_every_loss_sees_the_codes_from_before(method: str) -> None:
    its = ready(method)
    assert its.task_encoder is not None
    before, saw = its.task_encoder().detach(), []
    for network in (its.actor, its.critics, its.targets):
        network.register_forward_pre_hook(lambda module, given: saw.append(given[0].codes))
    steps = [name for name, _ in recorded(its)]
    assert steps == ["critics", "actor", "temperature", "task_encoder"]
    assert len(saw) == 5 and all(torch.equal(codes, before) for codes in saw)
    # in order: actor and slow critics for the target, critics, actor and critics for the actor loss
    assert [codes.requires_grad for codes in saw] == [False, False, True, False, False]
    assert not torch.equal(its.task_encoder(), before)


@pytest.mark.parametrize("method", ["care", "care_ptsl", "soft_modularization"])
def test_slow_encoder_and_slow_critics_follow_at_rates_of_their_own(method: str) -> None:
    its = ready(method, target_rate=0.25, encoder_target_rate=0.5, critic_rate=0.05)
    before = {name: value.detach().clone() for name, value in its.targets.named_parameters()}
    its.learn()
    fast, rates = dict(its.critics.named_parameters()), set()
    for name, slow in its.targets.named_parameters():
        rate = 0.5 if name.startswith("encoder.") else 0.25
        rates.add(rate)
        old, new = before[name].double().numpy(), fast[name].detach().double().numpy()
        np.testing.assert_allclose(slow.detach().numpy(), old + rate * (new - old), rtol=1e-6, atol=1e-7)
        assert not np.allclose(old, new, atol=1e-3)
    assert rates == {0.5, 0.25}


# Soft modularization's re-weighting


def test_temperature_weights_are_as_the_paper_says_by_hand_for_three_tasks() -> None:
    settings: dict[str, Any] = {"variant": "original", "temperature_weights": True}
    its = tiny("soft_modularization", problem(3), **settings)
    fill(its)
    its.log_alpha.data = torch.log(torch.tensor([1.0, 0.5, 0.25]))
    # softmax(-log alpha) of alpha 1, 1/2, 1/4: 1 : 2 : 4, so with N = 3: 3/7, 6/7, 12/7
    weights = its.weigh(torch.ones(2, 4), BatchTasks(torch.tensor([2, 0, 1, 2]), 3))
    np.testing.assert_allclose(weights, [[12 / 7, 3 / 7, 6 / 7, 12 / 7]] * 2, rtol=1e-6)
    plain = tiny("soft_modularization", problem(3), variant="original")
    assert torch.equal(plain.weigh(torch.ones(2, 3), BatchTasks(torch.arange(3), 3)), torch.ones(2, 3))


def test_temperature_weights_count_in_the_critics_and_the_actors_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    its = tiny("soft_modularization", problem(3), variant="original", temperature_weights=True)
    fill(its)
    its.log_alpha.data = torch.log(torch.tensor([1.0, 0.5, 0.25]))
    batch, noise = its.replay.draw(24), torch.randn(24, 2, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(its.replay, "draw", lambda size: batch)
    monkeypatch.setattr(its, "_target", lambda *given: torch.zeros(24))
    monkeypatch.setattr(torch, "randn", lambda *size, **settings: noise)
    without(its, ["critics"])  # so that the actor loss has the critics from before
    seen = Seen(batch.observation, BatchTasks(batch.task, 3))
    weights = torch.tensor([3 / 7, 6 / 7, 12 / 7])[batch.task]
    critic_loss = (weights * its.critics(seen, batch.action).square()).sum() / 24
    expected_critics = torch.autograd.grad(critic_loss, list(its.critics.parameters()))
    drawn = its._sample(its.actor(seen), noise)
    row = its.log_alpha.exp()[batch.task].detach() * drawn.log_probability - its.critics(seen, drawn.action).amin(0)
    expected_actor = torch.autograd.grad((weights * row).sum() / 24, list(its.actor.parameters()))
    measured = dict(recorded(its))
    for gradients, expected in ((measured["critics"], expected_critics), (measured["actor"], expected_actor)):
        for one, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
