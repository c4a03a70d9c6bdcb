"""Open-loop prediction beside the model's own reading of a sequence, and beside a loop written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.training import Trainer
from mtrepro.world_model.meta_reward import Accompanied
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.open_loop import open_loop
from tests.conftest import toy_sources, toy_specification
from tests.unit.dreamer_fixture import ACTIONS, V2, dreamer, pictures

KINDS: list[dict[str, Any]] = [{}, V2, {"state_space": "transformer"}, {"state_space": "transformer", **V2}]
FRAMES, ROWS, SEEN = 11, 2, 4
NAMES = ("gaussian", "categorical", "transformer", "transformer-categorical")


def windows(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, actions, tasks of two windows: one at an episode's start, one within it."""
    a = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (FRAMES, ROWS, ACTIONS)).astype(np.float32))
    a[0, 0] = 0
    return torch.from_numpy(pictures(FRAMES, ROWS, seed=seed)), a, torch.zeros(ROWS, dtype=torch.int64)


def shown(x: torch.Tensor) -> Any:
    """The decoder's means as pictures, (..., side, side, 3), numbers of any kind."""
    return np.clip((np.moveaxis(x.detach().double().numpy(), -3, -1) + 0.5) * 255, 0, 255)


def model(**changed: Any) -> WorldModel:
    """A model whose pictures are not all the same grey."""
    made = dreamer(**changed).model
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_with_every_frame_seen_it_is_what_the_model_makes_of_the_sequence(kind: dict[str, Any]) -> None:
    its, (x, a, task) = model(**kind), windows()
    is_first = torch.zeros(FRAMES, ROWS, dtype=torch.bool)
    is_first[0, 0] = True
    still = torch.zeros(FRAMES, ROWS, its.dynamics.latents.draws)
    features = its.dynamics.follow(its.embed(x), a, is_first, its.code(task), still).states.features
    expected = shown(its.decoder(features.flatten(0, 1))).reshape(x.shape)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(open_loop(its, x, a, task, FRAMES).numpy(), expected, atol=0.51)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_it_depends_on_what_was_seen_and_on_no_frame_after(kind: dict[str, Any]) -> None:
    its, (x, a, task) = model(**kind), windows()
    first = open_loop(its, x, a, task, SEEN)
    x[SEEN:] = torch.from_numpy(pictures(FRAMES - SEEN, ROWS, seed=9))
    assert torch.equal(open_loop(its, x, a, task, SEEN), first)
    x[SEEN - 1] = 255 - x[SEEN - 1]
    assert not torch.equal(open_loop(its, x, a, task, SEEN)[SEEN:], first[SEEN:])


def test_it_is_the_equations_written_out_row_by_row() -> None:
    its, (x, a, task) = model(), windows()
    dynamics: Any = its.dynamics
    given = open_loop(its, x, a, task, SEEN)
    for row in range(ROWS):
        h, z = torch.zeros(1, dynamics.size), torch.zeros(1, dynamics.latents.size)
        for t in range(FRAMES):
            entered = torch.nn.functional.elu(dynamics.enter(torch.cat([z, a[t, row][None]], -1)))
            h = dynamics.cell(entered, h)
            hidden, output, inputs = dynamics.prior_hidden, dynamics.prior_output, h
            if t < SEEN:
                e = its.encoder(x[t, row].permute(2, 0, 1)[None].float() / 255 - 0.5)
                hidden, output, inputs = dynamics.posterior_hidden, dynamics.posterior_output, torch.cat([h, e], -1)
            z = output(torch.nn.functional.elu(hidden(inputs)))[:, : dynamics.latents.size]  # the means
            picture = shown(its.decoder(torch.cat([h, z], -1)))[0]
            np.testing.assert_allclose(given[t, row].numpy(), picture, atol=0.51)


def test_models_that_follow_beside_it_change_nothing() -> None:
    specification = toy_specification("meta_model_transfer", settings={"reward_features": "source"})
    trainer = Trainer(specification, torch.device("cpu"), sources=toy_sources(specification))
    its: Any = trainer.method
    assert isinstance(its.model.dynamics, Accompanied)
    size = trainer.benchmark.action_size
    x, a, task = windows()
    given = open_loop(its.model, x, a[..., :1].expand(-1, -1, size), task, SEEN)
    its.model.dynamics = its.model.dynamics.own
    assert torch.equal(open_loop(its.model, x, a[..., :1].expand(-1, -1, size), task, SEEN), given)


def test_a_model_that_broke_is_shown_all_the_same() -> None:
    its, (x, a, task) = model(), windows()
    with torch.no_grad():
        its.reward[0].weight.fill_(float("nan"))
        next(its.dynamics.parameters()).fill_(float("nan"))
    assert open_loop(its, x, a, task, SEEN).shape == x.shape


def test_a_model_that_is_told_its_task_is_told_here_too() -> None:
    specification = toy_specification("multi_task_dreamer", settings={"sharing": "embedded"})
    method: Any = Trainer(specification, torch.device("cpu")).method
    its: WorldModel = method.minds[0].model
    with torch.no_grad():
        for parameter in its.parameters():
            parameter.mul_(3)
    x, a, _ = windows()
    first, second = (open_loop(its, x, a, torch.full((ROWS,), task), SEEN) for task in (0, 1))
    assert not torch.equal(first, second)
