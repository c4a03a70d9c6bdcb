"""Several seeds whose updates are mapped over them, as on a GPU: here on the CPU, with the replay of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro.engine import checkpoint
from mtrepro.engine.compilation import Compiled
from mtrepro.engine.device_replay import DeviceReplay
from mtrepro.engine.execution import Execution
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.together import Together, learn_mapped
from mtrepro.specification import Learner
from mtrepro.training import Stopped, Trainer, train_in_step
from tests.contract.executions import Refusing, Rerun
from tests.contract.test_methods import Watcher, fingerprint, trainer
from tests.contract.test_seeds import FORMS, group
from tests.contract.test_variants import settings

pytestmark = pytest.mark.slow

SEEDS = (0, 3, 5)
UPDATES = 4
APART = 0.01  # of the way that four updates go: batched products round otherwise, and Adam's first steps are as large
# for a gradient that is nothing but rounding. Another seed's noise, batch or parameter leads as far away as the way is.


@pytest.fixture(autouse=True)
def _replay_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrepro.soft_actor_critic.agent.replay_on", lambda _: DeviceReplay)


def learners(method: str, given: dict[str, Any], **changed: Any) -> list[Any]:
    """Agents of some seeds, ready to learn."""
    agents = []
    for seed in SEEDS:
        run = trainer(method, settings=given, seed=seed, **changed)
        while not run.method.owed:
            run.go_on(Watcher())
        agents.append(run.method)
    return agents


def tensors(agent: SoftActorCritic[Any]) -> list[torch.Tensor]:
    return [each.detach().clone() for each in agent._moved()]


def assert_near(found: Sequence[SoftActorCritic[Any]], expected: Sequence[SoftActorCritic[Any]], before: Any) -> None:
    for mine, its, then in zip(found, expected, before, strict=True):
        moved = 0
        for one, other, was in zip(tensors(mine), tensors(its), then, strict=True):
            assert float((one - other).norm()) <= APART * float((other - was).norm())
            moved += not torch.equal(other, was)
        assert moved > 10, "hardly anything was compared"


def actor_critics() -> list[tuple[str, dict[str, Any]]]:
    made = {name: trainer(name).method for name in dict.fromkeys(name for name, _ in FORMS)}
    return [form for form in FORMS if isinstance(made[form[0]], SoftActorCritic)]


FAMILY = actor_critics()


@pytest.mark.parametrize(("method", "changed"), FAMILY, ids=[f"{m} {c or 'default'}" for m, c in FAMILY])
def test_mapped_updates_are_those_of_each_alone_up_to_rounding(method: str, changed: dict[str, Any]) -> None:
    given = settings(method, changed)
    agents, alone = learners(method, given), learners(method, given)
    before = [tensors(agent) for agent in agents]
    together = learn_mapped(agents)
    assert together is not None, "nothing is mapped, so nothing was compared"
    for agent, then in zip(agents, before, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(agent), then, strict=True)), "what was tried is put back"
    for _ in range(UPDATES):
        together.learn()
        for agent in alone:
            agent.learn()
    assert_near(agents, alone, before)
    for mine, its in zip(agents, alone, strict=True):
        assert mine.owed == its.owed
        assert mine.metrics() == pytest.approx(its.metrics(), rel=1e-3, abs=1e-4)
    assert [agent.noise.get_state().tolist() for agent in agents] == [a.noise.get_state().tolist() for a in alone]


def test_products_are_rounded_to_bf16_where_that_is_asked() -> None:
    given, bf16 = settings("care", {}), Learner(precision="bf16")
    agents, alone, in_full = (learners("care", given, learner=each) for each in (bf16, bf16, Learner()))
    for each in (learn_mapped(agents), learn_mapped(in_full), *alone):
        assert each is not None
        each.learn()
    losses = [[agent.metrics()["critic_loss"] for agent in each] for each in (agents, alone, in_full)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "8 binary digits, in sums of other orders"
    assert losses[0] != losses[2]


def record_with(recorder: type[Rerun], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs made from here on record; returns what they will have said."""
    said: list[str] = []
    monkeypatch.setattr("mtrepro.training.execution", lambda *_: Execution("fp32", recorder(), said.append))
    return said


