"""The multi-task Dreamer: what is shared and what is not, and each defect of the notebook that it is built after."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from mtrepro.engine.replay import Transitions
from mtrepro.errors import SpecificationError
from mtrepro.methods import Problem
from mtrepro.methods._loading import make_method
from mtrepro.methods.multi_task_dreamer import MultiTaskDreamer
from mtrepro.specification import refuse_conflicts, resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model.imagination import Noise, draw_noise, imagine
from mtrepro.world_model.model import ModelLoss
from mtrepro.world_model.transformer import TransformerModel
from tests.conftest import SMALL, known_to
from tests.unit.dreamer_fixture import ACTIONS, dreamer, pictures

TASKS = ("drive", "walk")
MASK = np.array([[True, False], [True, True]])  # the first task has one action, as CarRacing has fewer than Walker2d
SHARING, STATE_SPACES = ("separate", "shared", "embedded"), ("recurrent", "transformer")
Copies = dict[str, list[torch.Tensor]]


def chosen(**changed: Any) -> dict[str, Any]:
    given = read_method_file("multi_task_dreamer").settings | known_to("multi_task_dreamer", SMALL)
    return resolve_settings("multi_task_dreamer", given | changed, "settings").model_dump(mode="json")


def make(mask: Any = MASK, names: tuple[str, ...] = TASKS, **changed: Any) -> MultiTaskDreamer:
    """A small agent of two tasks, in whose replay are frames; task t's rewards are t + 1."""
    problem = Problem(names, (16, 16, 3), np.dtype(np.uint8), ACTIONS, mask, 20)
    agent = cast(
        MultiTaskDreamer, make_method("multi_task_dreamer", chosen(**changed), problem, 0, torch.device("cpu"))
    )
    stream, seen = np.random.default_rng(1), pictures(31, len(names))
    for step in range(30):
        action = (stream.uniform(-1, 1, (len(names), ACTIONS)) * mask).astype(np.float32)
        reward = np.arange(1, len(names) + 1, dtype=np.float32)
        ends = np.full(len(names), step % 8 == 7)
        agent.observe(Transitions(seen[step], action, reward, seen[step + 1], ends, np.zeros_like(ends)))
    return agent


def copies(agent: MultiTaskDreamer) -> Copies:
    return {name: [each.detach().clone() for each in group] for name, group in agent.parameter_groups().items()}


def moved(before: Copies, agent: MultiTaskDreamer) -> set[str]:
    """The groups of which something moved."""
    now = agent.parameter_groups()
    return {name for name in before if any(not torch.equal(a, b) for a, b in zip(before[name], now[name], strict=True))}


def losses(agent: MultiTaskDreamer, seed: int = 0) -> list[ModelLoss]:
    batch, generator = agent.draw(), torch.Generator().manual_seed(seed)
    found = []
    for mind, columns in agent._by_mind(batch.task):
        share = batch.columns(columns)
        noise = mind.model.dynamics.latents.noise(*share.reward.shape, generator=generator)
        found.append(mind.model.loss(share, noise))
    return found


# The notebook's defects (docs/methods/multi_task_dreamer.md#what-the-notebook-meant), each built as it was meant


@pytest.mark.parametrize("state_space", STATE_SPACES)
@pytest.mark.parametrize("sharing", SHARING)
def test_an_update_runs_and_moves_every_part_of_every_group(sharing: str, state_space: str) -> None:
    """There: no model, actor or critic was defined, and the second backward pass failed."""
    agent = make(sharing=sharing, state_space=state_space)
    before = copies(agent)
    for _ in range(3):
        agent.learn()
    for name, group in agent.parameter_groups().items():
        still = [i for i, (old, new) in enumerate(zip(before[name], group, strict=True)) if torch.equal(old, new)]
        assert not still, (name, still)
    assert isinstance(agent.minds[0].model.dynamics, TransformerModel) == (state_space == "transformer")


@pytest.mark.parametrize("sharing", SHARING)
def test_what_the_actors_do_changes_when_they_learn(sharing: str) -> None:
    """There: the actor's loss did not depend on the actor."""
    agent = make(sharing=sharing, actor_rate=1e-2, model_rate=1e-12)
    seen, tasks = pictures(2), np.arange(2)
    before = agent.act(seen, tasks, explore=False)
    for _ in range(5):
        agent.learn()
    assert (np.abs(agent.act(seen, tasks, explore=False) - before).max(1) > 1e-3).all()


