"""Films of runs and the GIFs that are drawn of them: who is filmed, from what, and what is seen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mtrepro import filming, options, process, releasing
from mtrepro.analysis import pictures
from mtrepro.analysis.pictures import (
    DIVERGED,
    FRAME,
    FRAME_WIDTH,
    LINE,
    PREDICTS,
    SEES,
    episode,
    gif,
    open_loop,
    write_pictures,
)
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import MtreproError, SpecificationError, StateError
from mtrepro.film import Film, TaskFilm, read_film, write_film
from mtrepro.specification import Specification
from mtrepro.training import Trainer
from mtrepro.weights import kept, packed, put
from mtrepro.workflow import Study
from tests.conftest import toy_sources, toy_specification, write_run
from tests.unit.lineage_fixture import run_of, study, trained

CPU = torch.device("cpu")


def lived_run(folder: Path, specification: Specification, keep: str = "pictures") -> Path:
    path = write_run(folder, specification)
    with StopRequest() as stop:
        assert process.train(path, options.Options(device="cpu", keep=keep), stop) == 0
    return path.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dreamer's run that left its weights."""
    small = toy_specification("dreamer", budget=60, settings={"first_updates": 3, "learn_updates": 1})
    return lived_run(tmp_path_factory.mktemp("filmed"), small)


# Films


def test_a_film_shows_the_episode_that_the_last_evaluation_measured(run: Path, tmp_path: Path) -> None:
    filming.film(run, tmp_path / "film.npz")
    film = read_film(tmp_path / "film.npz")
    table = [line.split(",") for line in (run / "evaluation.csv").read_text().splitlines()]
    (measured,) = [row[4] for row in table if row[:4] == ["60", film.tasks[0].task, "0", "return"]]
    assert film.tasks[0].earned == float(measured)
    assert film.weights == json.loads((run / "run.json").read_text())["weights"]
    assert film.tasks[0].frames.shape == (21, 16, 16, 3) and film.tasks[0].truth.shape == (1, 21, 16, 16, 3)
    assert np.array_equal(film.tasks[0].truth[0], film.tasks[0].frames) and (film.every, film.seen) == (1, 5)
    filming.film(run, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "film.npz").read_bytes()


def test_runs_without_a_model_of_pictures_are_not_filmed(tmp_path: Path) -> None:
    path = write_run(tmp_path, toy_specification("mt_sac"))
    with pytest.raises(SpecificationError, match="mt_sac learns no model of pictures, so there is nothing to film"):
        filming.film(path.parent, tmp_path / "film.npz")
    with pytest.raises(MtreproError, match="mt_sac learns no model of pictures"):
        options.keeps_weights("pictures", "mt_sac")


def test_a_run_that_left_nothing_is_not_filmed(tmp_path: Path) -> None:
    path = write_run(tmp_path, toy_specification("dreamer"))
    with pytest.raises(MtreproError, match="left no weights, from which its film is played"):
        filming.film(path.parent, tmp_path / "film.npz")


def test_weights_of_another_shape_or_name_are_refused_by_name_and_nothing_is_taken(run: Path) -> None:
    method = Trainer(toy_specification("dreamer"), CPU).method
    left = torch.load(run / "weights.pt", weights_only=True)["weights"]
    before = {group: {name: p.clone() for name, p in its.items()} for group, its in kept("dreamer", method).items()}
    name = next(iter(left["reward_output"]))
    cut = {**left, "reward_output": {**left["reward_output"], name: torch.zeros(7, 7)}}
    for broken, message in (
        (cut, rf"weights.pt: group reward_output, {name}: \(1, 16\) here, \(7, 7\) in the file"),
        ({**left, "mind/0": {"model.codes.weight": torch.zeros(2, 3)}}, "group mind/0, model.codes.weight: nothing"),
        ({group: its for group, its in left.items() if group != "encoder"}, r"group encoder, .* nothing in the file"),
    ):
        with pytest.raises(StateError, match=message):
            put("dreamer", method, broken, "weights.pt")
    for group, its in kept("dreamer", method).items():
        assert all(torch.equal(p, before[group][each]) for each, p in its.items())


DREAMERS: list[tuple[str, dict[str, Any]]] = [
    ("dreamer", {"slow_critic_every": 2}),
    ("transfer", {}),
    ("meta_model_transfer", {}),
    ("multi_task_dreamer", {}),
    ("multi_task_dreamer", {"sharing": "embedded", "state_space": "transformer"}),
    ("meta_dreamer", {}),
]


