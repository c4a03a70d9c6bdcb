"""What every pixel family promises: pictures, repeated actions, equal bits, a state that others go on from."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mtrepro.benchmarks import SimulationError, pixels_gl
from mtrepro.benchmarks.loading import load_benchmark, load_family
from mtrepro.benchmarks.pixels_settings import need
from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.errors import MissingError, SpecificationError, StateError
from tests.unit.pixel_fixture import CAR, CASES, COMMON, WALKER, actions, environment, play

EACH = pytest.mark.parametrize("family", CASES)


@EACH
def test_pictures_have_the_shape_and_type_that_the_benchmark_says_and_move(family: str) -> None:
    benchmark = load_benchmark(family, CASES[family], 0)
    assert benchmark.observation_shape == (64, 64, 3) and benchmark.observation_dtype == np.uint8
    assert benchmark.action_mask.shape == (len(benchmark.tasks), benchmark.action_size)
    one = benchmark.make(0, "training")
    seen = [one.reset(), *(one.step(action).observation for action in actions(4, benchmark.action_size))]
    for picture in seen:
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8 and picture.flags.c_contiguous
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 4, "a picture of something"
    assert len({picture.tobytes() for picture in seen}) == 5
    one.close()


@EACH
def test_a_state_goes_on_with_the_same_bits_elsewhere_also_in_later_episodes(family: str) -> None:
    size = load_benchmark(family, CASES[family], 0).action_size
    sequence = actions(31, size)  # two whole episodes and a part of the third
    one, states, parts = environment(family), {}, []
    one.reset()
    for moment in range(31):
        if moment in (0, 7, 12, 20):  # begun, in the middle, just begun again, in the middle of the second
            states[moment] = (one.state(), len(parts))
        parts += play(one, sequence[moment : moment + 1])
    one.close()
    for moment, (state, before) in states.items():
        other = environment(family)
        other.load_state(state)
        assert play(other, sequence[moment:]) == parts[before:], f"from step {moment}"
        if moment == 20:  # and in a simulator that was used
            other.load_state(states[7][0])
            assert play(other, sequence[7:10]) == parts[7:10]
        other.close()


@EACH
def test_seeds_and_purposes_start_elsewhere_and_start_k_is_the_same_each_time(family: str) -> None:
    starts = [
        environment(family, seed, purpose=purpose).reset().tobytes()
        for seed, purpose in ((0, "training"), (0, "training"), (1, "training"), (0, "evaluation"))
    ]
    assert starts[0] == starts[1] and len(set(starts)) == 3
    asked, plain = environment(family), environment(family)
    third = asked.reset(3)
    assert third.tobytes() != asked.reset(4).tobytes()
    assert third.tobytes() == environment(family, purpose="evaluation").reset(3).tobytes()
    assert asked.reset().tobytes() == plain.reset().tobytes(), "start k draws nothing from the training's stream"


@pytest.mark.parametrize("family", ["bullet", "carracing", "dmc", "mujoco", "variants"])
def test_a_repeated_action_is_the_same_as_one_taken_twice_and_rewards_are_summed(family: str) -> None:
    size = load_benchmark(family, CASES[family], 0).action_size
    twice, once = environment(family), environment(family, action_repeat=1, horizon=24)
    assert twice.reset().tobytes() == once.reset().tobytes()
    for action in actions(6, size):
        step, parts = twice.step(action), [once.step(action), once.step(action)]
        assert step.observation.tobytes() == parts[1].observation.tobytes()
        assert step.reward == step.raw_reward == pytest.approx(parts[0].reward + parts[1].reward, rel=1e-12)


@pytest.mark.parametrize(("family", "task"), [("mujoco", "Hopper-v5"), ("bullet", "HopperBulletEnv-v0")])
def test_a_fall_ends_the_episode_only_where_early_termination_is_on(family: str, task: str) -> None:
    lengths = {}
    for early in (True, False):
        one = environment(family, tasks=[task], early_termination=early, horizon=60)
        one.reset()
        steps = [one.step(np.ones(3, np.float32))]
        while not (steps[-1].terminated or steps[-1].truncated):
            steps.append(one.step(np.ones(3, np.float32)))
        lengths[early] = len(steps)
        assert steps[-1].terminated is early and steps[-1].truncated is not early
        one.close()
    assert lengths[True] < lengths[False] == 60


def test_the_pair_pads_and_masks_actions_and_ignores_what_pads() -> None:
    benchmark = load_benchmark("pixels", CASES["pixels"], 0)
    assert benchmark.tasks == ("CarRacing-v3", "Walker2d-v5")
    assert benchmark.action_mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    records = []
    for padding in (-1.0, 1.0):
        one = benchmark.make(0, "training")
        one.reset()
        records.append(play(one, np.array([[0.1, 0.5, -1, padding, padding, padding]] * 4, np.float32)))
    assert records[0] == records[1]
    alone = environment("carracing")
    alone.reset()
    assert play(alone, np.array([[0.1, 0.5, -1]] * 4, np.float32)) == records[0], "the same task as in its family alone"


def test_the_pair_gives_the_same_bits_with_workers_and_goes_on_from_a_state() -> None:
    benchmark, records = load_benchmark("pixels", CASES["pixels"], 0), []
    sequence = actions(20, 12).reshape(20, 2, 6)
    for workers in (0, 1):
        with VectorEnvironment(benchmark, "training", workers) as both:
            both.reset()
            steps = [both.step(action) for action in sequence[:8]]
            state = both.state()
            steps += [both.step(action) for action in sequence[8:]]
        records.append([b"".join(part.tobytes() for part in step) for step in steps])
    assert records[0] == records[1]
    with VectorEnvironment(benchmark, "training") as both:
        both.load_state(state)
        rest = [b"".join(part.tobytes() for part in both.step(action)) for action in sequence[8:]]
    assert rest == records[0][8:]


def test_stepping_past_the_end_is_an_error_that_says_what_to_do() -> None:
    one = environment("mujoco", horizon=1)
    with pytest.raises(RuntimeError, match=r"Ant-v5: no episode is running; call reset\(\) before step\(\)"):
        one.step(np.zeros(8, np.float32))
    one.reset()
    assert one.step(np.zeros(8, np.float32)).truncated
    with pytest.raises(RuntimeError, match="no episode is running"):
        one.step(np.zeros(8, np.float32))


def test_unstable_physics_are_an_error_in_training_and_end_an_evaluations_episode() -> None:
    for purpose in ("training", "evaluation"):
        one = environment("mujoco", purpose=purpose)
        one.reset()
        before = one.step(np.zeros(8, np.float32))
        one._simulator.environment.data.qvel[:] = math.nan
        if purpose == "training":
            with pytest.raises(SimulationError, match="Ant-v5: the physics became unstable at agent step 2"):
                one.step(np.zeros(8, np.float32))
        else:
            last = one.step(np.zeros(8, np.float32))
            assert last.terminated and last.reward == 0.0 and not last.success
            assert last.observation.tobytes() == before.observation.tobytes()
            assert one.state()["start"] is None


# What is missing


def test_no_gl_library_is_said_with_what_each_backend_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(
        pixels_gl, "RENDER", "raise AttributeError(\"'NoneType' object has no attribute 'glGetError'\")"
    )
    pixels_gl.context.cache_clear()
    pixels_gl.renderer.cache_clear()
    with pytest.raises(MissingError) as caught:
        load_benchmark("mujoco", CASES["mujoco"], 0).check()
    lines = str(caught.value).splitlines()
    assert lines[0] == "MuJoCo cannot draw: no GL library works here"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["egl", "osmesa"]
    assert "libosmesa6" in lines[3] and "its library is not there" in lines[1]
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(MissingError, match="MUJOCO_GL=glfw: training draws without a window; known: egl, osmesa"):
        pixels_gl.find_backend()


@pytest.mark.parametrize(
    ("family", "module", "package"),
    [
        ("bullet", "pybullet", "pybullet"),
        ("carracing", "Box2D", "box2d"),
        ("dmc", "dm_control.suite", "dm-control"),
        ("mujoco", "mujoco", "mujoco"),
    ],
)
def test_a_missing_package_is_named_before_the_first_step(
    family: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=f"benchmark family {family}: the package {package} cannot be imported"):
        load_benchmark(family, CASES[family], 0).check()


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(MissingError, match=r"`make setup` installs it; see docs/benchmarks/bullet.md$"):
        need("no_such_module", "no-such-package", "bullet")


def test_planning_imports_no_simulator_and_simulators_print_nothing() -> None:
    script = (
        "import sys; from tests.unit.pixel_fixture import CASES, environment; from mtrepro.benchmarks import loading\n"
        "for family in CASES: loading.load_benchmark(family, CASES[family], 0)\n"
        "assert not {'mujoco', 'pybullet', 'Box2D', 'pygame', 'dm_control', 'torch'} & sys.modules.keys()\n"
        "for family in ('bullet', 'carracing'): environment(family).reset()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pictures_of_another_renderer_are_not_gone_on_from() -> None:
    one = environment("mujoco")
    one.reset()
    state = {**one.state(), "drawn_with": "osmesa: softpipe, 3.3"}
    with pytest.raises(StateError, match=r"Ant-v5: the run drew its pictures with osmesa: softpipe, 3.3; here it is "):
        environment("mujoco").load_state(state)


# What settings refuse

MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a misspelt task": ("mujoco", {"tasks": ["Walker-v5"]}, r"tasks: unknown task 'Walker-v5' \(nearest: Walker2d-v5"),
    "a task twice": ("bullet", {"tasks": ["AntBulletEnv-v0"] * 2}, "task 'AntBulletEnv-v0' is given twice"),
    "no task": ("dmc", {"tasks": []}, r"no tasks; give a list of names such as \[acrobot-swingup\]"),
    "a missing key": ("mujoco", {"early_termination": None}, "early_termination: input should be a valid boolean"),
    "states beside pixels": (
        "pixels",
        {"parts": [{"family": "carracing", "settings": CAR}, {"family": "metaworld", "settings": {}}]},
        "parts: a benchmark cannot mix 'metaworld' with these: its tasks are not seen as pictures of 64 x 64, and no "
        "agent here sees both states and pixels; known: bullet, carracing, mujoco, variants",
    ),
    "a task of two parts": ("pixels", {"parts": [{"family": "carracing", "settings": CAR}] * 2}, "is given twice"),
    "parts measured differently": (
        "pixels",
        {
            "parts": [
                {"family": "carracing", "settings": CAR},
                {"family": "mujoco", "settings": {**WALKER, "evaluation_episodes": 9}},
            ]
        },
        r"evaluation_episodes of the parts are \[2, 9\]",
    ),
    "a mistake in a part": (
        "pixels",
        {"parts": [{"family": "carracing", "settings": {**COMMON, "tasks": ["CarRacing-v2"]}}]},
        "unknown task 'CarRacing-v2'",
    ),
    "a held-out task that is trained on": ("variants", {"held_out": [{"gravity": 0.5}]}, "gravity-0.5 is given twice"),
    "nothing held out": ("variants", {"held_out": []}, "training and held_out each need a variant"),
    "longer than the suite": (
        "dmc",
        {"action_repeat": 2, "horizon": 501},
        "= 1002 steps of the suite",
    ),
    "held out among parts": (
        "pixels",
        {"parts": [{"family": "variants", "settings": {**CASES["variants"], "split": "both"}}]},
        "would be held out; give this part `split: training`",
    ),
    "a velocity of what stands": ("variants", {"base": "InvertedPendulum-v5"}, "has no forward velocity to reward"),
    "an unknown robot": ("variants", {"base": "HalfCheetah"}, r"unknown task 'HalfCheetah' \(nearest: HalfCheetah-v5"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_is_refused_with_the_reason(mistake: str) -> None:
    family, changed, words = MISTAKES[mistake]
    with pytest.raises(SpecificationError, match=words):
        load_benchmark(family, {**CASES[family], **changed}, 0)


@EACH
def test_resolved_settings_resolve_to_themselves(family: str) -> None:
    settings = load_family(family).Settings
    resolved = settings.model_validate(CASES[family]).model_dump(mode="json")
    assert settings.model_validate(resolved).model_dump(mode="json") == resolved
