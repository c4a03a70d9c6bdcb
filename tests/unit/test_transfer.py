"""Both transfer methods: what they begin with, what never moves, what enters the new reward model, what they refuse."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from mtrepro.errors import SpecificationError
from mtrepro.methods import LeavesWeights, Weights
from mtrepro.methods._loading import make_method
from mtrepro.methods.meta_model_transfer import MetaModelTransfer
from mtrepro.methods.transfer import Transfer
from mtrepro.specification import refuse_sources, resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model.meta_reward import MetaReward
from tests.conftest import SMALL, known_to
from tests.unit.dreamer_fixture import ACTIONS, V2, dreamer, fill, pictures, problem

CPU = torch.device("cpu")
FRESH = dict.fromkeys(read_method_file("transfer").settings["groups"], "fresh")


def settings(method: str, **changed: Any) -> dict[str, Any]:
    return read_method_file(method).settings | known_to(method, SMALL) | changed


def trained(seed: int = 0, **changed: Any) -> dict[str, Any]:
    """What a Dreamer left after a few updates; equal seeds have equal encoders."""
    torch.manual_seed(seed)
    agent = dreamer(**changed)
    fill(agent)
    for _ in range(2):
        agent.learn()
    left = {group: {name: p.detach().clone() for name, p in named.items()} for group, named in agent.weights().items()}
    if seed:
        for group, named in left.items():
            left[group] = (
                named if group == "encoder" else {name: p + 0.1 * torch.randn_like(p) for name, p in named.items()}
            )
    return left


def transfer(source: Weights, seed: int = 0, **changed: Any) -> Transfer:
    given = problem()._replace(sources={"source": source})
    return cast(Transfer, make_method("transfer", settings("transfer", **changed), given, seed, CPU))


def meta(sources: dict[str, Weights], **changed: Any) -> MetaModelTransfer:
    given = problem()._replace(sources=sources)
    return cast(
        MetaModelTransfer, make_method("meta_model_transfer", settings("meta_model_transfer", **changed), given, 0, CPU)
    )


def same(one: Weights, other: Weights, *groups: str) -> bool:
    return all(torch.equal(p, other[group][name]) for group in groups or one for name, p in one[group].items())


# Transfer


def test_omega_zero_is_modular_and_another_is_not() -> None:
    source = trained()
    zero, modular = transfer(source, omega=0.0), transfer(source, mode="modular", omega=0.7)
    assert same(zero.weights(), modular.weights())
    assert not same(zero.weights(), transfer(source, omega=0.2).weights(), "reward_output")


def test_full_is_the_source_and_all_fresh_is_dreamer() -> None:
    source = trained()
    assert same(source, transfer(source, mode="full").weights())
    assert same(dreamer().weights(), transfer(source, groups=FRESH).weights())


def test_what_is_frozen_never_moves_and_the_rest_does() -> None:
    source = trained()
    agent = transfer(source, groups=FRESH | {"encoder": "frozen", "decoder": "copy"})
    fill(agent)
    for _ in range(3):
        agent.learn()
    now = agent.weights()
    assert same(source, now, "encoder") and not same(source, now, "decoder")
    moving = {id(p) for group in agent.parameter_groups().values() for p in group}
    assert moving.isdisjoint(id(p) for p in agent.model.encoder.parameters())


def test_the_slow_critic_begins_as_the_critic_that_was_transferred() -> None:
    agent = transfer(trained(), slow_critic_every=5)
    slow = agent.behaviour.slow_critic
    assert slow is not None
    for mine, theirs in zip(slow.parameters(), agent.behaviour.critic.parameters(), strict=True):
        assert torch.equal(mine, theirs)


# Meta-model transfer


def reward_of(agent: MetaModelTransfer) -> MetaReward:
    return cast(MetaReward, agent.model.reward)


def test_what_the_sources_say_changes_the_reward() -> None:
    """In the published code it does not: the predictions are computed and dropped."""
    agent = meta({"encoder": trained(), "one": trained(1), "two": trained(2)})
    head, s = reward_of(agent), torch.randn(5, agent.model.dynamics.features)
    before = agent.model.rewards(s)
    for index in range(2):
        bias = cast(Any, head.sources[index])[-1].bias
        with torch.no_grad():
            bias += 1.0
        after = agent.model.rewards(s)
        assert (after - before).abs().min() > 1e-6
        before = after


def test_the_reward_is_that_of_features_and_predictions_side_by_side() -> None:
    sources = {"encoder": trained(), "one": trained(1), "two": trained(2)}
    agent = meta(sources)
    s = torch.randn(4, agent.model.dynamics.features)

    def through(hidden: Any, output: Any, x: Any) -> Any:
        for layer in range(0, 2 * (len(hidden) // 2), 2):
            y = x @ hidden[f"{layer}.weight"].numpy().T + hidden[f"{layer}.bias"].numpy()
            x = np.where(y > 0, y, np.expm1(np.minimum(y, 0)))
        return x @ output["weight"].numpy().T + output["bias"].numpy()

    told = [
        through(sources[role]["reward_hidden"], sources[role]["reward_output"], s.numpy()) for role in ("one", "two")
    ]
    body = {name: p.detach() for name, p in reward_of(agent).body[:-1].named_parameters()}
    last = {name: p.detach() for name, p in reward_of(agent).body[-1].named_parameters()}
    expected = through(body, last, np.concatenate([s.numpy(), *told], axis=1))[:, 0]
    np.testing.assert_allclose(agent.model.rewards(s).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seen", ["target", "source"])
def test_sources_never_move_and_gradient_passes_through_them(seen: str) -> None:
    sources = {"encoder": trained(), "one": trained(1)}
    agent = meta(sources, reward_features=seen)
    fill(agent)
    for _ in range(3):
        agent.learn()
    head = cast(Any, reward_of(agent).sources[0])
    assert same({"o": sources["one"]["reward_output"]}, {"o": dict(head[-1].named_parameters())})
    assert same({"e": sources["encoder"]["encoder"]}, {"e": dict(agent.model.encoder.named_parameters())})
    width = agent.model.dynamics.features * (2 if seen == "source" else 1)
    s = torch.randn(3, width, requires_grad=True)
    head_input = reward_of(agent).body[0].weight
    with torch.no_grad():
        head_input[:, : agent.model.dynamics.features] = 0.0  # what is left comes through the source
    (gradient,) = torch.autograd.grad(agent.model.rewards(s).sum(), s)
    assert gradient[:, -agent.model.dynamics.features :].abs().sum() > 0
    assert all(p.grad is None for p in agent.model.parameters())


@pytest.mark.parametrize("changed", [{}, V2], ids=["Gaussian", "one-hot"])
def test_sources_that_see_their_own_features_see_what_their_own_model_makes_of_the_frames(changed: Any) -> None:
    sources = {"encoder": trained(**changed), "one": trained(1, **changed)}
    agent = meta(sources, reward_features="source", **changed)
    fill(agent)
    batch = agent.draw()
    model, own = agent.model, agent.model.dynamics.features
    noise = model.dynamics.latents.noise(*batch.reward.shape, generator=torch.Generator())
    seen = model.loss(batch, noise).followed.states.features
    assert seen.shape[-1] == 2 * own
    alone = dreamer(**changed)
    for group, named in alone.weights().items():
        for name, parameter in named.items():
            parameter.data = sources["one"][group][name]
    still, none = (
        torch.zeros(*batch.reward.shape, alone.model.dynamics.latents.draws),
        torch.zeros(len(batch.reward[0]), 0),
    )
    with torch.no_grad():
        e = alone.model.embed(batch.observation)
        expected = alone.model.dynamics.follow(e, batch.action, batch.is_first, none, still).states.features
    torch.testing.assert_close(seen[..., own:], expected)


def test_a_source_with_more_actions_gets_zeros_for_those_that_are_not_here() -> None:
    sources = {"encoder": trained(), "one": trained(1)}
    given = problem(actions=1)._replace(sources=sources)
    chosen = settings("meta_model_transfer", reward_features="source")
    agent = cast(MetaModelTransfer, make_method("meta_model_transfer", chosen, given, 0, CPU))
    assert agent.act(pictures(1), np.arange(1), explore=False).shape == (1, 1)
    fewer = problem(actions=3)._replace(sources=sources)
    with pytest.raises(SpecificationError, match="fewer actions than its source, not more"):
        make_method("meta_model_transfer", chosen, fewer, 0, CPU)


def test_a_source_that_was_trained_with_another_encoder_is_refused() -> None:
    other = trained(1)
    other["encoder"] = {name: p + 1 for name, p in other["encoder"].items()}
    with pytest.raises(SpecificationError, match=r"sources\.one: its encoder is not that of sources\.encoder"):
        meta({"encoder": trained(), "one": other})


# What planning refuses


def planned(method: str, sources: dict[str, Any], **changed: Any) -> str:
    typed = resolve_settings(method, settings(method, **changed), "settings")
    with pytest.raises(SpecificationError) as caught:
        refuse_sources(method, typed, sources, "F: arms.a")
    return str(caught.value)


def test_sources_that_a_method_cannot_use_are_refused_when_the_study_is_read() -> None:
    mine = settings("dreamer")
    assert "transfer begins from one run, which is called `source`; found: none" in planned("transfer", {})
    assert "found: encoder" in planned("transfer", {"encoder": mine})
    said = planned("transfer", {"source": mine | {"recurrent_size": 9}})
    assert "F: arms.a.settings.recurrent_size: 8, but its source has 9: decoder would not fit" in said
    assert "needs `encoder`" in planned("meta_model_transfer", {"one": mine})
    deeper = {"encoder": mine, "one": mine | {"reward_depth": 4}}
    assert "settings.reward_depth: 1, but its source has 4: reward_hidden" in planned("meta_model_transfer", deeper)
    other = resolve_settings("dreamer", mine, "settings")
    with pytest.raises(SpecificationError, match="dreamer learns from no other run"):
        refuse_sources("dreamer", other, {"source": mine}, "F: arms.a")


@pytest.mark.parametrize(
    ("sharing", "groups", "group"),
    [
        ("separate", FRESH | {"encoder": "copy", "decoder": "copy"}, None),
        ("separate", FRESH | {"encoder": "copy", "reward_output": "fraction"}, "reward_output"),
        ("embedded", FRESH | {"encoder": "copy", "dynamics": "copy", "dynamics_enter": "rows"}, None),
        ("embedded", FRESH | {"dynamics_enter": "copy"}, "dynamics_enter"),
        ("embedded", FRESH | {"decoder": "copy"}, "decoder"),
        ("embedded", FRESH | {"continue_hidden": "copy"}, None),  # there is no such model
        ("shared", dict.fromkeys(FRESH, "copy"), None),
    ],
)
def test_planning_refuses_just_the_groups_that_a_source_of_several_tasks_lacks(
    sharing: str, groups: dict[str, str], group: str | None
) -> None:
    its = settings("multi_task_dreamer", sharing=sharing)
    pair = problem()._replace(task_names=("one", "other"), action_mask=np.ones((2, ACTIONS), np.bool_))
    weights = cast(LeavesWeights, make_method("multi_task_dreamer", its, pair, 0, CPU)).weights()
    if group is None:
        typed = resolve_settings("transfer", settings("transfer", groups=groups), "settings")
        refuse_sources("transfer", typed, {"source": its}, "F")
        transfer(weights, groups=groups)
        return
    said = planned("transfer", {"source": its}, groups=groups)
    assert f"F: arms.a.sources.source: a source with `sharing: {sharing}`" in said
    assert f"{group} would not fit" in said
    with pytest.raises(SpecificationError, match=group):  # as it would be found after the source was trained
        transfer(weights, groups=groups)


def test_fresh_groups_may_be_of_any_size_in_the_source() -> None:
    typed = resolve_settings("transfer", settings("transfer", groups=FRESH | {"encoder": "frozen"}), "settings")
    refuse_sources("transfer", typed, {"source": settings("dreamer", recurrent_size=99, width=77)}, "F")


def test_an_unknown_group_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecificationError) as caught:
        resolve_settings(
            "transfer", settings("transfer", groups=FRESH | {"critc_output": "copy"}), "F: arms.a.settings"
        )
    assert "F: arms.a.settings.groups.critc_output: unknown key 'critc_output'" in str(caught.value)
    assert "(nearest: critic_output)" in str(caught.value)
