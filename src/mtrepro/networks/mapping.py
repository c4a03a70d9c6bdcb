"""What an agent computes for one seed, mapped over several on a GPU: `torch.vmap`, each by its own parameters.

Any networks whose seeds differ by their parameters alone can be stacked so: vmap turns each product into one batched
product. What comes out is equal up to rounding, and on a CPU no faster than one seed after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mtrepro.engine.execution import Execution

Places = list[tuple[dict[str, Any], str]]  # where parameters are looked up: a dictionary and a key in it


def over_seeds(places: Places, function: Callable[..., Any], *given: Any) -> Any:
    """function(*given) of networks whose parameters are (seeds, *shape), for each seed by its own ones.

    Args:
        given: nested tuples of tensors with the seeds in front, which what comes out has, too.
    """

    def of_one(parameters: Sequence[Tensor], its: tuple[Any, ...]) -> Any:
        with _put(parameters, places):
            return function(*its)

    return torch.vmap(of_one)([held[name] for held, name in places], given)


def places_of(networks: Iterable[nn.Module]) -> Places:
    """Every place once, of networks that others hold too."""
    own = {id(module): module._parameters for network in networks for module in network.modules()}.values()
    return [(held, name) for held in own for name, each in held.items() if each is not None]


def other_buffers(network: nn.Module, those: Sequence[nn.Module]) -> bool:
    """Whether any buffer of the networks that are stacked is not that of the stack: it is not mapped over."""
    mine = list(network.buffers())
    return any(not torch.equal(*pair) for its in those for pair in zip(its.buffers(), mine, strict=True))


def tried(update: Callable[[], object], state: Sequence[Tensor]) -> str | None:
    """Why an update is impossible, in torch's words; what it changed is put back."""
    before = [each.clone() for each in state]
    try:
        update()
    except (RuntimeError, ValueError) as error:  # torch's own: what cannot be mapped, no memory left
        return str(error).partition("\n")[0]
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(state), before)
    return None


class Together(Protocol):
    """The agents of several seeds that learn at once."""

    def why_not(self) -> str | None:
        """Why they cannot."""
        ...


T = TypeVar("T", bound=Together)


def made(make: Callable[[], T], executions: Sequence[Execution]) -> T | None:
    """What `make` gives, or None where agents cannot learn at once; then each run is told why."""
    try:
        together = make()
        reason = together.why_not()
    except RuntimeError as error:  # no memory for the stack
        reason = str(error).partition("\n")[0]
    if reason is None:
        return together
    for execution in executions:
        if execution.say:
            execution.say(f"seeds are updated one after the other: {reason}")
    return None


@contextlib.contextmanager
def _put(parameters: Sequence[Tensor], places: Places) -> Iterator[None]:
    """Have the networks find these in the places of their own."""
    before = [held[name] for held, name in places]
    for (held, name), parameter in zip(places, parameters, strict=True):
        held[name] = parameter
    try:
        yield
    finally:
        for (held, name), parameter in zip(places, before, strict=True):
            held[name] = parameter
