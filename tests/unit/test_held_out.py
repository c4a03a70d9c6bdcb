"""Tasks that are held out of training: never stepped in it, measured before and after adaptation, without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrepro.benchmarks import toy_variants
from mtrepro.benchmarks.held_out import held_out_tasks, training_part
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.engine import checkpoint
from mtrepro.errors import SpecificationError
from mtrepro.methods import Episode
from mtrepro.results import write_results
from mtrepro.specification import load_specification, resolve_benchmark
from mtrepro.training import Stopped, Trainer
from mtrepro.world_model.episodes import sequences_of
from tests.conftest import toy_specification, write_run
from tests.contract.test_methods import Watcher, fingerprint, trainer

VARIANTS = {
    "ahead": {"turn": 0.0, "speed": 0.2},
    "far": {"turn": 90.0, "speed": 0.1},
    "aside": {"turn": 60.0, "speed": 0.25},
}
METRICS = {"adapted_return", "adapted_success", "model_loss", "adapted_model_loss"}


def variants(**changed: Any) -> dict[str, Any]:
    given = {"variants": VARIANTS, "held_out": ["far"], "horizon": 10} | changed
    family, settings = resolve_benchmark({"family": "toy_variants", **given}, "benchmark")
    return {"family": family, **settings.model_dump(mode="json")}


def held_out_run(settings: dict[str, Any] | None = None, **changed: Any) -> Trainer:
    small = dict(toy_specification("meta_dreamer").settings) | {
        "first_updates": 4,
        "learn_updates": 1,
        "inner_steps": 2,
    }
    given: dict[str, Any] = {"budget": 60, "evaluation": {"every": 30, "episodes": 2}, "benchmark": variants()}
    return trainer("meta_dreamer", settings=small | (settings or {}), **given | changed)


def test_held_out_tasks_come_last_and_the_training_part_is_the_others() -> None:
    benchmark = load_benchmark("toy_variants", {"variants": VARIANTS, "held_out": ["far"]}, 0)
    assert benchmark.tasks == ("ahead", "aside", "far") and held_out_tasks(benchmark) == ("far",)
    part = training_part(benchmark)
    assert part.tasks == ("ahead", "aside") and part.action_mask.shape == (2, 2)
    whole, some = (VectorEnvironment(each, "training") for each in (benchmark, part))
    np.testing.assert_array_equal(whole.reset()[:2], some.reset())
    toy = load_benchmark("toy", {}, 0)
    assert training_part(toy) is toy


def test_a_variant_turns_and_shortens_every_step() -> None:
    benchmark = load_benchmark("toy_variants", {"variants": VARIANTS}, 0)
    moved = {}
    for task, name in enumerate(benchmark.tasks):
        environment = benchmark.make(task, "training")
        environment.reset()
        environment.load_state({**environment.state(), "position": np.zeros(2)})
        environment.step(np.array([1.0, 0.0], np.float32))
        moved[name] = environment.state()["position"]
    np.testing.assert_allclose(moved["ahead"], [0.2, 0.0], atol=1e-12)
    np.testing.assert_allclose(moved["far"], [0.0, 0.1], atol=1e-12)
    np.testing.assert_allclose(moved["aside"], [0.125, 0.25 * np.sqrt(3) / 2], atol=1e-12)


def test_a_goal_of_a_variant_s_own_stays_and_only_rewards_tell_of_it() -> None:
    places = {"near": [0.5, -0.25], "far": [-0.5, 0.75]}
    hidden = {name: {"turn": 0.0, "speed": 0.2, "goal": goal} for name, goal in places.items()}
    settings = variants(variants=hidden)
    benchmark = load_benchmark("toy_variants", {key: settings[key] for key in settings if key != "family"}, 0)
    seen = {}
    for task, name in enumerate(benchmark.tasks):
        environment = benchmark.make(task, "training")
        for episode in range(2):
            environment.reset(episode)
            environment.load_state({**environment.state(), "position": np.zeros(2)})
            step = environment.step(np.array([1.0, 0.0], np.float32))
            assert step.reward == pytest.approx(1 - np.hypot(*(np.array(places[name]) - [0.2, 0.0])))
            assert step.observation[:, :, 0].any() and not step.observation[:, :, 1:].any()
        seen[name] = step.observation
    np.testing.assert_array_equal(seen["near"], seen["far"])


def test_a_toll_is_taken_from_every_reward_and_return() -> None:
    moved = []
    for toll in (0.0, 0.75):
        settings = variants(variants=VARIANTS | {"ahead": {"turn": 0.0, "speed": 0.2, "toll": toll}})
        benchmark = load_benchmark("toy_variants", {key: settings[key] for key in settings if key != "family"}, 0)
        environment = benchmark.make(0, "training")
        environment.reset(0)
        moved.append(environment.step(np.array([1.0, 0.0], np.float32)))
    free, paid = moved
    assert free.reward - paid.reward == free.raw_reward - paid.raw_reward == pytest.approx(0.75)
    np.testing.assert_array_equal(free.observation, paid.observation)


def test_a_goal_outside_of_the_square_is_refused() -> None:
    with pytest.raises(SpecificationError, match=r"variants\.ahead\.goal"):
        variants(variants=VARIANTS | {"ahead": {"turn": 0.0, "speed": 0.2, "goal": [0.0, 1.5]}})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"held_out": ["fra"]}, "'fra' is no variant; known: ahead, far, aside"),
        ({"held_out": ["far", "far"]}, "a variant is named twice"),
        ({"held_out": ["ahead", "far", "aside"]}, "there is none to train on"),
    ],
)
def test_variants_that_cannot_be_held_out_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        variants(**changed)


def test_a_method_that_does_not_adapt_is_refused_where_tasks_are_held_out(tmp_path: Path) -> None:
    path = write_run(tmp_path, toy_specification("mt_sac", benchmark=variants()))
    with pytest.raises(SpecificationError, match=r"settings: mt_sac cannot adapt to tasks .* holds out far\n  choose"):
        load_specification(path)


def test_training_never_sees_a_held_out_task_and_every_task_is_measured_before_and_after(tmp_path: Path) -> None:
    run = held_out_run()
    run.run(Watcher())
    assert run.training is not None and run.training.tasks == ("ahead", "aside")
    assert len(run.method.replay.frames) == 2  # type: ignore[attr-defined]
    assert run.rows[-1].value == 2 * 60 and {row.task for row in run.rows} == {"", "ahead", "aside"}
    assert [evaluation.step for evaluation in run.evaluations] == [0, 30, 60]
    for evaluation in run.evaluations:
        assert evaluation.returns.shape == (3, 2) and set(evaluation.more) == METRICS
        assert all(values.shape == (3, 2) and np.isfinite(values).all() for values in evaluation.more.values())
        assert (evaluation.more["model_loss"] != evaluation.more["adapted_model_loss"]).all()
    write_results(tmp_path, run.specification, run, {}, [])
    lines = [line.split(",") for line in (tmp_path / "evaluation.csv").read_text().splitlines()[1:]]
    assert {metric for _, task, _, metric, _ in lines if task == "far"} == METRICS | {"return", "success"}
    run.close()


def test_measuring_more_often_or_longer_changes_neither_training_nor_what_was_measured() -> None:
    runs, prints = list[Trainer](), list[dict[str, Any]]()
    for every, episodes in ((60, 1), (60, 3), (30, 1)):
        runs.append(held_out_run(evaluation={"every": every, "episodes": episodes}))
        runs[-1].run(Watcher())
        prints.append(fingerprint(runs[-1]))
        runs[-1].close()
    for key in prints[0]:
        assert key == "evaluations" or prints[0][key] == prints[1][key] == prints[2][key], key
    first, longer, often = (run.evaluations[-1] for run in runs)
    for name in METRICS:
        np.testing.assert_array_equal(first.more[name], longer.more[name][:, :1])
        np.testing.assert_array_equal(first.more[name], often.more[name])


def test_stopped_within_the_adaptation_and_continued_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    expected = held_out_run()
    expected.run(Watcher())
    run = held_out_run()
    with pytest.raises(Stopped):  # after the policy's 2 episodes of 10 steps, among those that are adapted to
        run.run(Watcher(stop_in_evaluation=25))
    with pytest.raises(Stopped):
        run.run(Watcher(stop_at=57))
    checkpoint.save(tmp_path, 1, run.state())
    run.close()
    run = held_out_run()
    state = checkpoint.load(tmp_path, print)
    assert state is not None
    run.load_state(state)
    run.run(Watcher())
    assert fingerprint(run) == fingerprint(expected)


def test_the_judged_episodes_are_the_same_for_every_method() -> None:
    seen = []
    for inner_steps in (0, 1):
        run = held_out_run({"inner_steps": inner_steps, "order": "first"}, budget=0)
        judged = list[Episode]()
        adapt = run.method.adapt  # type: ignore[attr-defined]

        def noting(episodes: Any, adapt: Any = adapt, judged: Any = judged) -> Any:
            adapted = adapt(episodes)
            own = adapted.judge
            adapted.judge = lambda task, episode: (judged.append(episode), own(task, episode))[1]
            return adapted

        run.method.adapt = noting  # type: ignore[attr-defined]
        run.run(Watcher())
        seen.append([each.observation.tobytes() + each.action.tobytes() for each in judged])
    assert seen[0] == seen[1] and len(seen[0]) == 3 * 2 == len(set(seen[0]))


def test_windows_of_episodes_hold_every_frame_and_what_led_to_it() -> None:
    import torch

    episodes = [
        Episode(
            np.arange(4, dtype=np.float32),
            np.array([[1.0], [2.0], [3.0]], np.float32),
            np.array([1, 2, 3], np.float32),
            True,
        ),
        Episode(np.arange(4, 6, dtype=np.float32), np.array([[5.0]], np.float32), np.array([5], np.float32), False),
    ]
    batch = sequences_of(7, episodes, 4, torch.device("cpu"))
    assert batch.observation.T.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert batch.reward.T.tolist() == batch.action[..., 0].T.tolist() == [[0, 1, 2, 3], [2, 3, 0, 5]]
    assert batch.is_first.T.tolist() == [[True, False, False, False], [False, False, True, False]]
    assert batch.terminated.T.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]] and batch.task.tolist() == [7, 7]
    assert sequences_of(7, episodes, 50, torch.device("cpu")).observation.shape == (6, 1)


def test_every_variant_draws_from_streams_of_its_own() -> None:
    settings = toy_variants.Settings.model_validate({"variants": VARIANTS})
    benchmark = toy_variants.Benchmark(settings, 0)
    starts = {
        benchmark.make(task, purpose).reset().tobytes() for task in range(3) for purpose in ("training", "evaluation")
    }  # type: ignore[arg-type]
    assert len(starts) == 6
