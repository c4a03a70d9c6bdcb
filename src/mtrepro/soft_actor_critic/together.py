"""The agents of several seeds that learn at once: each stays whole by itself, only the update is one for all.

Each agent's parameters become views into stacked ones, (seeds, *shape). `stack` is an agent whose networks hold these:
what `agent.py` writes of (batch, ...) holds of (seeds, batch, ...), so there is one text of the update. Random streams,
replay, moments, meters and checkpoints remain each agent's own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mtrepro.engine.adam import Adam
from mtrepro.engine.replay import Batch
from mtrepro.networks.stacked import ALIGNMENT, aligned

if TYPE_CHECKING:
    from mtrepro.soft_actor_critic.agent import Draw, SoftActorCritic


SMALL_UPDATE = 1 << 24  # multiplications a seed in one pass through a critic: up to here the overhead of calls counts
_PARALLEL = 1 << 15  # numbers from which torch shares a sum among threads, in another order


def worth_stacking(agent: SoftActorCritic[Any]) -> bool:
    """Whether the update of several such agents at once is exact and no slower than one after the other.

    On the CPU large products leave nothing to gain, and activations of all seeds no longer fit into its caches. Exact
    are batches whose rows begin where an allocation may begin, and small enough for sums in one thread.
    """
    if agent.device.type != "cpu":
        return True
    rows: int = agent.settings.batch
    numbers = sum(each.numel() for each in agent.critics.bodies[0].parameters())
    return rows % ALIGNMENT == 0 and 2 * rows < _PARALLEL and rows * numbers <= SMALL_UPDATE


class Together:
    """One update of every agent at once; the agents have the same settings."""

    def __init__(self, agents: Sequence[SoftActorCritic[Any]]) -> None:
        self.agents = list(agents)
        first = self.agents[0]
        own = (first.replay, first.noise, first.random_actions, first.meters, first.problem, first.settings)
        self.stack = copy.deepcopy(first, {id(each): each for each in own})
        for stacked, *each in zip(_parameters(self.stack), *map(_parameters, self.agents), strict=True):
            _share(stacked, each)
        self.stack.optimisers = {
            name: _Joined(optimiser.parameters, [agent.optimisers[name] for agent in self.agents])
            for name, optimiser in self.stack.optimisers.items()
        }

    def learn(self) -> None:
        """One update of each, taken off what it owes."""
        draws = [agent._draw() for agent in self.agents]
        reported = self.stack._update(_stacked(draws))
        for agent, *values in zip(self.agents, *(each.unbind() for each in reported.values()), strict=True):
            agent.meters.add(**dict(zip(reported, values, strict=True)))
            agent.owed -= 1


def _stacked(draws: Sequence[Draw]) -> Draw:
    """(batch, ...) of every seed -> (seeds, batch, ...)."""
    batches, *noises = zip(*draws, strict=True)
    batch = Batch(*(torch.stack(columns) for columns in zip(*batches, strict=True)))
    return type(draws[0])(batch, *(torch.stack(noise) for noise in noises))


def _parameters(agent: SoftActorCritic[Any]) -> list[nn.Parameter]:
    """Every parameter once, in the same order for each agent."""
    found = {id(each): each for network in agent._networks().values() for each in network.parameters()}
    return [*found.values(), agent.log_alpha]


def _share(stacked: nn.Parameter, each: Sequence[nn.Parameter]) -> None:
    """Let the parameters of single agents be what `stacked` consists of."""
    room = aligned(len(each), each[0].shape, each[0])
    for seed, parameter in enumerate(each):
        room[seed].copy_(parameter.detach())
        parameter.data = room[seed]
    stacked.data = room


class _Joined(Adam):
    """Finds the gradients of stacked parameters, and moves each agent's own by the agent's own moments."""

    def __init__(self, stacked: list[nn.Parameter], those: Sequence[Adam]) -> None:
        first = those[0]
        super().__init__([], first.rate, first.beta1, first.beta2, first.epsilon)
        self.parameters = stacked
        self.all = Adam([], first.rate, first.beta1, first.beta2, first.epsilon)
        for name in ("parameters", "first", "second", "steps"):  # of the first parameter all seeds', then of the next
            setattr(self.all, name, [*itertools.chain(*zip(*(getattr(its, name) for its in those), strict=True))])
        self.seeds = len(those)

    @torch.no_grad()
    def descend(self, gradients: Iterable[Tensor | None]) -> None:
        none = [None] * self.seeds
        self.all.descend([one for each in gradients for one in (none if each is None else each.unbind())])
