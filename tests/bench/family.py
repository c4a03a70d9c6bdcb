"""Milliseconds of one update of every method of the soft actor-critic family, beside plain MT-SAC's in the same run."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mtrepro.benchmarks.metaworld_tasks import MT10
from mtrepro.networks.actor_critic import Seen
from mtrepro.networks.projected_layers import ProjectedLayers
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios, seconds
from tests.bench.update import make_method

_FILLED = 200_000  # transitions drawn from
ORIGINAL = {"variant": "original", "feature_size": 400, "encoder_depth": 1, "temperature_weights": True}
MT_SAC, ONE = "MT-SAC", "one SAC, one task, batch 128"
ARMS: dict[str, tuple[str, dict[str, object]]] = {
    MT_SAC: ("mt_sac", {}),
    "multi-head": ("multi_head", {}),
    "soft modularization, 400": ("soft_modularization", {}),
    "soft modularization, 326 (as PTSL ran it)": ("soft_modularization", {"width": 326}),
    "soft modularization, original deep": (
        "soft_modularization",
        {**ORIGINAL, "modules": 4, "module_layers": 4, "width": 128},
    ),
    "CARE": ("care", {}),
    "CARE, attention by context": ("care", {"attention": "context"}),
    "CARE-PTSL": ("care_ptsl", {}),
    "PTSL without CARE": ("ptsl", {}),
    "ten single-task SAC": ("single_task", {}),
}
GATHERED = "CARE-PTSL, a matrix gathered for every row"


def measure(effort: Effort) -> Topic:
    """Updates with one and with two threads, all methods in turn."""
    filled = min(effort.transitions, _FILLED)
    methods = {name: make_method(method, filled, **changed) for name, (method, changed) in ARMS.items()}
    methods[GATHERED] = gathered(make_method("care_ptsl", filled))
    methods[ONE] = make_method("mt_sac", filled // len(MT10), MT10[:1], batch=128, task_input="none")

    def timed(name: str, threads: int) -> float:
        torch.set_num_threads(threads)
        methods[name].learn()  # a change of threads is paid for here
        return 1000 * seconds(methods[name].learn, effort.updates, effort.limit)

    both = [(name, threads) for threads in range(1, effort.threads + 1) for name in methods]
    found = in_turn(effort.repeats, {f"{name}/{threads}": partial(timed, name, threads) for name, threads in both})
    rows = []
    for name, threads in both:
        values = found[f"{name}/{threads}"]
        beside = {"x MT-SAC": ratios(values, found[f"{MT_SAC}/{threads}"])}
        if name == "ten single-task SAC":
            beside["x ten times one"] = ratios(values, found[f"{ONE}/{threads}"], 0.1)
        rows.append(Row(name, "peer" if name == GATHERED else "ours", "ms", values, threads, 1, beside))
    notes = (
        "One `learn` on MT10, 39 numbers observed, batch 1280 of all tasks together, the default settings, fp32.",
        "x MT-SAC and x ten times one: repeat by repeat, in this run.",
        f"{GATHERED}: the same network and numbers, with the tasks' matrices gathered row by row as the authors' code "
        "does; that code itself is no part of this run.",
    )
    return Topic("One update of every method of the SAC family on the CPU", notes, tuple(rows))


def gathered(method: SoftActorCritic) -> SoftActorCritic:
    """The method with its task-specific products done row by row."""
    for network in (method.actor, method.critics, method.targets):
        for module in network.modules():
            if isinstance(module, ProjectedLayers):
                module.__class__ = GatheredLayers
    return method


class GatheredLayers(ProjectedLayers):
    """Projected layers, shared projection and no residual, with W_t gathered for every row: (batch, p, p)."""

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        task, x = seen.tasks.index, inputs
        for layer, (shared, weight, bias) in enumerate(zip(self.shared, self.weight, self.bias, strict=True)):
            d = x @ self.down[min(layer, 1)]
            y = torch.baddbmm(bias[task], d.unsqueeze(1), weight[task]).squeeze(1)
            if layer == len(self.shared) - 1:
                break
            x = torch.relu(shared(x) + y @ self.up[0])
        return _last(shared, x) + y


def _last(shared: nn.Module, x: Tensor) -> Tensor:
    output: Tensor = shared(x)
    return output
