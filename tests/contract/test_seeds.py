"""Several seeds in one process: each ends with the bits and files that it has alone, whatever befalls the process."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro.benchmarks import SimulationError
from mtrepro.engine import checkpoint
from mtrepro.errors import SpecificationError
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.together import Together
from mtrepro.specification import Learner, Specification, method_names, refuse_different_arms
from mtrepro.training import Stopped, Trainer, train_in_step
from tests.conftest import call, command, contents, toy_specification, write_run
from tests.contract.processes import OFTEN, Undisturbed, comes, longer, run_record
from tests.contract.test_methods import Watcher, fingerprint, trainer
from tests.contract.test_variants import VARIANTS, settings

pytestmark = pytest.mark.slow

FORMS: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in method_names()), *VARIANTS]
SEEDS = (0, 3, 5)


def group(method: str, given: dict[str, Any], budget: int = 55, **changed: Any) -> list[Trainer]:
    seldom = {"every": 1000, "episodes": 1}
    return [trainer(method, settings=given, seed=seed, budget=budget, evaluation=seldom, **changed) for seed in SEEDS]


def alone(method: str, given: dict[str, Any], budget: int = 55, **changed: Any) -> list[dict[str, Any]]:
    runs = group(method, given, budget, **changed)
    for run in runs:
        run.run(Watcher())
    return [fingerprint(run) for run in runs]


@pytest.mark.parametrize(("method", "changed"), FORMS, ids=[f"{m} {c or 'default'}" for m, c in FORMS])
def test_seeds_in_step_have_the_bits_of_each_alone(method: str, changed: dict[str, Any], tmp_path: Path) -> None:
    given = settings(method, changed)
    runs = group(method, given)
    with pytest.raises(Stopped):  # one of them: the others are saved at another step
        train_in_step(runs, [Watcher(), Watcher(50), Watcher()])
    for seed, run in zip(SEEDS, runs, strict=True):
        checkpoint.save(tmp_path / str(seed), run.step, run.state())
    runs = group(method, given)
    for seed, run in zip(SEEDS, runs, strict=True):
        state = checkpoint.load(tmp_path / str(seed), print)
        assert state is not None
        run.load_state(state)
    train_in_step(runs, [Watcher() for _ in runs])
    assert [fingerprint(run) for run in runs] == alone(method, given)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "changed", [{}, {"depth": 0}, {"task_input": "none", "width": 33}, {"batch": 128, "width": 64}]
)
def test_a_stack_of_eight_updates_as_eight_alone(changed: dict[str, Any], threads: int) -> None:
    torch.set_num_threads(threads)
    given = settings("mt_sac", changed)
    both = [[trainer("mt_sac", settings=given, seed=seed) for seed in range(8)] for _ in range(2)]
    for run in [*both[0], *both[1]]:
        while not run.method.owed:
            run.go_on(Watcher())
    agents = [run.method for run in both[0]]
    together = SoftActorCritic.together.__func__(type(agents[0]), agents)  # type: ignore[attr-defined]
    assert isinstance(together, Together), "nothing is stacked, so nothing was compared"
    for _ in range(4):
        together.learn()
        for run in both[1]:
            run.method.learn()
    assert [fingerprint(run) for run in both[0]] == [fingerprint(run) for run in both[1]]


@pytest.mark.parametrize("updates", [1, 2])
def test_in_step_with_stale_policies_each_ends_as_alone(updates: int) -> None:
    given, stale = settings("mt_sac", {"updates_per_step": updates}), Learner(stale_policy=True)
    runs = group("mt_sac", given, learner=stale)
    train_in_step(runs, [Watcher() for _ in runs])
    assert [fingerprint(run) for run in runs] == alone("mt_sac", given, learner=stale)


def test_a_seed_whose_simulator_breaks_can_still_be_saved_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings("mt_sac", {})
    runs = group("mt_sac", given)
    runs[1].go_on(Watcher())
    environments = runs[1].training
    assert environments is not None

    def breaks(actions: Any) -> Any:
        environments.close()  # as they do themselves
        raise SimulationError("the physics became unstable")

    monkeypatch.setattr(environments, "step", breaks)
    train_in_step(runs, [Watcher() for _ in runs])
    assert runs[1].diverged == "the physics became unstable" and runs[0].diverged is runs[2].diverged is None
    assert all(run.state()["diverged"] == run.diverged for run in runs)


def test_a_checkpoint_of_a_seed_in_a_stack_is_as_large_as_that_of_a_seed_alone(tmp_path: Path) -> None:
    given, sizes = settings("mt_sac", {}), []
    for count in (1, 3):
        runs = group("mt_sac", given)[:count]
        train_in_step(runs, [Watcher() for _ in runs])
        sizes.append(checkpoint.save(tmp_path / str(count), 1, runs[0].state()).stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_seed_that_diverges_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings("mt_sac", {})
    expected = alone("mt_sac", given, 110)
    runs = group("mt_sac", given, 110)
    broken = runs[1].method
    look = broken.trouble
    monkeypatch.setattr(broken, "trouble", lambda: "broken on purpose" if broken.meters.maxima else look())  # type: ignore[attr-defined]
    train_in_step(runs, [Watcher() for _ in runs])
    assert runs[1].diverged == "broken on purpose" and runs[1].step < 110
    assert [fingerprint(runs[0]), fingerprint(runs[2])] == [expected[0], expected[2]]


# Through the command line


def seeds_of(specification: Specification, folder: Path, seeds: tuple[int, ...] = SEEDS) -> dict[Path, Specification]:
    """Where specifications of these seeds were written."""
    all_of_them = [specification.model_copy(update={"seed": seed}) for seed in seeds]
    return {write_run(folder, each): each for each in all_of_them}


def assert_as_alone(given: dict[Path, Specification], undisturbed: Undisturbed) -> None:
    for path, specification in given.items():
        assert contents(path.parent) == undisturbed(specification)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_group_ended_by_a_signal_continues_to_the_files_of_each_alone(
    tmp_path: Path, undisturbed: Undisturbed, number: signal.Signals, status: int
) -> None:
    given = seeds_of(longer(600), tmp_path)
    words = (*given, *OFTEN, "--log", tmp_path / "logs")
    process = subprocess.Popen(command("train", *words), stderr=subprocess.PIPE, text=True)
    assert comes(lambda: len({file.parent for file in (tmp_path / ".state").glob("*/source-*/*.pt")}) == len(SEEDS))
    time.sleep(random.Random(status).uniform(0, 0.3))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert not list(tmp_path.glob("*/run.json"))
    last = list(given)[-1]
    assert call("train", last).returncode == 0  # any of them may go on alone
    again = call("train", *given)
    assert again.returncode == 0 and "continuing at step" in again.stderr and "already done" in again.stderr, again
    assert_as_alone(given, undisturbed)
    assert [run_record(path)["runs_in_process"] for path in given] == [2, 2, 1]
    assert len(list((tmp_path / "logs").iterdir())) == len(SEEDS)
    assert not list((tmp_path / ".state").glob("*/source-*")), "finished runs keep no checkpoints"


def test_specifications_of_different_arms_are_refused(tmp_path: Path) -> None:
    one = toy_specification()
    other = toy_specification(seed=1, settings={"depth": 1})
    twin = toy_specification(seed=0)
    paths = [write_run(tmp_path / str(index), each) for index, each in enumerate((one, other, twin))]
    refused = call("train", paths[0], paths[1])
    assert refused.returncode == 2
    stale = toy_specification(seed=1).model_copy(update={"learner": Learner(stale_policy=True)})
    for order in ((one, stale), (stale, one)):
        with pytest.raises(SpecificationError, match=r"learner\.stale_policy: "):
            refuse_different_arms(dict(zip("ab", order, strict=True)))
    assert "settings.depth: 1, but 2 in" in refused.stderr and "one process trains seeds of one arm" in refused.stderr
    refused = call("train", paths[0], paths[2])
    assert refused.returncode == 2 and "seed: 0 as in" in refused.stderr
    assert not list(tmp_path.glob("*/.state"))