def test_the_loss_of_the_model_has_all_its_parts_and_reaches_all_of_the_model() -> None:
    """There: no decoder, reward, continue or KL, and encoder and model belonged to no optimiser."""
    agent = make()
    for mind, loss in zip(agent.minds, losses(agent), strict=True):
        assert set(loss.parts) == {"picture_loss", "reward_loss", "kl", "continue_loss"}
        gradients = torch.autograd.grad(loss.total, list(mind.model.parameters()))
        assert all(each.any() for each in gradients)
    optimised = {id(parameter) for group in agent.parameter_groups().values() for parameter in group}
    assert optimised == {id(parameter) for mind in agent.minds for parameter in mind.parameters()}


def test_every_tasks_gradient_reaches_the_encoder_and_the_eyes_go_down_their_mean() -> None:
    agent, given = make(gradient_limit=1e9), list[torch.Tensor]()
    eyes = agent.optimisers["eyes"]
    found = losses(agent)
    expected = []
    for loss in found:
        gradients = torch.autograd.grad(loss.total, eyes.parameters, retain_graph=True)
        assert all(each.any() for each in gradients)
        expected.append(gradients)
    eyes.descend = given.extend  # type: ignore[method-assign, assignment]
    agent.descend_models(found)
    for mine, one, other in zip(given, *expected, strict=True):
        torch.testing.assert_close(mine, (one + other) / 2)


@pytest.mark.parametrize("state_space", STATE_SPACES)
def test_no_tasks_update_moves_anothers_heads(state_space: str) -> None:
    """The second task sees other pictures and other rewards: what belongs to the first ends with the same bits."""
    ends = []
    for changed in (1.0, 50.0):
        agent = make(state_space=state_space, task_reward_scales={"walk": changed}, model_rate=1e-2)
        agent.optimisers["eyes"].rate = 0.0  # what is shared stands still, for it does pass from task to task
        before = copies(agent)
        agent.noise.manual_seed(3)
        for _ in range(2):
            agent.learn()
        assert moved(before, agent) == set(before) - {"eyes"}
        ends.append(copies(agent))
    for name, group in ends[0].items():
        same = all(torch.equal(a, b) for a, b in zip(group, ends[1][name], strict=True))
        assert same == (name == "eyes" or name.endswith("/drive")), name


@pytest.mark.parametrize("sharing", SHARING)
def test_every_task_is_drawn_alike_and_its_rewards_are_scaled(sharing: str) -> None:
    """There: no replay, and one task's shapes for all."""
    agent = make(sharing=sharing, sequences=3, task_reward_scales={"walk": 0.25})
    batch = agent.draw()
    assert batch.task.tolist() == [0, 0, 0, 1, 1, 1]
    rewards = [set(batch.reward[:, batch.task == task].flatten().tolist()) - {0.0} for task in range(2)]
    assert rewards == [{1.0}, {0.5}]


@pytest.mark.parametrize("sharing", SHARING)
def test_an_action_that_a_task_does_not_have_counts_nowhere(sharing: str) -> None:
    """There: the actions of the first environment for all of them, and no bounds."""
    agent = make(sharing=sharing, entropy_scale=0.1)
    for _ in range(3):
        agent.learn()
    for explore in (True, False):
        actions = agent.act(pictures(2), np.arange(2), explore)
        assert actions[0, 1] == 0 and actions[1, 1] != 0 and np.abs(actions).max() <= 1
    assert not agent.draw().action[:, 0, 1].any()
    if sharing == "separate":  # the output behind the missing action has no gradient, and Adam leaves it as it was
        last = cast(Any, agent.minds[0].behaviour.actor.body[-1])
        first = agent.optimisers["actor/drive"].first[-2]
        assert first.shape == last.weight.shape and first[0].any() and not first[1].any() and not first[3].any()
    published = make(sharing=sharing, mask_actions=False)
    assert published.act(pictures(2), np.arange(2), explore=True)[0, 1] != 0


def test_the_latent_advances_through_a_window_and_an_ended_task_is_imagined_as_over() -> None:
    """There: the first frame's z at every step, and neither discount nor end in the targets."""
    agent = make(discount=0.9)
    z = losses(agent)[0].followed.states.z
    assert (z[1:] != z[:-1]).any(-1).all()
    seen = []
    judge = agent.minds[0].behaviour.judge
    agent.minds[0].behaviour.judge = lambda *given: seen.append(given[2]) or judge(*given)  # type: ignore[method-assign, func-returns-value]
    drawn = agent.draw()
    agent.draw = lambda: drawn  # type: ignore[method-assign]
    agent.learn()
    alive = 1 - drawn.terminated[:, drawn.task == 0]
    assert torch.equal(seen[0], alive.flatten()) and not alive.all()


