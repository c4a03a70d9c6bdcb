"""What tests of the soft actor-critic family share: small agents, moved parameters, uneven batches, full replays."""

from __future__ import annotations

import functools
from typing import Any, cast

import numpy as np
import torch

from mtrepro.engine.replay import Transitions
from mtrepro.methods import Problem
from mtrepro.methods._loading import make_method
from mtrepro.networks.actor_critic import Seen
from mtrepro.networks.tasks import BatchTasks
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.specification import resolve_settings
from mtrepro.study import read_method_file

read_once = functools.lru_cache(read_method_file)
CPU = torch.device("cpu")
OBSERVATION, ACTIONS, TASKS = 5, 2, 4
TINY: dict[str, Any] = {
    "width": 8,
    "depth": 2,
    "code_size": 6,
    "feature_size": 6,
    "projection_size": 3,
    "gating_width": 7,
    "batch": 24,
    "replay_transitions": 400,
    "random_steps": 5,
    "first_updates": 5,
    "task_embedding": "learned",
}


def problem(tasks: int | tuple[str, ...] = TASKS, observation: int = OBSERVATION, actions: int = ACTIONS) -> Problem:
    """A problem of toy tasks, or of tasks with these names."""
    names = tuple(f"toy-{index}" for index in range(tasks)) if isinstance(tasks, int) else tasks
    mask = np.ones((len(names), actions), np.bool_)
    return Problem(names, (observation,), np.dtype(np.float32), actions, mask, 150)


def agent(method: str, given: Problem | None = None, seed: int = 0, **changed: Any) -> SoftActorCritic:
    """An agent with its method file's defaults and `changed` settings, on a small problem unless one is given."""
    where = f"config/methods/{method}.yaml: settings"
    settings = resolve_settings(method, read_once(method).settings | changed, where).model_dump(mode="json")
    return cast(SoftActorCritic, make_method(method, settings, given or problem(), seed, CPU))


def tiny(method: str, given: Problem | None = None, seed: int = 0, **changed: Any) -> SoftActorCritic:
    """The same with networks of a few units."""
    known = {key: value for key, value in TINY.items() if key in read_once(method).settings}
    return agent(method, given, seed, **(known | changed))


def named(its: SoftActorCritic) -> dict[str, torch.Tensor]:
    """Every number that an update may move, by its name; what actor and critics share has two names."""
    found: dict[str, torch.Tensor] = {"log_alpha": its.log_alpha}
    for prefix, network in (("actor", its.actor), ("critics", its.critics), ("task_encoder", its.task_encoder)):
        if network is not None:
            found |= {f"{prefix}.{name}": value for name, value in network.named_parameters()}
    return found


def copies(its: SoftActorCritic) -> dict[str, torch.Tensor]:
    """`named` as it stands now."""
    return {name: value.detach().clone() for name, value in named(its).items()}


@torch.no_grad()
def perturb(its: SoftActorCritic, seed: int = 11, scale: float = 0.6) -> None:
    """Move every parameter, so that what begins at zero counts too."""
    generator = torch.Generator().manual_seed(seed)
    for value in {id(value): value for value in named(its).values()}.values():
        value.add_(scale * torch.randn(value.shape, generator=generator))
    its.targets.load_state_dict(its.critics.state_dict())


def fill(its: SoftActorCritic, steps: int = 40, seed: int = 1) -> None:
    """Vector steps of random transitions."""
    stream, tasks, actions = np.random.default_rng(seed), its.problem.tasks, its.problem.action_size
    for _ in range(steps):
        observation, following = stream.normal(size=(2, tasks, its.problem.observation_size)).astype(np.float32)
        action = stream.uniform(-1, 1, (tasks, actions)).astype(np.float32)
        ends, reward = stream.random((tasks,)) < 0.3, stream.normal(size=(tasks,)).astype(np.float32)
        its.observe(Transitions(observation, action, reward, following, ends, np.zeros_like(ends)))


def uneven(its: SoftActorCritic, rows: tuple[int, ...] = (5, 0, 1, 3), seed: int = 2) -> tuple[Seen, torch.Tensor]:
    """What the networks see of a batch with so many rows of each task, in random order, and actions."""
    stream = np.random.default_rng(seed)
    task = torch.from_numpy(stream.permutation(np.repeat(np.arange(len(rows)), rows)))
    observation = stream.normal(size=(len(task), its.problem.observation_size)).astype(np.float32)
    action = stream.uniform(-1, 1, (len(task), its.problem.action_size)).astype(np.float32)
    codes = None if its.task_encoder is None else its.task_encoder()
    kind = torch.get_default_dtype()
    see = Seen(torch.from_numpy(observation).to(kind), BatchTasks(task, len(rows)), codes)
    return see, torch.from_numpy(action).to(kind)