@pytest.mark.parametrize(("name", "settings"), DREAMERS)
def test_what_a_run_leaves_is_all_that_it_plays_with(name: str, settings: dict[str, Any]) -> None:
    specification = toy_specification(name, settings=settings)
    sources = toy_sources(specification)
    one, other = (
        Trainer(specification.model_copy(update={"seed": seed}), CPU, sources=sources) for seed in (0, 1)
    )  # fmt: skip
    left = torch.load(io.BytesIO(packed(one)), weights_only=True)["weights"]
    put(name, other.method, left, "weights.pt")
    minds: list[list[Any]] = [list(each.method.minds) for each in (one, other)]  # type: ignore[attr-defined]
    for mine, theirs in zip(*minds, strict=True):
        taken = theirs.state_dict()
        for each, value in mine.state_dict().items():
            assert "slow_critic" in each or torch.equal(value, taken[each]), each
    (mine, *_), (theirs, *_) = (filming.play(one.benchmark, each.method) for each in (one, other))
    assert np.array_equal(mine.pictures, theirs.pictures)
    for task, its in enumerate(filming.play(one.benchmark, one.method)):
        truth, predicted = filming.predict(minds[0][task if len(minds[0]) > 1 else 0].model, its, task)
        assert truth.shape == predicted.shape == (1, 21, 16, 16, 3)


def test_what_others_learn_from_is_what_it_was_before_there_were_films() -> None:
    method: Any = Trainer(toy_specification("dreamer", settings={"slow_critic_every": 2}), CPU).method
    assert list(kept("dreamer", method)) == list(method.weights())


def test_windows_lie_beside_each_other_and_are_led_by_their_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def remember(model: Any, truth: Any, a: Any, task: Any, seen: int) -> Any:
        asked.append((a, task, seen))
        return truth

    monkeypatch.setattr(filming, "open_loop", remember)
    frames = np.arange(171, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    action = np.arange(1, 171, dtype=np.float32)[:, None]
    truth, _ = filming.predict(None, filming.Played(frames, action, 0.0), 1)  # type: ignore[arg-type]
    assert truth.shape == (3, 50, 1, 1, 3) and truth[:, 0, 0, 0, 0].tolist() == [0, 60, 121]
    a, task, seen = asked[0]
    assert a[:, :, 0].T[:, :2].tolist() == [[0, 1], [60, 61], [121, 122]]  # frame t is what action t led to
    assert task.tolist() == [1, 1, 1] and seen == 5


def record_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


# GIFs


def film(tasks: int = 2, frames: int = 30, windows: int = 3, side: int = 64) -> Film:
    noise = np.random.default_rng(0)

    def picture(*shape: int) -> Any:
        return noise.integers(256, size=(*shape, side, side, 3), dtype=np.uint8)

    def filmed(index: int) -> TaskFilm:
        return TaskFilm(f"task-{index}", picture(frames - index), picture(windows, 12), picture(windows, 12), 1.0)

    return Film([filmed(index) for index in range(tasks)], 1, 5, "w", False)


def read_gif(content: bytes) -> list[Any]:
    image = Image.open(io.BytesIO(content))
    shown = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        shown.append(np.asarray(image.convert("RGB")))
    return shown


def test_gifs_have_the_frames_and_the_size_of_the_film_and_equal_bytes(tmp_path: Path) -> None:
    its = film(tasks=1, frames=6, windows=2, side=16)
    write_film(tmp_path / "a-run" / "film.npz", its)
    write_pictures([tmp_path / "a-run" / "film.npz"], tmp_path / "one")
    write_pictures([tmp_path / "a-run" / "film.npz"], tmp_path / "two", "arm-s0")
    for kind, frames, size in (("episode", 6, (128, 128)), ("open_loop", 12, (2 * 128 + 4, 3 * 128 + 4 + LINE))):
        content = (tmp_path / "one" / f"a-run-{kind}.gif").read_bytes()
        assert content == (tmp_path / "two" / f"arm-s0-{kind}.gif").read_bytes()
        shown = read_gif(content)
        assert len(shown) == frames and shown[0].shape == (size[1], size[0], 3)


def test_rows_are_truth_model_and_error_and_the_line_says_what_was_seen() -> None:
    its = film(tasks=1, windows=1)
    frames, of_task = open_loop(its), its.tasks[0]
    assert np.array_equal(frames[:, :128:2, ::2], of_task.truth[0])
    assert np.array_equal(frames[:, 128 + LINE : 256 + LINE : 2, ::2], of_task.model[0])
    error = (of_task.model[0] / 255 - of_task.truth[0] / 255 + 1) / 2 * 255
    np.testing.assert_allclose(frames[:, -128::2, ::2], error, atol=0.51)
    colours = [tuple(frame[129, 0].tolist()) for frame in frames]
    assert colours == [SEES] * 5 + [PREDICTS] * 7
    shown = read_gif(gif(frames, FRAME))[6][129, 5].astype(int)
    assert np.abs(shown - PREDICTS).max() < 40, "the palette has its colour"


def test_a_task_that_ended_early_stands_still_beside_the_others() -> None:
    its = film(tasks=2, frames=8)
    frames = episode(its)
    assert frames.shape[0] == 8
    assert np.array_equal(frames[7, ::2, -128::2], its.tasks[1].frames[-1])
    assert open_loop(film(tasks=5)).shape[2] <= pictures.WIDEST


def test_large_gifs_are_half_as_wide_then_leave_out_frames_and_play_as_fast() -> None:
    frames = episode(film(tasks=1, frames=12))
    whole = gif(frames, 0.1)
    half = gif(frames, 0.1, len(whole) - 1)
    cut = gif(frames, 0.1, len(half) - 1)
    assert len(cut) < len(half) < len(whole)
    images: list[Any] = [Image.open(io.BytesIO(content)) for content in (whole, half, cut)]
    assert [(image.size, image.n_frames) for image in images] == [((128, 128), 12), ((64, 64), 12), ((64, 64), 6)]
    assert [image.info["duration"] * image.n_frames for image in images] == [1200] * 3


def test_pictures_of_a_run_that_diverged_have_a_red_frame(tmp_path: Path) -> None:
    its = film(tasks=1, frames=3, windows=1, side=16)
    for name, diverged in (("well", False), ("broken", True)):
        write_film(tmp_path / name / "film.npz", its._replace(diverged=diverged))
        write_pictures([tmp_path / name / "film.npz"], tmp_path / "pictures")
    assert read_film(tmp_path / "broken" / "film.npz").diverged
    for kind in ("episode", "open_loop"):
        well, broken = (
            read_gif((tmp_path / "pictures" / f"{name}-{kind}.gif").read_bytes())[0] for name in ("well", "broken")
        )
        assert broken.shape[0] == well.shape[0] + 2 * FRAME_WIDTH
        corner = broken[:FRAME_WIDTH].reshape(-1, 3).astype(int)
        assert np.abs(corner - DIVERGED).max() < 40, "the palette has its colour"


def test_a_missing_or_torn_film_is_named(tmp_path: Path) -> None:
    (tmp_path / "film.npz").write_bytes(b"torn")
    for path in (tmp_path / "film.npz", tmp_path / "none" / "film.npz"):
        with pytest.raises(MtreproError, match="no film that can be read"):
            write_pictures([path], tmp_path)
    with pytest.raises(MtreproError, match="--name a: names one film, and there are 2"):
        write_pictures([tmp_path / "film.npz"] * 2, tmp_path, "a")


# What is released


def test_a_release_has_the_pictures_of_each_arms_first_seed_of_the_weights_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = study(tmp_path)
    monkeypatch.setattr(releasing, "root", lambda: tmp_path)
    for run, left in zip(resolved.arm_runs, ("w", "w", "of another code", "w"), strict=True):
        folder = tmp_path / resolved.results / run.name
        write_film(folder / "film.npz", film(tasks=1, frames=2, windows=1, side=16))
        (folder / "run.json").write_text(json.dumps({"weights": left}))
    releasing._draw_pictures(tmp_path / "pictures", resolved)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "modular-s0-episode.gif",
        "modular-s0-open_loop.gif",
    }


