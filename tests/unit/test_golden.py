"""Golden trajectories: replayed here, and a changed simulator is named by its task, step and number."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mtrepro import paths
from mtrepro.benchmarks import metaworld_environment, toy
from mtrepro.benchmarks.loading import families
from mtrepro.benchmarks.metaworld_tasks import MT50
from mtrepro.doctor import simulators
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.golden import stored
from mtrepro.golden.comparing import MARGIN, compare, rounding
from mtrepro.golden.playing import OTHER_BITS, Job, Trajectory, play, play_all
from mtrepro.specification import resolve_benchmark, task_names
from mtrepro.study import read_benchmark_file


def jobs_named(family: str, *names: str) -> list[Job]:
    return [job for job in stored.jobs_of(family, stored.read_golden(family)) if not names or job.name in names]


def verdicts(family: str, *names: str) -> dict[str, str]:
    golden = stored.read_golden(family)
    return {one.job.name: one.result.verdict for one in stored.replay(golden, jobs_named(family, *names), workers=1)}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own with the real configuration."""
    shutil.copytree(paths.root() / "config", tmp_path / "config")
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("family", families())
def test_every_task_of_every_family_is_recorded_whole(family: str) -> None:
    golden = stored.read_golden(family)
    jobs = stored.jobs_of(family, golden)
    assert set(golden.trajectories) == {job.name for job in jobs} and golden.made_with is not None
    kept = stored._read_numbers(stored.golden_file(family), golden, golden.trajectories)  # checks each hash
    assert all(its.rounding.shape == its.trajectory.outcome.shape[:1] for its in kept.values())
    assert all(its.trajectory.outcome[-1, 0] == golden.steps == 30 for its in kept.values())
    for path in (paths.root() / "config/benchmarks").glob("*.yaml"):
        file = read_benchmark_file(path.stem, "")
        if file.family == family:
            _, settings = resolve_benchmark({"family": family, **file.settings}, "")
            assert {job.task for job in jobs} >= set(task_names(settings)), f"{path.name} has other tasks"


def test_meta_world_is_recorded_in_all_tasks_both_rewards_and_39_numbers() -> None:
    jobs = jobs_named("metaworld")
    for reward in ("v1", "v2"):
        assert {job.task for job in jobs if job.settings["reward_version"] == reward} == set(MT50)
    assert {job.settings["observation_size"] for job in jobs} == {39}
    assert {job.settings["goals"] for job in jobs} == {"fixed", "random"}


def test_today_nothing_has_drifted() -> None:
    sample = ("2020/push-v3", "v3/window-open-v3", "v3/hammer-v3", "2020/coffee-pull-v3")
    assert set(verdicts("metaworld", *sample).values()) <= {"equal", "other bits"}
    assert set(verdicts("toy").values()) <= {"equal", "other bits"}
    # Each simulator of the pixel benchmarks once; what pictures show is the renderer's.
    for family, name in {
        "bullet": "bullet-sources-4/HopperBulletEnv-v0",
        "carracing": "carracing/CarRacing-v3",
        "dmc": "dmc-pixels/walker-walk",
        "mujoco": "mujoco-pixels/Ant-v5",
        "variants": "variants-halfcheetah/HalfCheetah-v5-mass-1.5",
    }.items():
        assert set(verdicts(family, name).values()) <= {"equal", "other bits"}, family


def test_a_damping_changed_by_a_hundredth_in_one_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    make = metaworld_environment._make_simulator

    def changed(task: str, reward_version: str) -> Any:
        simulator = make(task, reward_version)
        simulator.model.dof_damping[0] *= 1.01 if task == "window-open-v3" else 1.0
        return simulator

    monkeypatch.setattr(metaworld_environment, "_make_simulator", changed)
    names = ("v3/window-open-v3", "v3/door-close-v3")
    golden = stored.read_golden("metaworld")
    one, other = sorted(stored.replay(golden, jobs_named("metaworld", *names), 1), key=lambda its: its.job.name)
    assert other.job.task == "window-open-v3" and other.result.verdict == "drifted"
    assert other.result.words.startswith("after the reset: observation[") and ", was " in other.result.words
    assert one.result.verdict != "drifted"


def test_the_doctor_names_the_task_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "SPEED", 0.2001)
    monkeypatch.setattr(simulators, "families", lambda: ("toy",))
    monkeypatch.setattr(simulators, "usable_cores", lambda: 1)
    (finding,) = simulators.golden(quick=False)
    assert (finding.check, finding.state) == ("golden toy", "problem")
    assert finding.found.startswith("6 of 6 trajectories drifted")
    assert "toy-state/toy-1: after step 1: observation[" in finding.found
    assert "mtrepro doctor --record toy --force" in finding.advice


