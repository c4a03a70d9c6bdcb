"""The losses of several seeds at once on a GPU: `torch.vmap` over what an agent computes for one seed.

Any network can be stacked so, whatever it consists of: vmap turns each product into one batched product. What comes out
is equal up to rounding, and on a CPU no faster than one seed after the other; what is exact there is in `together.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtrepro.networks.tasks import BatchTasks

if TYPE_CHECKING:
    from mtrepro.soft_actor_critic.agent import Draw, SoftActorCritic

Loss = Callable[["Draw", BatchTasks, Tensor | None], Any]


def vectorise(agent: SoftActorCritic[Any]) -> None:
    """Let an agent whose parameters are stacked, (seeds, *shape), compute codes and losses of all seeds.

    Its update and its temperature loss are written for both; what goes through networks is mapped over the seeds.
    """
    places = _places(agent)
    codes, critic_loss, actor_loss = agent._update_codes, agent._critic_loss, agent._actor_loss
    vars(agent).update(_critic_loss=_of_all(critic_loss, places), _actor_loss=_of_all(actor_loss, places))
    if agent.task_encoder is not None:
        vars(agent).update(_update_codes=lambda: _over_seeds(codes, places))


Places = list[tuple[dict[str, Any], str]]  # where an agent looks its parameters up: a dictionary and a key in it


def _places(agent: SoftActorCritic[Any]) -> Places:
    """Every place once, of networks that others hold too."""
    modules = [module for network in (*agent._networks().values(), agent.judges) for module in network.modules()]
    own = {id(module): module._parameters for module in modules}.values()
    found: Places = [(held, name) for held in own for name, each in held.items() if each is not None]
    return [*found, (agent.__dict__, "log_alpha")]


def _of_all(function: Loss, places: Places) -> Loss:
    """The same loss for draws and codes of all seeds."""

    def of_all(draw: Draw, tasks: BatchTasks, codes: Tensor | None) -> Any:
        def of_one(batch: Any, next_noise: Tensor, noise: Tensor, *code: Tensor) -> Any:
            its = draw._replace(batch=batch, next_noise=next_noise, noise=noise)
            return function(its, BatchTasks(batch.task, tasks.count, tasks.longest), code[0] if code else None)

        given = (draw.batch, draw.next_noise, draw.noise)
        return _over_seeds(of_one, places, *given, *([] if codes is None else [codes]))

    return of_all


def _over_seeds(function: Callable[..., Any], places: Places, *given: Any) -> Any:
    """function(*given) for each seed by its own parameters, stacked."""

    def of_one(parameters: Sequence[Tensor], *its: Any) -> Any:
        with _put(parameters, places):
            return function(*its)

    return torch.vmap(of_one)([held[name] for held, name in places], *given)


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