# What the rules are told


def test_pictures_are_asked_of_runs_that_left_weights_or_are_to_be_trained(tmp_path: Path) -> None:
    resolved = study(tmp_path, seeds=[0], seeds_per_job=2)
    rules = Study(resolved)
    rules.results = str(tmp_path)
    first, modular, fraction = (run_of(resolved, arm).name for arm in ("first", "modular", "fraction"))
    assert [rules.keep(name) for name in (first, modular, fraction)] == ["weights", "pictures", "pictures"]
    assert rules.pictures.names == ["modular-s0", "fraction-s0", "first-s0"]
    trained(tmp_path, run_of(resolved, "first"), "weights")
    folder = trained(tmp_path, run_of(resolved, "modular"))
    assert rules.goes_without(modular) and not rules.goes_without(first) and not rules.goes_without(fraction)
    assert rules.pictures.names == ["fraction-s0", "first-s0"], "nothing is trained for a picture's sake"
    before = (folder / "run.json").read_bytes()
    trained(tmp_path, run_of(resolved, "modular"), "pictures")
    assert (folder / "run.json").read_bytes() == before
    (tmp_path / first / "weights.pt").unlink()
    assert "first-s0" in rules.pictures.names, "others learn from it"
    assert rules.pictures.filmed == []
    path = tmp_path / first / "film.npz"
    write_film(path, film(tasks=1, frames=2, windows=1, side=16)._replace(weights=record_of(path.parent)["weights"]))
    assert rules.pictures.filmed == ["first-s0"]
    write_film(path, film(tasks=1, frames=2, windows=1, side=16))
    assert rules.pictures.filmed == [], "a film of what the run was before it was trained again"
    assert rules.pictures.stamp("first", "0") != rules.pictures.stamp("modular", "0") == "none"


def test_seeds_of_one_job_leave_their_weights_too_but_those_that_are_done_without(tmp_path: Path) -> None:
    arms = {"alone": {"method": "dreamer"}, "random": {"method": "random_policy", "budget": 0}}
    resolved = study(tmp_path, arms=arms, sources={}, seeds_per_job=2)
    rules = Study(resolved)
    rules.results = str(tmp_path)
    dreamers, random = rules.groups
    assert (dreamers.keep, random.keep) == ("pictures", "results")
    assert dreamers.leaving == dreamers.runs and random.leaving == rules.leaving == []
    path = trained(tmp_path, run_of(resolved, "alone", 1))
    assert path.name in dreamers.runs and dreamers.leaving == [run_of(resolved, "alone", 0).name]
