"""Several seeds of a Dreamer whose updates are mapped over them, as on a GPU: here on the CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrepro.engine.execution import Execution
from mtrepro.networks.stacked_adam import StackedAdam
from mtrepro.specification import Learner
from mtrepro.training import Trainer, train_in_step
from mtrepro.world_model.agent import DreamerAgent
from mtrepro.world_model.layers import Gru
from mtrepro.world_model.together import learn_mapped
from tests.contract.executions import Refusing, Rerun
from tests.contract.test_methods import Watcher, fingerprint, trainer
from tests.contract.test_seeds import FORMS, SEEDS, group
from tests.contract.test_seeds_mapped import learners
from tests.contract.test_variants import settings

pytestmark = pytest.mark.slow

UPDATES = 4
APART = (
    0.02  # of the way that four updates go, over a group of parameters: batched products round otherwise, and Adam's
)
# first steps are as large for a gradient that is nothing but rounding. Other noise leads as far away as the way is.


def groups_of(agent: DreamerAgent[Any]) -> dict[str, Tensor]:
    """What each optimiser moves, and all slow critics, flat."""
    slow = [
        each for mind in agent.minds if mind.behaviour.slow_critic for each in mind.behaviour.slow_critic.parameters()
    ]
    groups: dict[str, Sequence[Tensor]] = {**agent.parameter_groups(), "slow critics": slow}
    return {name: torch.cat([each.detach().flatten() for each in its]) for name, its in groups.items() if its}


def tensors(agent: DreamerAgent[Any]) -> list[Tensor]:
    return [each.detach().clone() for mind in agent.minds for each in mind.state_dict().values()]


def dreamers() -> list[tuple[str, dict[str, Any]]]:
    made = {name: trainer(name).method for name in dict.fromkeys(name for name, _ in FORMS)}
    return [form for form in FORMS if isinstance(made[form[0]], DreamerAgent)]


DREAMERS = dreamers()


@pytest.mark.parametrize(("method", "changed"), DREAMERS, ids=[f"{m} {c or 'default'}" for m, c in DREAMERS])
def test_mapped_updates_are_those_of_each_alone_up_to_rounding(method: str, changed: dict[str, Any]) -> None:
    given = settings(method, changed)
    agents, alone = learners(method, given), learners(method, given)
    whole, before = [tensors(agent) for agent in agents], [groups_of(agent) for agent in agents]
    together = learn_mapped(agents)
    assert together is not None, "nothing is mapped, so nothing was compared"
    for agent, then in zip(agents, whole, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(agent), then, strict=True)), "what was tried is put back"
    for _ in range(UPDATES):
        together.learn()
        for agent in alone:
            agent.learn()
    for mine, its, was in zip(agents, alone, before, strict=True):
        found, expected = groups_of(mine), groups_of(its)
        for name, then in was.items():
            way = float((expected[name] - then).norm())
            assert float((found[name] - expected[name]).norm()) <= APART * way, name
            assert way > 0 or name == "slow critics", f"{name} did not learn, so nothing was compared"
        assert (mine.owed, mine.updates) == (its.owed, its.updates)
        assert mine.metrics() == pytest.approx(its.metrics(), rel=1e-3, abs=1e-4)
        assert mine.noise.get_state().tolist() == its.noise.get_state().tolist()
        assert mine.replay.generator.bit_generator.state == its.replay.generator.bit_generator.state


def test_a_written_out_cell_is_torchs() -> None:
    torch.manual_seed(0)
    cell, x, h = Gru(5, 4), torch.randn(3, 5), torch.randn(3, 4)
    expected = cell(x, h)
    cell.mapped = True
    torch.testing.assert_close(cell(x, h), expected)


def in_step(runs: list[Trainer], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Train the runs as on a GPU; their fingerprints, less the word on how they were computed."""
    monkeypatch.setattr(DreamerAgent, "together", classmethod(lambda cls, agents: learn_mapped(agents)))
    train_in_step(runs, [Watcher() for _ in runs])
    return [{key: value for key, value in fingerprint(run).items() if key != "execution"} for run in runs]


@pytest.mark.parametrize("method", ["dreamer", "multi_task_dreamer"])
def test_a_group_has_the_same_bits_again_also_recorded(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(method, {})
    runs = group(method, given)
    expected = in_step(runs, monkeypatch)
    assert [run.execution.described() for run in runs] == 3 * ["eager; mapped with seeds 0, 3, 5"]
    said: list[str] = []
    monkeypatch.setattr("mtrepro.training.execution", lambda *_: Execution("fp32", Rerun(), said.append))
    recorded = group(method, given)
    assert in_step(recorded, monkeypatch) == expected
    assert [run.execution.described() for run in recorded] == 3 * ["graph; mapped with seeds 0, 3, 5"] and not said
    assert not any(run.execution.mixed for run in (*runs, *recorded))


def test_a_recording_that_fails_is_given_up_for_every_seed_and_bf16_is_mapped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mtrepro.training.execution", lambda *given: Execution(given[0], Refusing(), said.append))
    given, bf16 = settings("dreamer", {}), Learner(precision="bf16")
    agents, in_full = learners("dreamer", given, learner=bf16), learners("dreamer", given)
    for each in (agents, in_full):
        together = learn_mapped(each)
        assert together is not None
        together.learn()
    assert len(said) == 2 * len(SEEDS) and all("when stream is capturing" in each for each in said)
    losses = [[agent.metrics()["model_loss"] for agent in each] for each in (agents, in_full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_what_cannot_be_mapped_is_said_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("mtrepro.training.execution", lambda *_: Execution("fp32", None, said.append))
    agents = learners("dreamer", settings("dreamer", {}))
    before, streams = [tensors(agent) for agent in agents], [agent.noise.get_state().tolist() for agent in agents]
    judged = DreamerAgent._judged

    def spoiled(its: Any, *given: Any) -> Any:
        found = judged(its, *given)
        found[1].item()
        return found

    monkeypatch.setattr(DreamerAgent, "_judged", spoiled)
    assert learn_mapped(agents) is None
    assert len(said) == len(SEEDS) and all(
        each.startswith("seeds are updated one after the other: vmap") for each in said
    )
    for agent, then, stream in zip(agents, before, streams, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(agent), then, strict=True))
        assert agent.noise.get_state().tolist() == stream
        agent.learn()


def test_without_memory_for_the_stack_seeds_go_on_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("mtrepro.training.execution", lambda *_: Execution("fp32", Rerun(), said.append))
    agents, alone = (learners("dreamer", settings("dreamer", {})) for _ in range(2))
    for agent in (*agents, *alone):
        agent.learn()  # and is recorded

    class Full(StackedAdam):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            raise torch.OutOfMemoryError("CUDA out of memory, half-way")

    monkeypatch.setattr("mtrepro.world_model.together.StackedAdam", Full)
    assert learn_mapped(agents) is None
    assert said == ["seeds are updated one after the other: CUDA out of memory, half-way"] * len(SEEDS)
    for agent, its in zip(agents, alone, strict=True):
        agent.learn()
        its.learn()
        assert all(torch.equal(*pair) for pair in zip(tensors(agent), tensors(its), strict=True))


def test_a_group_that_is_left_leaves_its_memory_at_once() -> None:
    together = learn_mapped(learners("dreamer", settings("dreamer", {})))
    assert together is not None
    together.learn()
    gc.disable()
    try:
        left = weakref.ref(together)
        del together
        assert left() is None
    finally:
        gc.enable()
