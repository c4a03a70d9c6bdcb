"""Meta-Dreamer: the meta-gradient, what learns from what, and adapting without a trace. A test for each defect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.errors import SpecificationError
from mtrepro.specification import refuse_conflicts
from mtrepro.world_model.adaptation import adapt, apart, parameters_of, under
from mtrepro.world_model.curiosity import surprise
from tests.unit.dreamer_fixture import dreamer, fill
from tests.unit.dreamer_fixture import pictures as random_pictures
from tests.unit.meta_fixture import PARTS, TASKS, Doubled, episode, meta_dreamer

FREE, LIMITED = 1e9, 0.05  # limits of an inner step that no gradient reaches, and that every one does


def length_of(gradients: Any) -> float:
    return float(torch.cat([each.flatten() for each in gradients]).norm())


# The meta-gradient


@pytest.mark.parametrize(
    ("order", "state_space"), [("first", "recurrent"), ("second", "recurrent"), ("second", "transformer")]
)
def test_the_meta_gradient_reaches_every_parameter(order: str, state_space: str) -> None:
    agent = meta_dreamer(order=order, continue_scale=1.0, inner_rate=1e-3, state_space=state_space)
    theta = parameters_of(agent.model)
    gradients = dict(zip(theta, agent.outer(theta, agent.drawn(0)).gradients, strict=True))
    assert {name.split(".")[0] for name in gradients} == set(PARTS)
    still = [name for name, each in gradients.items() if not each.any() or not torch.isfinite(each).all()]
    assert not still


@pytest.mark.parametrize("limit", [FREE, LIMITED], ids=["free", "limited"])
def test_second_order_is_the_derivative_and_first_order_is_not(monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    doubled = Doubled(monkeypatch)
    rate = 1e-3 if limit == FREE else 1.0
    inner = (2, rate, limit)
    second, first = doubled.gradients(*inner, True), doubled.gradients(*inner, False)
    generator, step = torch.Generator().manual_seed(1), 1e-5
    for part in PARTS:
        names = [name for name in doubled.theta if name.startswith(part)]
        along = {name: torch.randn(doubled.theta[name].shape, generator=generator).double() for name in names}

        def moved(sign: float, along: Any = along) -> float:
            theta = {
                name: each.detach() + sign * step * along.get(name, torch.zeros(()))
                for name, each in doubled.theta.items()
            }
            given = {name: each.requires_grad_() for name, each in theta.items()}
            return float(doubled.outer(given, *inner, False).detach())

        slope = (moved(1) - moved(-1)) / (2 * step)
        claimed, crude = (float(sum((g[name] * along[name]).sum() for name in names)) for g in (second, first))
        assert claimed == pytest.approx(slope, rel=1e-4, abs=1e-6), part
        assert abs(crude - slope) > 10 * abs(claimed - slope), part


def test_an_inner_step_is_gradient_descent_of_limited_length(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = Doubled(monkeypatch)
    names, values = list(doubled.theta), list(doubled.theta.values())
    gradients = torch.autograd.grad(doubled.support(), values)
    for limit in (FREE, LIMITED):
        scale = min(1.0, limit / length_of(gradients))
        found = adapt(doubled.agent.model, doubled.theta, doubled.support, 1, 0.01, limit)
        for name, value, gradient in zip(names, values, gradients, strict=True):
            torch.testing.assert_close(found[name], value - 0.01 * scale * gradient)


def test_the_outer_step_moves_the_meta_parameters_along_the_mean_of_the_tasks() -> None:
    agent, twin = meta_dreamer(order="second"), meta_dreamer(order="second")
    theta = parameters_of(twin.model)
    given = [twin.outer(theta, twin.drawn(task)).gradients for task in range(TASKS)]
    mean = [torch.stack(each).mean(0) for each in zip(*given, strict=True)]
    before = [each.detach().clone() for each in theta.values()]
    seen = list[torch.Tensor]()
    optimiser = agent.optimisers["world_model"]
    own = optimiser.descend
    optimiser.descend = lambda gradients: (seen.extend(gradients), own(seen))[1]  # type: ignore[method-assign, func-returns-value]
    agent.learn()
    scale = min(1.0, agent.settings.gradient_limit / length_of(mean))
    for expected, gradient in zip(mean, seen, strict=True):
        torch.testing.assert_close(gradient, scale * expected)
    assert all(not torch.equal(old, new) for old, new in zip(before, agent.model.parameters(), strict=True))


def test_without_inner_steps_it_is_a_plain_dreamer_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    meta, plain = meta_dreamer(1, inner_steps=0, curiosity_scale=0.0, sequences=4), dreamer(sequences=4)
    fill(plain)
    batches = [meta.replay.draw(4, 6) for _ in range(3)]
    given = {id(meta.replay): iter(batches), id(plain.replay): iter(batches)}
    monkeypatch.setattr(meta.replay, "draw_apart", lambda *_: [None, next(given[id(meta.replay)])])
    monkeypatch.setattr(plain, "draw", lambda: next(given[id(plain.replay)]))
    for _ in range(3):
        meta.learn()
        plain.learn()
    for name, group in plain.parameter_groups().items():
        assert all(torch.equal(one, other) for one, other in zip(group, meta.parameter_groups()[name], strict=True)), (
            name
        )


# Support and query


def test_support_and_query_are_of_one_task_and_share_no_episode() -> None:
    agent = meta_dreamer()
    for frames in agent.replay.frames:  # each frame's reward is its number
        frames._rows["reward"] = np.arange(frames.capacity)  # type: ignore[attr-defined]
    used = set[int]()
    for _ in range(50):
        support, query = agent.replay.draw_apart(1, (3, 4), 6)
        assert support.reward.shape == (6, 3) and query.reward.shape == (6, 4)
        assert set(support.task.tolist()) == set(query.task.tolist()) == {1}
        a, b = (set(each.reward.flatten().int().tolist()) for each in (support, query))
        episodes = [
            {int(np.searchsorted(agent.replay.begins[1], number, side="right")) for number in each} for each in (a, b)
        ]
        assert not episodes[0] & episodes[1]
        used |= a | b
    assert len(used) > 0.9 * agent.replay.frames[1].count


# Curiosity, which the notebook's value loss could game


@pytest.mark.parametrize("kind", ["latent_error", "divergence"])
def test_surprise_is_never_negative_and_the_reward_for_it_neither(kind: str) -> None:
    agent = meta_dreamer(curiosity_kind=kind)
    theta = parameters_of(agent.model)
    outer = agent.outer(theta, agent.drawn(0))
    u = surprise(agent.model.dynamics.latents, outer.loss.followed, kind)  # type: ignore[arg-type]
    assert u.shape == outer.query.reward.shape and (u >= 0).all() and u.any() and not u.requires_grad
    assert agent.curiosity is not None
    for _ in range(20):
        agent.learn()
    features = 10 * torch.randn(100, agent.model.dynamics.features, generator=torch.Generator().manual_seed(0))
    assert (agent.curiosity(features) >= 0).all() and agent.metrics()["curiosity_loss"] > 0


def test_the_running_deviation_is_numpys() -> None:
    agent, stream = meta_dreamer(), np.random.default_rng(0)
    values = [stream.gamma(2.0, size=size) for size in (5, 1, 40)]
    assert agent.curiosity is not None
    for each in values:
        agent.curiosity.note(torch.from_numpy(each))
    assert float(agent.curiosity.deviation()) == pytest.approx(np.concatenate(values).std())


def test_weights_are_a_choice_of_rows() -> None:
    chosen, weighed = (meta_dreamer().curiosity for _ in range(2))
    assert chosen is not None and weighed is not None
    stream = torch.Generator().manual_seed(0)
    for _ in range(3):
        u, s = torch.rand(40, generator=stream), torch.randn(40, chosen.head[0].in_features, generator=stream)  # type: ignore[arg-type]
        seen = torch.rand(40, generator=stream) < 0.7
        chosen.note(u[seen])
        weighed.note(u, seen.to(u.dtype))
        torch.testing.assert_close(weighed.deviation(), chosen.deviation())
        torch.testing.assert_close(weighed.loss(s, u, seen.to(u.dtype)), chosen.loss(s[seen], u[seen]))
        assert int(weighed.count) == int(chosen.count)


@pytest.mark.parametrize("learner", ["world_model", "actor", "critic", "curiosity"])
def test_each_loss_moves_its_own_group_and_no_other(learner: str) -> None:
    agent = meta_dreamer()
    for name, optimiser in agent.optimisers.items():
        optimiser.rate = 1e-2 if name == learner else 0.0
    before = {name: [each.detach().clone() for each in group] for name, group in agent.parameter_groups().items()}
    agent.learn()
    for name, group in agent.parameter_groups().items():
        moved = [not torch.equal(old, new) for old, new in zip(before[name], group, strict=True)]
        assert all(moved) if name == learner else not any(moved), name
        assert all(each.grad is None for each in group)


def test_the_behaviour_learns_in_the_adapted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = meta_dreamer(inner_rate=1e-2)
    seen = list[dict[str, torch.Tensor]]()
    own = agent.judged

    def watched(*given: Any) -> Any:
        seen.append({name: each.detach().clone() for name, each in agent.model.named_parameters()})
        return own(*given)

    monkeypatch.setattr(agent, "judged", watched)
    agent.learn()
    assert len(seen) == TASKS
    name = "dynamics.prior_output.weight"
    assert not torch.equal(seen[0][name], seen[1][name]), "each task has its own"
    assert not any(torch.equal(each[name], dict(agent.model.named_parameters())[name]) for each in seen)


# Adapting


def test_adapting_lowers_the_loss_on_what_it_adapts_to() -> None:
    agent = meta_dreamer(adaptation_steps=10, inner_rate=1e-3, inner_limit=10.0)
    adapted = agent.adapt([[episode(seed=seed)] for seed in (3, 4)])
    for task, seed in enumerate((3, 4)):
        judged = adapted.judge(task, episode(seed=seed))
        assert judged["adapted_model_loss"] < judged["model_loss"]
    other = adapted.judge(0, episode(seed=4))
    assert other["adapted_model_loss"] != adapted.judge(1, episode(seed=4))["adapted_model_loss"]
    assert other == adapted.judge(0, episode(seed=4)), "the same noise each time"


def test_adapting_and_acting_adapted_leave_no_trace() -> None:
    agent = meta_dreamer()

    def fingerprint() -> list[bytes]:
        streams = [agent.noise.get_state(), agent.acting_noise.get_state()]
        return [each.detach().numpy().tobytes() for each in (*agent.model.parameters(), *streams)]

    before, seen, tasks = fingerprint(), random_pictures(3, TASKS), np.arange(TASKS)

    def all_of_it() -> list[bytes]:
        gathering, memory = dict[str, Any](), dict[str, Any]()
        actions = [agent.gather(each, tasks, moment, gathering) for moment, each in enumerate(seen)]
        adapted = agent.adapt([[episode()], [episode(seed=5)]])
        actions += [adapted.act(each, tasks, explore=False, memory=memory) for each in seen]
        return [each.tobytes() for each in actions]

    assert all_of_it() == all_of_it() and fingerprint() == before
    assert agent.replay.frames[0].count == 45 + 7 and agent.steps == 45


def test_an_adapted_policy_follows_with_its_tasks_own_model() -> None:
    agent = meta_dreamer(adaptation_steps=20, inner_rate=1e-2, inner_limit=10.0)
    adapted, seen, tasks = agent.adapt([[episode()], [episode(seed=5)]]), random_pictures(3, TASKS), np.arange(TASKS)
    memory, alone = dict[str, Any](), dict[str, Any]()
    for each in seen:
        both = adapted.act(each, tasks, explore=False, memory=memory)
        one = under(
            agent.model,
            adapted.adapted[1],
            lambda each=each: agent.act(each[1:], tasks[1:], explore=False, memory=alone),  # type: ignore[misc]
        )
        np.testing.assert_array_equal(both[1:], one)
    assert not np.array_equal(both, agent.act(seen[-1], tasks, explore=False, memory={}))


def test_parameters_that_stand_in_are_gone_afterwards() -> None:
    agent = meta_dreamer()
    theta = parameters_of(agent.model)
    doubled = {name: 2 * each for name, each in apart(theta).items()}
    name = "reward.0.weight"
    assert torch.equal(under(agent.model, doubled, lambda: dict(agent.model.named_parameters())[name]), 2 * theta[name])
    assert parameters_of(agent.model)[name] is theta[name]


# What it refuses


def test_settings_that_cannot_work_are_refused_and_a_budget_of_nothing_is_the_baseline_from_scratch() -> None:
    settings = meta_dreamer(length=21).settings
    with pytest.raises(SpecificationError, match=r"a.length: support and query need two sequences of 21 frames apart"):
        refuse_conflicts("meta_dreamer", settings, 99, ("one", "two"), "a")
    refuse_conflicts("meta_dreamer", settings, 0, ("one", "two"), "a")
