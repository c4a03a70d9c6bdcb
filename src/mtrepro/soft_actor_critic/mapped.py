"""The losses of several seeds at once on a GPU: `torch.vmap` over what an agent computes for one seed.

Any network whose seeds differ by their parameters alone can be stacked so: vmap turns each product into one batched
product. What comes out is equal up to rounding, and on a CPU no faster than one seed after the other; what is exact
there is in `together.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtrepro.networks.tasks import BatchTasks

if TYPE_CHECKING:
    from mtrepro.soft_actor_critic.agent import SoftActorCritic

Places = list[tuple[dict[str, Any], str]]  # where an agent looks its parameters up: a dictionary and a key in it


def over_seeds(agent: SoftActorCritic[Any], function: Callable[..., Any], *given: Any) -> Any:
    """function(*given) of an agent whose parameters are (seeds, *shape), for each seed by its own ones.

    Args:
        given: nothing, or a draw, its tasks, and the codes of all tasks or None, as a loss takes them; all of them and
            what comes out have the seeds in front.
    """
    places = _places(agent)

    def of_one(parameters: Sequence[Tensor], *its: Any) -> Any:
        with _put(parameters, places):
            if not given:
                return function()
            (draw, tasks, _), (batch, next_noise, noise, *codes) = given, its
            own = draw._replace(batch=batch, next_noise=next_noise, noise=noise)
            return function(own, BatchTasks(batch.task, tasks.count, tasks.longest), codes[0] if codes else None)

    stacked = [given[0].batch, given[0].next_noise, given[0].noise, given[2]] if given else []
    return torch.vmap(of_one)([held[name] for held, name in places], *(each for each in stacked if each is not None))


def _places(agent: SoftActorCritic[Any]) -> Places:
    """Every place once, of networks that others hold too."""
    modules = [module for network in (*agent._networks().values(), agent.judges) for module in network.modules()]
    own = {id(module): module._parameters for module in modules}.values()
    found: Places = [(held, name) for held in own for name, each in held.items() if each is not None]
    return [*found, (vars(agent), "log_alpha")]


@contextlib.contextmanager
def _put(parameters: Sequence[Tensor], places: Places) -> Iterator[None]:
    """Have the agent find these in the places of its own."""
    before = [held[name] for held, name in places]
    for (held, name), parameter in zip(places, parameters, strict=True):
        held[name] = parameter
    try:
        yield
    finally:
        for (held, name), parameter in zip(places, before, strict=True):
            held[name] = parameter
