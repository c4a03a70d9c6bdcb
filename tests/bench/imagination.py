"""Milliseconds to imagine with the Transformer state-space model: keys and values kept, or the window run again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch

from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file
from mtrepro.world_model.imagination import Imagined, draw_noise, imagine
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.policies import Actor
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.transformer import TransformerModel
from tests.bench.dreamer import SMALL
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds
from tests.unit.transformer_fixture import imagine_without_cache

ACTIONS, HORIZON = 8, 15
SEQUENCES, FRAMES = 4, 16
KEPT, AGAIN = "keys and values kept", "the whole window again at each step"
PARTS = ("imagined", "imagined and the actor's gradient")


def measure(effort: Effort) -> Topic:
    """Both ways, with one and with two threads."""
    ways = {f"{part}: {way}": make(way == KEPT, part == PARTS[1]) for part in PARTS for way in (KEPT, AGAIN)}

    def timed(name: str, threads: int) -> float:
        torch.set_num_threads(threads)
        ways[name]()  # a change of threads is paid for here
        return 1000 * seconds(ways[name], max(1, effort.updates // 4), effort.limit)

    both = [(name, threads) for threads in range(1, effort.threads + 1) for name in ways]
    found = in_turn(effort.repeats, {f"{name}/{threads}": partial(timed, name, threads) for name, threads in both})
    rows = []
    for name, threads in both:
        values, kept = found[f"{name}/{threads}"], found[f"{name.partition(':')[0]}: {KEPT}/{threads}"]
        role = "ours" if name.endswith(KEPT) else "peer"
        rows.append(Row(name, role, "ms", values, threads, 1, {"x kept": ratios(values, kept)}))
    notes = (
        f"{HORIZON} steps from each of the {SEQUENCES} x {FRAMES} frames of a batch; two layers of 128 units. Kept: "
        "one pass over the sequences, then one token a step; frames of one sequence have its keys in common.",
        "Again: as the published code imagines, one pass over the growing window for each step; starts at one frame "
        "together, so that nothing is padded.",
    )
    return Topic("Imagination with the Transformer state-space model on the CPU", notes, tuple(rows))


def make(kept: bool, with_gradient: bool) -> Callable[[], object]:
    """What is measured."""
    name = "multi_task_dreamer"
    given = read_method_file(name).settings | {**SMALL, "state_space": "transformer", "length": FRAMES}
    settings = cast(DreamerSettings, resolve_settings(name, given, f"config/methods/{name}.yaml: settings"))
    model = TransformerModel(settings, embedding=1024, actions=ACTIONS)
    actor = Actor(settings, model.features, ACTIONS)
    generator = torch.Generator().manual_seed(0)
    initialise(model, generator)
    initialise(actor, generator)
    e, a = (torch.randn(FRAMES, SEQUENCES, size, generator=generator) for size in (1024, ACTIONS))
    is_first = torch.zeros(FRAMES, SEQUENCES, dtype=torch.bool)
    drawn = model.latents.noise(FRAMES, SEQUENCES, generator=generator)
    states = model.follow(e, a, is_first, e.new_zeros(SEQUENCES, 0), drawn).states
    noise = draw_noise(model, HORIZON, SEQUENCES * FRAMES, ACTIONS, generator)
    mask = torch.ones(ACTIONS)

    def imagined() -> Imagined:
        if kept:
            return imagine(model, actor, model.starts(states), mask, noise)
        return imagine_without_cache(model, actor, states, mask, noise)

    def climbed() -> object:
        return torch.autograd.grad(imagined().features.sum(), list(actor.parameters()))

    return climbed if with_gradient else imagined