def executions(agents: Sequence[SoftActorCritic[Any]]) -> list[Execution]:
    return [agent.problem.execution for agent in agents if agent.problem.execution is not None]


@pytest.fixture
def _pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CUDA graph does: a recording changes the memory that it was made for, wherever the tensors are now."""
    record, call = Compiled._record, Compiled.__call__
    places: dict[int, list[int]] = {}

    def place(its: Any) -> list[int]:
        return [each.data_ptr() for each in its.changed()]

    def record_and_note(its: Any, *given: Any) -> Any:
        outputs = record(its, *given)
        places[id(its)] = place(its)
        return outputs

    def look_and_call(its: Any, inputs: Any) -> Any:
        assert not its._recordings or places[id(its)] == place(its), "a recording of tensors that lie elsewhere now"
        return call(its, inputs)

    monkeypatch.setattr(Compiled, "_record", record_and_note)
    monkeypatch.setattr(Compiled, "__call__", look_and_call)


def course(agents: list[SoftActorCritic[Any]]) -> None:
    """Alone, together, alone, together with fewer: as seeds that are not always in step."""
    for together in (None, agents, None, agents[:2], None):
        learners = agents if together is None else [Together(together, mapped=True)]
        for _ in range(2):
            for each in learners:
                each.learn()


@pytest.mark.usefixtures("_pinned")
def test_recorded_groups_have_the_bits_of_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings("care", {})
    eager = learners("care", given)
    said = record_with(Rerun, monkeypatch)
    recorded = learners("care", given)
    course(eager)
    course(recorded)
    for mine, its in zip(recorded, eager, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(mine), tensors(its), strict=True))
    assert [(each.replayed, each.mode) for each in executions(recorded)] == 3 * [(True, "graph")] and not said
    three, two = "mapped with seeds 0, 3, 5", "mapped with seeds 0, 3"
    assert [each.company for each in executions(recorded)] == 2 * [["alone", three, two]] + [["alone", three]]
    assert all(each.mixed for each in executions(recorded))


def in_step(runs: list[Trainer], monkeypatch: pytest.MonkeyPatch, stop: int | None = None) -> list[dict[str, Any]]:
    """Train the runs as on a GPU; their fingerprints, less the word on how they were computed."""
    monkeypatch.setattr("mtrepro.soft_actor_critic.agent.learn_together", lambda agents, _: learn_mapped(agents))
    train_in_step(runs, [Watcher(), Watcher(stop), Watcher()])
    return [{key: value for key, value in fingerprint(run).items() if key != "execution"} for run in runs]


@pytest.mark.usefixtures("_pinned")
@pytest.mark.parametrize("method", ["mt_sac", "multi_head"])
def test_a_group_that_nothing_befalls_has_the_same_bits_again_also_recorded(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(method, {})
    runs = group(method, given)
    expected = in_step(runs, monkeypatch)
    assert [run.execution.described() for run in runs] == 3 * ["eager; mapped with seeds 0, 3, 5"]
    assert in_step(group(method, given), monkeypatch) == expected
    said = record_with(Rerun, monkeypatch)
    recorded = group(method, given)
    assert in_step(recorded, monkeypatch) == expected
    assert [run.execution.described() for run in recorded] == 3 * ["graph; mapped with seeds 0, 3, 5"] and not said
    assert not any(run.execution.mixed for run in (*runs, *recorded))


def test_with_stale_policies_nothing_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = Learner(stale_policy=True)
    runs = group("mt_sac", settings("mt_sac", {"updates_per_step": 2}), learner=stale)
    in_step(runs, monkeypatch)
    assert [run.execution.described() for run in runs] == 3 * ["eager"] and not any(run.execution.mixed for run in runs)


@pytest.mark.usefixtures("_pinned")
def test_runs_that_do_not_stay_together_are_marked_as_not_bit_exact(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = settings("care", {})
    record_with(Rerun, monkeypatch)
    runs = group("care", given, 110)
    with pytest.raises(Stopped):
        in_step(runs, monkeypatch, stop=55)
    assert not any(run.execution.mixed for run in runs)
    for run in runs:
        checkpoint.save(tmp_path / str(run.specification.seed), run.step, run.state())
    runs = group("care", given, 110)
    for run in runs:
        state = checkpoint.load(tmp_path / str(run.specification.seed), print)
        assert state is not None
        run.load_state(state)
    broken = runs[2].method
    look = broken.trouble
    monkeypatch.setattr(broken, "trouble", lambda: "broken on purpose" if runs[2].step > 80 else look())
    in_step(runs, monkeypatch)
    assert runs[2].diverged and not runs[0].diverged
    three = "graph; mapped with seeds 0, 3, 5"
    smaller = f"{three} and mapped with seeds 0, 3"
    assert [run.execution.described() for run in runs] == [smaller, smaller, three]
    assert [run.execution.mixed for run in runs] == [True, True, False]


def test_a_recording_that_fails_is_given_up_for_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings("mt_sac", {})
    eager = learners("mt_sac", given)
    said = record_with(Refusing, monkeypatch)
    agents = learners("mt_sac", given)
    for each in (eager, agents):
        together = learn_mapped(each)
        assert together is not None
        together.learn()
    for mine, its in zip(agents, eager, strict=True):
        assert all(torch.equal(*pair) for pair in zip(tensors(mine), tensors(its), strict=True))
    assert len(said) == len(SEEDS) and all("when stream is capturing" in each for each in said)
    assert [(each.mode, each.replayed) for each in executions(agents)] == 3 * [("eager", False)]


@pytest.mark.parametrize("fallen", range(3))
def test_a_seed_that_had_given_up_recording_brings_the_others_to_do_so(
    fallen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_with(Rerun, monkeypatch)
    agents = learners("mt_sac", settings("mt_sac", {}))
    made = executions(agents)
    made[fallen].fall_back("no memory")
    Together(agents, mapped=True).learn()
    assert [each.fallback for each in made] == [
        "no memory" if seed == fallen else "as another seed's: no memory" for seed in range(3)
    ]


def a_number_of_the_device(its: Any, found: Any) -> Any:
    found[0].sum().item()
    return found


def a_number_among_the_meters(its: Any, found: Any) -> Any:
    loss, plain, surplus = found
    return loss, {**plain, "one": 1.0}, surplus


@pytest.mark.parametrize("spoil", [a_number_of_the_device, a_number_among_the_meters])
def test_what_cannot_be_mapped_is_said_and_left_as_it_was(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = record_with(Rerun, monkeypatch)
    agents = learners("mt_sac", settings("mt_sac", {}))
    before = [tensors(agent) for agent in agents]
    kind, real = type(agents[0]), type(agents[0])._actor_loss
    monkeypatch.setattr(kind, "_actor_loss", lambda its, *given: spoil(its, real(its, *given)))
    assert learn_mapped(agents) is None
    assert len(said) == len(SEEDS) and all(each.startswith("seeds are updated one after the other: ") for each in said)
    assert all(
        torch.equal(*pair)
        for agent, then in zip(agents, before, strict=True)
        for pair in zip(tensors(agent), then, strict=True)
    )


def test_a_buffer_of_its_own_for_each_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = record_with(Rerun, monkeypatch)
    agents = learners("mt_sac", settings("mt_sac", {}))
    for seed, agent in enumerate(agents):
        agent.actor.register_buffer("offset", torch.tensor(float(seed)))
    assert learn_mapped(agents) is None
    assert said == 3 * ["seeds are updated one after the other: actor has a buffer that is not the same for every seed"]
