"""The Dreamers of several seeds that learn at once on a GPU: each stays whole, only the update is one for all.

Each agent's parameters become views into stacked ones, (seeds, *shape). `stack` is an agent whose minds hold these, and
what it computes for one seed is mapped over all (networks/mapping.py). Random streams, replay, moments, meters and
checkpoints remain each agent's own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtrepro.engine import streams
from mtrepro.engine.compilation import Compiled, tensors_of
from mtrepro.engine.execution import Executions
from mtrepro.networks.mapping import made, other_buffers, tried
from mtrepro.networks.stacked_adam import StackedAdam, share
from mtrepro.world_model.layers import Gru

if TYPE_CHECKING:
    from mtrepro.world_model.agent import DreamerAgent


def learn_mapped(agents: Sequence[DreamerAgent[Any]]) -> Together | None:
    """The updates of these agents mapped over them, or None where that fails; then it is said why."""
    return made(lambda: Together(agents), [agent.execution for agent in agents])


class Together:
    """One update of every agent at once; the agents have the same settings."""

    def __init__(self, agents: Sequence[DreamerAgent[Any]]) -> None:
        self.agents = list(agents)
        for agent in self.agents:
            agent._computed.forget()  # its recordings are of where its parameters were
        first = self.agents[0]
        own = (first.replay, first.noise, first.acting_noise, first.random_actions, first.meters, first.problem)
        not_copied = (*own, first.settings, first.remembered, first._computed, first.execution)
        self.stack = copy.deepcopy(first, {id(each): each for each in not_copied})
        stacked = {
            name: StackedAdam(optimiser.parameters, [agent.optimisers[name] for agent in self.agents])
            for name, optimiser in self.stack.optimisers.items()
            if optimiser.parameters
        }
        moved = {id(each) for optimiser in stacked.values() for each in optimiser.parameters}
        everything = list(zip(_parameters(self.stack), *map(_parameters, self.agents), strict=True))
        if others := [each for each in everything if id(each[0]) not in moved]:
            share(others)  # slow critics, and what is frozen
        self.stack.optimisers = {**self.stack.optimisers, **stacked}
        self.stack.mapped = True
        for module in (module for mind in self.stack.minds for module in mind.modules()):
            if isinstance(module, Gru):
                module.mapped = True
        seeds = ", ".join(str(agent.seed) for agent in self.agents)
        self._company = f"mapped with seeds {seeds}"
        self._execution = Executions([agent.execution for agent in self.agents])
        stack = self.stack  # not this object: what held itself would keep its memory beside the next group's
        self._computed = Compiled(stack._update, lambda: _moved(stack), self._execution)

    def why_not(self) -> str | None:
        """Why these agents cannot learn at once; an update is tried, and what it changed is put back."""
        for index, mind in enumerate(self.stack.minds):
            if other_buffers(mind, [agent.minds[index] for agent in self.agents]):
                return f"mind {index} has a buffer that is not the same for every seed"
        first = self.agents[0]
        before = first.noise.get_state(), streams.generator_state(first.replay.generator)
        try:
            return tried(lambda: self.stack._update(_stacked([first._draws()] * len(self.agents))), _moved(self.stack))
        finally:
            first.noise.set_state(before[0])
            streams.load_generator_state(first.replay.generator, before[1])

    def learn(self) -> None:
        """One update of each, taken off what it owes."""
        self._execution.agree()
        reported = self._computed(_stacked([agent._draws() for agent in self.agents]))
        names, rows = tuple(reported), torch.stack([each.detach() for each in reported.values()], -1).double()
        for agent, row in zip(self.agents, rows.unbind(), strict=True):
            agent.execution.note_company(self._company)
            agent.meters.add_row(names, row)
            agent.note_update()


def _moved(agent: DreamerAgent[Any]) -> list[Tensor]:
    return tensors_of(agent.minds, agent.optimisers)


def _parameters(agent: DreamerAgent[Any]) -> list[Tensor]:
    """Every parameter once, in the same order for each agent."""
    return list({id(each): each for mind in agent.minds for each in mind.parameters()}.values())


def _stacked(draws: Sequence[Any]) -> Any:
    """The same nested tuples, each tensor (seeds, *shape)."""
    if isinstance(draws[0], Tensor):
        return torch.stack(list(draws))
    items = [_stacked(each) for each in zip(*draws, strict=True)]
    return type(draws[0])(*items) if hasattr(draws[0], "_fields") else tuple(items)
