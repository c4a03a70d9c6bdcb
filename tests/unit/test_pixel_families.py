"""What each pixel family does by itself: cameras, the swing-up, the car's pedals and lap, changed physics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtrepro.benchmarks.bullet_simulator import TASKS, BulletSimulator
from mtrepro.benchmarks.carracing import CarRacing
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.mujoco import ROBOTS, GymnasiumMujoco
from mtrepro.benchmarks.pixels_environment import Moved
from mtrepro.benchmarks.variants import Changes, Variant
from tests.unit.pixel_fixture import CASES, actions, benchmark_file, environment

# Bullet


def floor_share(task: str, camera: str) -> tuple[float, bool]:
    """How much of the lower half shows a floor, and whether the middle third shows the robot, after a few steps."""
    simulator = BulletSimulator(task, camera)
    simulator.reset(0)
    for action in actions(6, len(simulator.low)):
        simulator.step(action)
    picture = simulator.picture().astype(int)
    simulator.close()
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    tiles = (blue > red + 20) & (blue > green) & (red > 120)  # the floor's light blue; its other tiles are white
    robot = (abs(red - blue) > 80) | (abs(green - blue) > 80)
    return float(tiles[32:].mean()), bool(robot[:, 21:43].any())


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if "locomotion" in task.module])
def test_the_following_camera_shows_floor_and_body_of_every_robot(task: str) -> None:
    share, body = floor_share(task, "following")
    assert share > 0.2 and body


def test_the_published_camera_shows_no_floor_under_hopper_and_walker2d() -> None:
    shares = {task: floor_share(f"{task}BulletEnv-v0", "published")[0] for task in ("Hopper", "Walker2D", "Ant")}
    assert shares["Hopper"] == shares["Walker2D"] == 0.0 < 0.1 < shares["Ant"]


def test_the_double_pendulums_swing_up_begins_hanging_and_is_paid_for_height() -> None:
    simulator = BulletSimulator("InvertedDoublePendulumSwingup", "following")
    rewards = []
    for seed in range(4):
        simulator.reset(seed)
        rewards.append(simulator.step(np.zeros(1, np.float32)))
    assert all(-1.0 <= moved.reward < -0.95 and not moved.terminated for moved in rewards)
    assert len({moved.reward for moved in rewards}) == 4
    robot = simulator._environment.robot
    for first, second, height in ((0.0, 0.0, 1.0), (np.pi / 2, 0.0, 0.0), (0.0, np.pi, 0.0), (np.pi, 0.0, -1.0)):
        robot.j1.reset_current_position(first, 0)
        robot.j2.reset_current_position(second, 0)
        assert simulator._height() == pytest.approx(height, abs=1e-6)
        tip = robot.pole2.pose().xyz()[2] + 0.3 * np.cos(first + second)  # of poles of 0.6, from the rail
        assert 1.2 * simulator._height() == pytest.approx(tip, abs=1e-3)
    simulator.close()


# CarRacing


def test_pedals_are_released_at_minus_one_and_down_at_one() -> None:
    one = environment("carracing")
    one.reset()
    one.step(np.array([1.0, -1.0, 1.0], np.float32))
    wheels = one._simulator._environment.car.wheels
    assert wheels[2].gas == 0.0 and wheels[0].brake == pytest.approx(1.0) and wheels[0].steer == pytest.approx(-1.0)
    one.step(np.array([0.0, 1.0, -1.0], np.float32))
    assert wheels[2].gas > 0.0 and wheels[0].brake == 0.0


def test_a_whole_lap_is_a_success_and_leaving_the_field_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    car = CarRacing(domain_randomize=False)
    car.reset(0)
    inside = car._environment
    inside.tile_visited_count = len(inside.track)
    assert car.step(np.zeros(3))[1:] == (True, True)
    car.reset(0)
    inside = car._environment
    position = SimpleNamespace(hull=SimpleNamespace(position=(1e4, 0.0)), step=lambda time: None, fuel_spent=0.0)
    for pedal in ("steer", "gas", "brake"):
        setattr(position, pedal, lambda amount: None)
    monkeypatch.setattr(inside, "car", position)
    assert car.step(np.zeros(3)) == Moved(-100.0, True, False)


def test_colours_change_only_where_they_are_randomized() -> None:
    for randomized, distinct in ((False, 1), (True, 3)):
        one = environment("carracing", domain_randomize=randomized)
        seen = set()
        for _ in range(3):
            one.reset()
            seen.add(tuple(one._simulator._environment.road_color.astype(int)))
        assert len(seen) == distinct


# MuJoCo and its variants


@pytest.mark.parametrize("task", ["Hopper-v5", "InvertedPendulum-v5"])
def test_rewards_and_ends_are_those_of_gymnasium(task: str) -> None:
    import gymnasium

    ours, theirs = GymnasiumMujoco(task), gymnasium.make(task)
    ours.reset(3)
    theirs.reset(seed=3)
    for action in actions(40, ROBOTS[task].actions):
        scaled = np.clip(action, -1, 1) * theirs.action_space.high  # type: ignore[attr-defined]
        moved, (_, reward, terminated, _, _) = ours.step(scaled), theirs.step(scaled)
        assert moved == Moved(float(reward), terminated)
        if terminated:
            break
    ours.close()
    theirs.close()


def test_software_rendering_is_spared_shadows_and_multisampling() -> None:
    one = environment("mujoco")
    one.reset()
    quality = one._simulator.environment.model.vis.quality
    assert (quality.shadowsize, quality.offsamples) == (0, 0)


def test_changes_are_factors_on_the_model() -> None:
    changes = Changes(gravity=0.5, friction=2.0, mass=1.5, gear=0.25)
    plain, changed = GymnasiumMujoco("HalfCheetah-v5"), Variant("HalfCheetah-v5", changes)
    ours, theirs = changed.environment.model, plain.environment.model
    np.testing.assert_allclose(ours.opt.gravity, 0.5 * theirs.opt.gravity)
    np.testing.assert_allclose(ours.geom_friction, 2.0 * theirs.geom_friction)
    np.testing.assert_allclose(ours.body_mass, 1.5 * theirs.body_mass)
    np.testing.assert_allclose(ours.body_inertia, 1.5 * theirs.body_inertia)
    np.testing.assert_allclose(ours.actuator_gear, 0.25 * theirs.actuator_gear)
    np.testing.assert_allclose(ours.body_subtreemass, 1.5 * theirs.body_subtreemass)  # derived
    np.testing.assert_allclose(GymnasiumMujoco("HalfCheetah-v5").environment.model.body_mass, theirs.body_mass)


@pytest.mark.parametrize("robot", ["HalfCheetah-v5", "Ant-v5"])
def test_a_target_velocity_replaces_the_reward_for_running(robot: str) -> None:
    plain, paced = GymnasiumMujoco(robot), Variant(robot, Changes(target_velocity=0.7))
    plain.reset(1)
    paced.reset(1)
    told: dict[str, Any] = {}
    step = plain.environment.step

    def listen(action: Any) -> Any:
        given = step(action)
        told.update(given[4])
        return given

    plain.environment.step = listen
    for action in actions(8, ROBOTS[robot].actions):
        own, changed = plain.step(action).reward, paced.step(action).reward
        v, w = told["x_velocity"], 1.0  # the weight of both robots
        assert changed == pytest.approx(own - w * v - w * abs(v - 0.7), rel=1e-9, abs=1e-9)


def test_an_episode_of_the_suite_is_cut_off_at_its_limit_and_never_over() -> None:
    one = environment("dmc", horizon=500)
    one.reset()
    steps = [one.step(np.zeros(1, np.float32)) for _ in range(500)]
    assert [step.truncated for step in steps] == [False] * 499 + [True]
    assert not any(step.terminated for step in steps)


def test_tasks_are_named_after_their_changes_and_those_held_out_are_named() -> None:
    values = benchmark_file("variants-halfcheetah")
    both = load_benchmark("variants", values, 0)
    assert both.tasks[0] == "HalfCheetah-v5-gravity-0.5" and both.tasks[-1] == "HalfCheetah-v5-gear-0.5"
    training, held_out = (
        load_benchmark("variants", {**values, "split": split}, 0) for split in ("training", "held_out")
    )
    assert both.tasks == training.tasks + held_out.tasks and not set(training.tasks) & set(held_out.tasks)
    for benchmark, expected in ((both, held_out.tasks), (training, ()), (held_out, ())):
        assert benchmark.held_out == expected  # type: ignore[attr-defined]
    one = both.make(0, "training")
    assert one.reset().tobytes() == training.make(0, "training").reset().tobytes(), "whatever other tasks there are"


def test_a_variants_tasks_differ_in_what_follows() -> None:
    values = {**CASES["variants"], "training": [{"gravity": 0.5}], "held_out": [{"gear": 0.5}], "split": "both"}
    moves = []
    for task in (0, 1):
        one = load_benchmark("variants", values, 0).make(task, "training")
        one.reset()
        moves.append([one.step(action).reward for action in actions(3, 6)])
    assert moves[0] != moves[1]