def test_one_mind_of_two_tasks_is_judged_row_by_row_with_each_tasks_actions() -> None:
    agent = make(sharing="embedded", entropy_scale=0.1, reinforce_share=0.5)
    mind, batch = agent.minds[0], agent.draw()
    dynamics, rows = mind.model.dynamics, batch.reward.numel()
    start = dynamics.starts(losses(agent)[0].followed.states)
    mask = agent.masks[batch.task].repeat(len(batch.reward), 1)
    noise = draw_noise(dynamics, 4, rows, ACTIONS, torch.Generator().manual_seed(1))
    alive = torch.rand(rows, generator=torch.Generator().manual_seed(2)).round()
    together = mind.behaviour.judge(
        mind.model, imagine(dynamics, mind.behaviour.actor, start, mask, noise), alive, mask
    )
    alone, critic = [], []
    for task in range(2):
        at = (batch.task == task).repeat(len(batch.reward))
        part = Noise(noise.latent[:, at], noise.action[:, at])
        imagined = imagine(dynamics, mind.behaviour.actor, start.map(lambda each: each[at]), agent.masks[task], part)  # noqa: B023
        judged = mind.behaviour.judge(mind.model, imagined, alive[at], agent.masks[task])
        alone.append(float(judged.actor_loss.detach()))
        critic.append(float(mind.behaviour.critic_loss(judged).detach()))
    assert float(together.actor_loss.detach()) == pytest.approx(np.mean(alone), rel=1e-4)
    assert float(mind.behaviour.critic_loss(together).detach()) == pytest.approx(np.mean(critic), rel=1e-4)


# The three ways to share


def test_one_shared_mind_of_one_task_is_dreamer() -> None:
    one = make(np.ones((1, ACTIONS), np.bool_), ("toy-0",), sharing="shared", continue_scale=None)
    other = dreamer(random_steps=40)
    batch = one.draw()
    for agent in (one, other):
        agent.draw = lambda: batch  # type: ignore[method-assign]
        agent.learn()
    assert one.parameter_groups().keys() == other.parameter_groups().keys()
    for name, group in one.parameter_groups().items():
        assert all(torch.equal(a, b) for a, b in zip(group, other.parameter_groups()[name], strict=True)), name


@pytest.mark.parametrize("state_space", STATE_SPACES)
def test_only_a_mind_that_is_told_its_task_tells_equal_pictures_apart(state_space: str) -> None:
    seen, both = np.repeat(pictures(1), 2, axis=0), np.ones((2, ACTIONS), np.bool_)
    for sharing in SHARING:
        actions = make(both, sharing=sharing, state_space=state_space).act(seen, np.arange(2), explore=False)
        assert np.allclose(actions[0], actions[1]) == (sharing == "shared")


def test_separate_minds_act_as_each_would_alone_in_any_order_of_rows() -> None:
    agent = make()
    seen, memory = pictures(5), dict[str, Any]()
    task = np.array([1, 0, 1, 1, 0])
    together = [agent.act(seen, task, explore=False, memory=memory) for _ in range(2)]
    for row in range(5):
        memory = {}
        alone = [agent.act(seen[row : row + 1], task[row : row + 1], explore=False, memory=memory) for _ in range(2)]
        np.testing.assert_allclose(np.stack(alone)[:, 0], np.stack(together)[:, row], rtol=1e-4, atol=1e-6)


def test_the_code_of_a_task_learns_and_stands_in_every_state() -> None:
    agent = make(sharing="embedded", task_code_size=3)
    model = agent.minds[0].model
    state = losses(agent)[0].followed.states
    assert torch.equal(state.c[-1, -1], model.code(torch.tensor([1]))[0]) and state.c.shape[-1] == 3
    assert torch.equal(model.dynamics.starts(state).features[..., -3:], state.c.flatten(0, 1))


def test_the_transformers_model_loss_falls_on_the_same_sequences() -> None:
    agent = make(sharing="embedded", state_space="transformer", model_rate=1e-2, gradient_limit=1.0)
    batch = agent.draw()
    agent.draw = lambda: batch  # type: ignore[method-assign]
    values = []
    for _ in range(60):
        agent.descend_models(losses(agent))
        values.append(float(losses(agent)[0].total.detach()))
    assert values[-1] < 0.9 * values[0]


def test_a_scale_of_no_task_is_refused_by_its_name() -> None:
    given = resolve_settings("multi_task_dreamer", chosen(task_reward_scales={"fly": 2.0}), "settings")
    with pytest.raises(SpecificationError, match=r"a\.task_reward_scales: there is no task 'fly' here; the tasks are"):
        refuse_conflicts("multi_task_dreamer", given, 99, TASKS, "a")
