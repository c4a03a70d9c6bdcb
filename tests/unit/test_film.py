"""Films of runs and the GIFs that are drawn of them: who is filmed, from what, and what is seen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrepro import filming, options, process, releasing
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import MtreproError, SpecificationError, StateError
from mtrepro.film import read_film, write_film
from mtrepro.specification import Specification
from mtrepro.training import Trainer
from mtrepro.weights import kept, packed, put
from mtrepro.workflow import Study
from tests.conftest import toy_sources, toy_specification, write_run
from tests.unit.film_fixture import film
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
