"""Updates recorded, in bf16, or beside the environments: every method, with the promises of an ordinary run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.engine import checkpoint
from mtrepro.engine.execution import Execution
from mtrepro.engine.replay import Transitions
from mtrepro.errors import SpecificationError
from mtrepro.specification import Learner, method_names
from mtrepro.training import Stopped, Trainer
from tests.conftest import call, contents, write_run
from tests.contract.executions import Forgetful, Refusing, Rerun
from tests.contract.processes import Undisturbed, comes, longer, run_record, start, state_folder
from tests.contract.test_methods import Watcher, fingerprint, finished, trainer

pytestmark = pytest.mark.slow

LEARNERS = [name for name in method_names() if trainer(name).method.parameter_groups()]
SHORT: dict[str, Any] = {"budget": 60, "evaluation": {"every": 60, "episodes": 1}}
STOP = 55  # beats: within the updates, after some of them
BF16, STALE = Learner(precision="bf16"), Learner(stale_policy=True)


def with_recorder(name: str, recorder: Any, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Trainer:
    monkeypatch.setattr("mtrepro.training.execution", lambda *_: Execution("fp32", recorder, said.append))
    return trainer(name, **SHORT)


def all_but_the_execution(run: Trainer) -> dict[str, Any]:
    """The fingerprint of a run at its end, less the word on how it was computed."""
    run.run(Watcher())
    result = {key: value for key, value in fingerprint(run).items() if key != "execution"}
    run.close()
    return result


def stopped(run: Trainer, folder: Path) -> dict[str, Any]:
    """The run's state at beat STOP, as it comes back from its file."""
    with pytest.raises(Stopped):
        run.run(Watcher(STOP))
    checkpoint.save(folder, 1, run.state())
    state = checkpoint.load(folder, print)
    assert state is not None
    return state


@pytest.mark.parametrize("name", LEARNERS)
def test_a_recording_has_the_bits_of_eager_updates_also_when_an_older_state_is_loaded_under_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected, recorder, said = all_but_the_execution(trainer(name, **SHORT)), Rerun(), list[str]()
    run = with_recorder(name, recorder, monkeypatch, said)
    state = stopped(run, tmp_path)
    run.run(Watcher())
    assert run.step == SHORT["budget"]
    replays = recorder.replays
    run.load_state(state)
    assert all_but_the_execution(run) == expected
    assert recorder.replays > replays > 1
    assert run.execution.mode == "graph" and run.execution.replayed and not run.execution.mixed and not said


@pytest.mark.parametrize("recorder", [Refusing, Forgetful])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_recording_that_fails_or_is_wrong_gives_way_to_eager_updates(
    name: str, recorder: type[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, said = all_but_the_execution(trainer(name, **SHORT)), list[str]()
    run = with_recorder(name, recorder(), monkeypatch, said)
    assert all_but_the_execution(run) == expected
    assert len(said) == 1 and said[0].startswith("updates are computed eagerly from here on: ")
    assert "further lines" not in said[0]
    assert run.execution.described().startswith("eager, because ") and not run.execution.mixed


@pytest.mark.parametrize("learner", [BF16, STALE], ids=["bf16", "stale"])
@pytest.mark.parametrize("name", LEARNERS)
def test_other_learners_keep_every_promise_and_are_other_runs(name: str, learner: Learner, tmp_path: Path) -> None:
    usual, expected = (finished(name, learner=each, **SHORT) for each in (Learner(), learner))
    state = stopped(trainer(name, learner=learner, **SHORT), tmp_path)
    run = trainer(name, workers=2, learner=learner, **SHORT)
    run.load_state(state)
    run.run(Watcher())
    assert fingerprint(run) == expected.fingerprint
    run.close()
    assert expected.fingerprint["method"] != usual.fingerprint["method"]
    assert expected.run.specification.digest() != usual.run.specification.digest()
    for group in run.method.parameter_groups().values():
        assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in group)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_stale_policy_is_one_update_old(name: str) -> None:
    found, run = finished(name, learner=STALE, **SHORT), trainer(name, **SHORT)
    method, environments = run.method, VectorEnvironment(run.benchmark, "training")
    observation = environments.reset()
    for _ in range(run.specification.budget):
        while method.owed > 1:
            method.learn()
        actions = method.act(observation, run.tasks, explore=True)
        if method.owed:
            method.learn()
        moved = environments.step(actions)
        reward = moved.reward.astype(np.float32)
        flags = moved.terminated, moved.truncated
        method.observe(Transitions(observation, actions, reward, moved.next_observation, *flags))
        observation = moved.observation
    while method.owed:
        method.learn()
    weights = [p for group in found.run.method.parameter_groups().values() for p in group]
    assert weights and all(
        torch.equal(mine, its)
        for mine, its in zip((p for g in method.parameter_groups().values() for p in g), weights, strict=True)
    )


def test_killed_with_every_option_it_ends_with_the_same_files(tmp_path: Path, undisturbed: Undisturbed) -> None:
    specification = longer(learner=Learner(precision="bf16", compile="eager", stale_policy=True))
    path = write_run(tmp_path, specification)
    process = start(path)
    assert comes(lambda: bool(list(state_folder(path).glob("*.pt"))) or process.poll() is not None)
    process.kill()
    process.communicate()
    again = call("train", path)
    assert again.returncode == 0, again.stderr
    assert contents(path.parent) == undisturbed(specification)
    assert run_record(path)["updates"] == "eager" and run_record(path)["exact"] is True
    assert "bf16_kernels" in run_record(path)


def test_graphs_without_a_gpu_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match="'graph' records CUDA graphs, but this run would train on the cpu"):
        trainer("mt_sac", learner=Learner(compile="graph"))
