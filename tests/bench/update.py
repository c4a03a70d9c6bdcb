"""Milliseconds of one update of MT-SAC, beside the rate of the matrix product that it mostly consists of."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from mtrepro.benchmarks.metaworld_tasks import MT10
from mtrepro.engine.execution import Execution
from mtrepro.methods import Problem
from mtrepro.methods._loading import load_method
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds

OBSERVATION, ACTIONS = 39, 4
SMALL = {"width": 64, "depth": 2, "batch": 192}  # the demo's
FULL_SIZE, DEMO_SIZE = "400 x 3, batch 1280", "64 x 2, batch 192"
BF16 = f"{FULL_SIZE}, bf16"
CPU = torch.device("cpu")
_FILLED = 200_000  # transitions drawn from: far more than the processor's cache holds
_ROWS, _WIDTH = 1280, 400  # of the matrix product


def measure(effort: Effort) -> Topic:
    """Updates with one and with two threads."""
    filled = min(effort.transitions, _FILLED)
    methods = {
        FULL_SIZE: make_method("mt_sac", filled),
        BF16: make_method("mt_sac", filled, execution=Execution("bf16")),
        DEMO_SIZE: make_method("mt_sac", filled, **SMALL),
    }
    times = {FULL_SIZE: effort.updates, BF16: effort.updates, DEMO_SIZE: effort.small_updates}
    left, right = torch.rand(_ROWS, _WIDTH), torch.rand(_WIDTH, _WIDTH)
    product = torch.empty(_ROWS, _WIDTH)
    calls: dict[str, Any] = {name: (method.learn, times[name]) for name, method in methods.items()}
    calls["GEMM"] = (lambda: torch.mm(left, right, out=product), effort.products)

    def timed(name: str, threads: int) -> float:
        torch.set_num_threads(threads)
        call, count = calls[name]
        call()  # a change of threads is paid for here
        return 1000 * seconds(call, count, effort.limit)

    both = [(name, threads) for threads in range(1, effort.threads + 1) for name in calls]
    found = in_turn(effort.repeats, {f"{name}/{threads}": partial(timed, name, threads) for name, threads in both})
    flops = {name: flops_of_update(method) for name, method in methods.items()}
    flops["GEMM"] = 2 * _ROWS * _WIDTH * _WIDTH
    rows = []
    for name, threads in both:
        values, limit = found[f"{name}/{threads}"], found[f"GEMM/{threads}"]
        share = ratios([flops[name] / value for value in values], [flops["GEMM"] / value for value in limit], 100)
        beside = {"GFLOP": [flops[name] / 1e9], "GFLOP/s": [flops[name] / value / 1e6 for value in values]}
        if name == "GEMM":
            rows.append(Row(f"matrix product {_ROWS} x {_WIDTH} x {_WIDTH}", "limit", "ms", values, threads, 1, beside))
        else:
            beside["% of product"] = share
            if name == BF16:
                beside["x fp32"] = ratios(values, found[f"{FULL_SIZE}/{threads}"])
            rows.append(Row(f"update, {name}", "ours", "ms", values, threads, 1, beside))
    notes = (
        f"One `learn`: draw, both critics, actor, temperatures, targets; {len(MT10)} tasks, {OBSERVATION} numbers "
        "and the task's one-hot; fp32, or bf16 products (`learner.precision`).",
        "GFLOP: multiplications and additions of the matrix products alone, counted from the layers' sizes.",
        "% of product: of the fp32 product's rate, also in bf16. x fp32: repeat by repeat, in this run.",
    )
    return Topic("One update of MT-SAC on the CPU", notes, tuple(rows))


def make_method(
    name: str,
    transitions: int,
    tasks: tuple[str, ...] = MT10,
    device: torch.device = CPU,
    execution: Execution | None = None,
    seed: int = 0,
    **changed: Any,
) -> SoftActorCritic:
    """A method with its default settings and a replay full of random transitions."""
    given = read_method_file(name).settings | {"replay_transitions": transitions} | changed
    settings = resolve_settings(name, given, f"config/methods/{name}.yaml: settings")
    mask = np.ones((len(tasks), ACTIONS), np.bool_)
    problem = Problem(tasks, (OBSERVATION,), np.dtype(np.float32), ACTIONS, mask, 500, execution=execution)
    method = load_method(name)(settings, problem, seed, device)
    assert isinstance(method, SoftActorCritic)
    generator = np.random.default_rng(seed)
    for name in ("observation", "next_observation", "action", "reward"):
        column = getattr(method.replay, name)
        values = generator.random(column.shape, dtype=np.float32)
        column[...] = values if isinstance(column, np.ndarray) else torch.from_numpy(values)
    method.replay.added = method.replay.steps
    return method


def flops_of_update(method: SoftActorCritic) -> int:
    """Multiplications and additions of the matrix products in one `learn` of MT-SAC.

    Forward, weights' gradients and inputs' gradients cost a product of the same size each. The first layers' inputs
    need no gradient, save where the actor's gradient passes through the critics; their own weights need none there.
    """
    batch = method.settings.batch
    actor, first_of_actor = _products(method.actor)
    critic, first_of_critic = _products(method.critics.bodies[0])
    target = actor + 2 * critic
    critics = 2 * (critic + critic + critic - first_of_critic)
    policy = (actor + actor + actor - first_of_actor) + 2 * (critic + critic)
    return 2 * batch * (target + critics + policy)


def _products(network: torch.nn.Module) -> tuple[int, int]:
    """Multiplications a row: of all linear layers, and of the first."""
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    sizes = [layer.in_features * layer.out_features for layer in layers]
    return sum(sizes), sizes[0]