def test_a_simulator_that_fails_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no such asset")

    monkeypatch.setattr(toy.PointMass, "step", fail)
    golden = stored.read_golden("toy")
    results = [one.result for one in stored.replay(golden, jobs_named("toy"), workers=1)]
    assert {(its.verdict, its.words) for its in results} == {("drifted", "ValueError: no such asset")}


def a_trajectory(**changed: Any) -> Trajectory:
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(31, 39)).astype(np.float32)
    outcome = np.column_stack([np.arange(31.0), rng.normal(size=(31, 2)), np.zeros((31, 3))])
    return Trajectory(changed.get("observation", observation), changed.get("outcome", outcome))


def moved(row: int, column: int, by: float) -> Trajectory:
    its = a_trajectory()
    its.outcome[row, column] += by
    return its


CASES: dict[str, tuple[Callable[[], Trajectory | str], str, str]] = {
    "the same": (a_trajectory, "equal", ""),
    "rounding": (lambda: moved(7, 1, 1e-15), "other bits", ""),
    "rounding grown as it was seen to": (lambda: moved(30, 1, 1e-3), "other bits", ""),
    "a reward": (lambda: moved(7, 1, 1e-3), "drifted", "after step 7: reward is "),
    "success": (lambda: moved(20, 5, 1.0), "drifted", "after step 20: success is 1, was 0"),
    "not a number": (lambda: moved(0, 2, np.nan), "drifted", "after the reset: raw reward is nan, was "),
    "another shape": (
        lambda: a_trajectory(observation=np.zeros((31, 12), np.float32)),
        "drifted",
        "the observation is float32 (12,), was float32 (39,)",
    ),
    "a longer one": (
        lambda: Trajectory(*(np.concatenate([part, part[-1:]]) for part in vars(a_trajectory()).values())),
        "drifted",
        "32 rows, was 31: episodes end at other steps",
    ),
    "none": (lambda: "the physics became unstable", "drifted", "the physics became unstable"),
}


@pytest.mark.parametrize("case", CASES)
def test_rounding_and_drift_are_told_apart(case: str) -> None:
    make, verdict, words = CASES[case]
    noise = rounding(a_trajectory(), moved(30, 2, 1e-4))
    assert noise[29] == 0.0 and MARGIN * noise[30] > 1e-3
    result = compare(a_trajectory(), noise, make())
    assert result.verdict == verdict and result.words.startswith(words)


def test_processes_play_the_same_and_their_variables_stay_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    jobs = jobs_named("toy")[:2]
    elsewhere = list(play_all(jobs, 2, OTHER_BITS))
    assert [its.digest() for its in elsewhere if isinstance(its, Trajectory)] == [play(job).digest() for job in jobs]
    assert "GLIBC_TUNABLES" not in os.environ


def test_recording_replaces_nothing_that_was_not_asked_for(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [stored.golden_file("toy"), stored.golden_file("toy").with_suffix(".npz")]
    before = [file.read_bytes() for file in files]
    assert "nothing was written" in stored.record("toy", False, 1)
    monkeypatch.setattr(toy, "SPEED", 0.3)
    with pytest.raises(MtreproError, match="6 stored trajectories are other ones now, the first is toy-pixels/toy-0"):
        stored.record("toy", False, 1)
    assert [file.read_bytes() for file in files] == before
    monkeypatch.setattr(stored, "play_all", lambda jobs, workers, environment=None: play_all(jobs, 1))
    assert "recorded 6 trajectories" in stored.record("toy", True, 1)
    assert [file.read_bytes() for file in files] != before
    assert set(verdicts("toy").values()) == {"equal"}


def test_a_family_without_a_file_is_a_problem_and_is_recorded_from_its_benchmarks(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = stored.golden_file("toy")
    before = yaml.safe_load(written.read_text())
    written.unlink()
    written.with_suffix(".npz").unlink()
    monkeypatch.setattr(simulators, "families", lambda: ("toy",))
    (finding,) = simulators.golden(quick=True)
    assert finding.state == "problem" and "mtrepro doctor --record toy" in finding.advice
    monkeypatch.setattr(stored, "play_all", lambda jobs, workers, environment=None: play_all(jobs, 1))
    stored.record("toy", False, 1)
    assert yaml.safe_load(written.read_text())["trajectories"] == before["trajectories"]


@pytest.mark.parametrize("damage", ["torn", "gone", "of another hash"])
def test_numbers_that_are_not_those_of_the_hashes_are_refused(checkout: Path, damage: str) -> None:
    path = stored.golden_file("toy")
    numbers = path.with_suffix(".npz")
    if damage == "torn":
        numbers.write_bytes(numbers.read_bytes()[:-200])
    elif damage == "gone":
        numbers.unlink()
    else:
        path.write_text(path.read_text().replace("toy-state/toy-1: ", "toy-state/toy-1: f"))
    with pytest.raises(SpecificationError, match=r"config/golden/toy.npz: cannot be read: .*\n  bring both back: `git"):
        verdicts("toy")
