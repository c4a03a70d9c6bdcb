"""What each group takes from a source: against numpy written out, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtrepro.errors import SpecificationError
from mtrepro.methods import Weights
from mtrepro.study import read_method_file
from mtrepro.world_model.groups import named_groups
from mtrepro.world_model.transferring import take
from tests.unit.dreamer_fixture import dreamer, problem

Groups = dict[str, dict[str, nn.Parameter]]
PUBLISHED: dict[str, str] = read_method_file("transfer").settings["groups"]


def by_hand(mine: float, source: float, treatment: str, omega: float = 0.5) -> float:
    """One number of one group, as `take` leaves it."""
    groups = {"reward_output": {"weight": nn.Parameter(torch.tensor([[mine]]))}}
    take(groups, {"reward_output": {"weight": torch.tensor([[source]])}}, {"reward_output": treatment}, omega, 1)
    return float(groups["reward_output"]["weight"].detach())


@pytest.mark.parametrize(
    ("treatment", "expected"), [("copy", 8.0), ("frozen", 8.0), ("fraction", 3.0 + 0.5 * 8.0), ("fresh", 3.0)]
)
def test_one_number_by_hand(treatment: str, expected: float) -> None:
    assert by_hand(3.0, 8.0, treatment) == expected


def test_rows_take_the_inputs_from_z_and_the_bias_alone() -> None:
    """Two units; z has two numbers, here are one action, in the source two."""
    mine = {
        "weight": nn.Parameter(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
        "bias": nn.Parameter(torch.ones(2)),
    }
    theirs = {
        "weight": torch.tensor([[10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 70.0, 80.0]]),
        "bias": torch.tensor([7.0, 8.0]),
    }
    take({"dynamics_enter": mine}, {"dynamics_enter": theirs}, {"dynamics_enter": "rows"}, 0.5, 2)
    assert mine["weight"].tolist() == [[10.0, 20.0, 3.0], [50.0, 60.0, 6.0]]
    assert mine["bias"].tolist() == [7.0, 8.0]


def copies(groups: Groups) -> dict[str, dict[str, Any]]:
    return {group: {name: p.detach().numpy().copy() for name, p in named.items()} for group, named in groups.items()}


def reference(mine: Any, theirs: Any, treatment: str, omega: float, from_z: int) -> Any:
    """Facts of the published rule, number by number."""
    out = np.empty_like(mine)
    for place in np.ndindex(*mine.shape):
        if treatment in ("copy", "frozen") or (treatment == "rows" and (len(place) == 1 or place[1] < from_z)):
            out[place] = theirs[place]
        elif treatment == "fraction":
            out[place] = np.float32(mine[place] + np.float32(omega) * theirs[place])
        else:
            out[place] = mine[place]
    return out


@pytest.mark.parametrize("omega", [0.0, 0.2, 1.0])
def test_a_whole_dreamer_takes_what_the_published_table_says(omega: float) -> None:
    """The target has one action, its source two; with a continue model, so that every group is there."""
    target, source = dreamer(problem(actions=1), continue_scale=1.0), dreamer(continue_scale=1.0)
    groups, left = named_groups(target.model, target.behaviour), named_groups(source.model, source.behaviour)
    assert set(groups) == set(PUBLISHED)
    for named in left.values():
        for parameter in named.values():
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    before, theirs = copies(groups), copies(left)
    from_z = target.model.dynamics.latents.size
    take(groups, left, PUBLISHED, omega, from_z)
    for group, named in copies(groups).items():
        for name, now in named.items():
            expected = reference(before[group][name], theirs[group][name], PUBLISHED[group], omega, from_z)
            np.testing.assert_allclose(now, expected, rtol=1e-6, err_msg=f"{group} {name}")
    assert all(parameter.requires_grad for named in groups.values() for parameter in named.values())


def test_every_parameter_is_in_exactly_one_group() -> None:
    agent = dreamer(continue_scale=1.0, slow_critic_every=3)
    found = [id(p) for named in named_groups(agent.model, agent.behaviour).values() for p in named.values()]
    trained = [id(p) for optimiser in agent.optimisers.values() for p in optimiser.parameters]
    assert sorted(found) == sorted(trained)


def refused(treatments: dict[str, str], source: Weights | None = None, actions: int = 2) -> str:
    target, other = dreamer(problem(actions=actions)), dreamer()
    groups = named_groups(target.model, target.behaviour)
    before = copies(groups)
    with pytest.raises(SpecificationError) as caught:
        take(groups, other.weights() if source is None else source, treatments, 0.2, target.model.dynamics.latents.size)
    for group, named in copies(groups).items():
        assert all(np.array_equal(value, before[group][name]) for name, value in named.items()), "half of it was taken"
    return str(caught.value)


def test_another_shape_names_the_group_and_both_shapes() -> None:
    wider = dreamer(width=24)
    said = refused({"encoder": "copy", "reward_hidden": "copy"}, wider.weights())
    assert "group reward_hidden, 0.weight: (16, 11) here, (24, 11) in the source" in said
    assert "let the group be fresh" in said


def test_a_group_that_the_source_lacks_is_named_with_the_nearest() -> None:
    source = dict(dreamer().weights())
    source["critic_hiden"] = source.pop("critic_hidden")
    said = refused({"critic_hidden": "copy"}, source)
    assert "unknown group 'critic_hidden'" in said and "(nearest: critic_hiden)" in said


def test_more_actions_than_the_source_are_refused_with_both_counts() -> None:
    said = refused({"dynamics_enter": "rows"}, actions=3)
    assert "3 actions here, 2 in the source" in said
    assert "group dynamics_enter, weight: (8, 6) here, (8, 5) in the source" in said


def test_a_target_with_more_actions_begins_where_the_layer_that_they_enter_is_fresh() -> None:
    """As the study of Ant does; everything else is the published table's."""
    target, source = dreamer(problem(actions=3)), dreamer()
    groups = named_groups(target.model, target.behaviour)
    before = copies(groups)["dynamics_enter"]
    take(groups, source.weights(), PUBLISHED | {"dynamics_enter": "fresh"}, 0.2, target.model.dynamics.latents.size)
    after = copies(groups)
    assert all(np.array_equal(after["dynamics_enter"][name], value) for name, value in before.items())
    theirs = source.weights()["actor_hidden"]
    assert all(np.array_equal(after["actor_hidden"][name], value.detach().numpy()) for name, value in theirs.items())


def test_copying_the_layer_that_actions_enter_says_that_rows_would_do() -> None:
    said = refused({"dynamics_enter": "copy"}, actions=1)
    assert "(8, 4) here, (8, 5) in the source" in said and "take its `rows`" in said
