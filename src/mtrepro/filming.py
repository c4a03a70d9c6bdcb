"""Filming a finished run: one evaluation episode of every task, and what the run's world model predicted of it.

Nothing is trained and nothing of the run changes. What is played is the first episode of its last evaluation, before
any adaptation, so that the film shows what the tables measured; of a run on a GPU, or with several threads, up to the
rounding of its numbers.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mtrepro.benchmarks import Benchmark, SimulationError
from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.film import Film, Pictures, TaskFilm, write_film
from mtrepro.lineage import WEIGHTS, has_pictures, weights_digest
from mtrepro.methods import Method
from mtrepro.paths import shown
from mtrepro.specification import Specification, load_specification
from mtrepro.training import Trainer
from mtrepro.weights import put, read_sources, read_weights
from mtrepro.world_model.acting import Acting
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.open_loop import open_loop

SEEN = 5  # frames of a window that the model sees
WINDOW = 50  # frames of a window
WINDOWS = 3  # of an episode at most, spread over it
FRAMES = 120  # of an episode that are kept at most


class Played(NamedTuple):
    """One episode of one task: T actions."""

    pictures: Pictures  # (T + 1, side, side, 3)
    action: NDArray[np.float32]  # (T, action_size)
    earned: float  # sum of raw rewards


def film(folder: Path, output: Path) -> None:
    """Write the film of the run in `folder`, as film.py describes it. Equal runs give equal bytes.

    Raises:
        SpecificationError: the run's method learns no model of pictures.
        MtreproError: the run left no weights.
        StateError: its weights are damaged, another run's or of another shape.
    """
    folder = folder.resolve()
    specification = load_specification(folder / "specification.yaml")
    if not has_pictures(specification.method):
        raise SpecificationError(
            f"{shown(folder)}: {specification.method} learns no model of pictures, so there is nothing to film\n"
            "  films are of Dreamers on benchmarks of pictures: docs/workflow.md#pictures"
        )
    if weights_digest(folder) is None:
        raise MtreproError(
            f"{shown(folder / WEIGHTS)}: the run left no weights, from which its film is played\n"
            "  nothing is trained for a film alone: to train the run again, remove its run.json and give the command\n"
            f"  of its study again; or: mtrepro train {shown(folder / 'specification.yaml')} --keep pictures"
        )
    left = read_weights(folder, specification.digest())
    trainer = _trainer(specification, folder.parent)
    method = trainer.method
    assert isinstance(method, Acting)
    put(specification.method, method, left.weights, shown(folder / WEIGHTS))
    trainer.benchmark.check()
    played, tasks = play(trainer.benchmark, method), trainer.benchmark.tasks
    every = max(-(-len(its.pictures) // FRAMES) for its in played)
    filmed = []
    for index, its in enumerate(played):
        model = method.minds[index if len(method.minds) > 1 else 0].model
        truth, predicted = predict(model, its, index)
        filmed.append(TaskFilm(tasks[index], its.pictures[::every], truth, predicted, its.earned))
    write_film(output, Film(filmed, every, SEEN, left.digest, left.diverged is not None))


def play(benchmark: Benchmark, method: Method) -> list[Played]:
    """The first episode of the protocol in every task, played by the policy without noise.

    Where the physics becomes unstable the episode ends: that, too, is seen then.
    """
    tasks = np.arange(len(benchmark.tasks))
    memory, running, earned = dict[str, Any](), np.ones(len(tasks), np.bool_), np.zeros(len(tasks))
    with VectorEnvironment(benchmark, "evaluation", 0, autoreset=False) as environments:
        observation = environments.reset(0)
        pictures: list[list[Pictures]] = [[picture] for picture in observation]
        actions: list[list[NDArray[np.float32]]] = [[] for _ in tasks]
        for moment in itertools.count():
            # As in an evaluation: a broken policy stands still.
            chosen = np.nan_to_num(method.act(observation, tasks, explore=False, moment=moment, memory=memory))
            try:
                moved = environments.step(chosen)
            except SimulationError:
                break
            for task in np.flatnonzero(running):
                pictures[task].append(moved.next_observation[task])
                actions[task].append(chosen[task])
            earned += np.where(running, moved.raw_reward, 0.0)
            running &= ~(moved.terminated | moved.truncated)
            observation = moved.observation
            if not running.any():
                break
    size = benchmark.action_size
    return [
        Played(np.stack(pictures[task]), np.reshape(actions[task], (-1, size)).astype(np.float32), float(earned[task]))
        for task in tasks
    ]


def predict(model: WorldModel, its: Played, task: int) -> tuple[Pictures, Pictures]:
    """Truth and model of some windows of an episode, both (windows, T, side, side, 3).

    As many windows as have room beside each other, each of `WINDOW` frames; a shorter episode is one window.
    """
    count = len(its.pictures)
    length = min(WINDOW, count)
    begins = np.linspace(0, count - length, min(WINDOWS, count // length)).astype(np.int64)
    rows = begins + np.arange(length)[:, None]  # (T, windows)
    led = np.pad(its.action, ((1, 0), (0, 0)))[rows]  # nothing led to the first frame
    truth = torch.from_numpy(its.pictures[rows])
    predicted = open_loop(model, truth, torch.from_numpy(led), torch.full((len(begins),), task), SEEN)
    return truth.transpose(0, 1).numpy(), predicted.transpose(0, 1).numpy()


def _trainer(specification: Specification, results: Path) -> Trainer:
    """The run's benchmark and method on the CPU, as before its first step, with room for no frame to learn from."""
    torch.set_num_threads(1)  # other threads, other bits
    settings = specification.settings | {"replay_frames": 1_000}
    learner = specification.learner.model_copy(update={"compile": "eager"})  # a recording needs a GPU
    changed = specification.model_copy(update={"settings": settings, "learner": learner})
    return Trainer(changed, torch.device("cpu"), sources=read_sources(results, specification).weights)
