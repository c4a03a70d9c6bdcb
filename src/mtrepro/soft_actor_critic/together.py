"""The agents of several seeds that learn at once: each stays whole by itself, only the update is one for all.

Each agent's parameters become views into stacked ones, (seeds, *shape). `stack` is an agent whose networks hold these,
so there is one text of the update. Random streams, replay, moments, meters and checkpoints remain each agent's own.

On the CPU what `agent.py` writes of (batch, ...) is computed of (seeds, batch, ...), by layers that take both and in
the bits of each seed alone. On a GPU, where no bits are promised, it is mapped over the seeds (`mapped.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtrepro.engine.compilation import Compiled
from mtrepro.engine.execution import ALONE, Executions
from mtrepro.engine.replay import Batch
from mtrepro.networks.mapping import made, other_buffers, tried
from mtrepro.networks.stacked import ALIGNMENT, Layers
from mtrepro.networks.stacked_adam import StackedAdam, share

if TYPE_CHECKING:
    from mtrepro.networks.actor_critic import Critics
    from mtrepro.soft_actor_critic.agent import Draw, SoftActorCritic


SMALL_UPDATE = 1 << 22  # multiplications in a pass through one critic: up to here the overhead of calls counts
_PARALLEL = 1 << 15  # numbers from which torch shares an operation among threads: sums get another order


def learn_together(agents: Sequence[SoftActorCritic[Any]], stackable: bool) -> Together | None:
    """The updates of these agents at once, or None: on the CPU where they would not be exact or gain nothing."""
    if agents[0].device.type != "cpu":
        return learn_mapped(agents)
    return Together(agents) if stackable and worth_stacking(agents) else None


def learn_mapped(agents: Sequence[SoftActorCritic[Any]]) -> Together | None:
    """The updates of these agents mapped over them, or None where that fails; then it is said why."""
    return made(lambda: Together(agents, mapped=True), [agent.execution for agent in agents])


def worth_stacking(agents: Sequence[SoftActorCritic[Any]]) -> bool:
    """Whether the update of these agents at once is exact and no slower than one after the other, on the CPU.

    Large products leave nothing to gain, and activations of all seeds no longer fit into its caches. Exact are batches
    whose rows begin where an allocation may begin, and so few seeds that no thread helps with sums and functions of
    their actions.
    """
    agent = agents[0]
    if agent.precision.name != "fp32":
        return False
    rows: int = agent.settings.batch
    numbers = sum(each.numel() for each in agent.critics.bodies[0].parameters())
    shared = len(agents) * rows * max(2, agent.problem.action_size)
    return rows % ALIGNMENT == 0 and shared < _PARALLEL and rows * numbers <= SMALL_UPDATE


class Together:
    """One update of every agent at once; the agents have the same settings.

    Args:
        mapped: map what an agent computes over the seeds, instead of having its layers compute all seeds.
    """

    def __init__(self, agents: Sequence[SoftActorCritic[Any]], mapped: bool = False) -> None:
        self.agents = list(agents)
        for agent in self.agents:
            agent._computed.forget()  # its recordings are of where its parameters were
        first = self.agents[0]
        own = (first.replay, first.noise, first.random_actions, first.meters, first.problem, first.settings)
        not_used = (first._computed, first.execution)  # there is one of all; these lead to open files
        self.stack = copy.deepcopy(first, {id(each): each for each in (*own, *not_used)})
        stacked = {
            name: StackedAdam(optimiser.parameters, [agent.optimisers[name] for agent in self.agents])
            for name, optimiser in self.stack.optimisers.items()
        }
        moved = {id(each) for optimiser in stacked.values() for each in optimiser.parameters}
        everything = zip(_parameters(self.stack), *map(_parameters, self.agents), strict=True)
        share([each for each in everything if id(each[0]) not in moved])  # the targets, and what nothing moves
        self.stack.optimisers = {**stacked}
        self.stack.judges = _judges(self.stack.critics, first.problem.action_size)
        self.stack.mapped = mapped
        seeds = ", ".join(str(agent.seed) for agent in self.agents)
        self._company = f"mapped with seeds {seeds}" if mapped else ALONE  # whose bits each has
        self._execution = Executions([agent.execution for agent in self.agents])
        self._computed = Compiled(self.stack._update, self.stack._moved, self._execution)
        self._room, self._rooms = _rooms(self.agents)

    def why_not(self) -> str | None:
        """Why these agents cannot learn at once; an update is tried, and what it changed is put back."""
        for network, its in self.stack._networks().items():
            if other_buffers(its, [agent._networks()[network] for agent in self.agents]):
                return f"{network} has a buffer that is not the same for every seed"
        batch, rows, tasks = self._room.batch, self.stack.settings.batch, self.stack.problem.tasks
        for each in (*batch, self._room.next_noise, self._room.noise):
            each.zero_()
        batch.task.copy_(torch.arange(rows, device=batch.task.device) % tasks)
        draw = self._room._replace(longest=-(-rows // tasks))
        return tried(lambda: self.stack._update(draw), self.stack._moved())

    def learn(self) -> None:
        """One update of each, taken off what it owes."""
        self._execution.agree()
        counted = [agent._draw(room).longest for agent, room in zip(self.agents, self._rooms, strict=True)]
        longest = max((each for each in counted if each is not None), default=None)
        reported = self._computed(self._room._replace(longest=longest))
        names, rows = tuple(reported), torch.stack([each.detach() for each in reported.values()], -1).double()
        for agent, row in zip(self.agents, rows.unbind(), strict=True):
            agent.execution.note_company(self._company)
            agent.meters.add_row(names, row)
            agent.owed -= 1


def _rooms(agents: Sequence[SoftActorCritic[Any]]) -> tuple[Draw, list[Draw]]:
    """Room for a draw of every agent, (seeds, batch, ...), and each agent's part of it."""
    from mtrepro.soft_actor_critic.agent import Draw

    first, rows = agents[0], agents[0].settings.batch
    batch = first.replay.room(len(agents), rows)
    next_noise, noise = torch.empty((2, len(agents), rows, first.problem.action_size), device=first.device)
    parts = [Batch._make(columns) for columns in zip(*(column.unbind() for column in batch), strict=True)]
    return Draw(batch, next_noise, noise), [Draw(*each) for each in zip(parts, next_noise, noise, strict=True)]


def _judges(critics: Critics, actions: int) -> Critics:
    """The same critics over the same memory; gradients flow to actions alone, so that no other is computed."""
    theirs = copy.deepcopy(critics)
    for mine, parameter in zip(theirs.parameters(), critics.parameters(), strict=True):
        mine.data = parameter.data
    for body in theirs.bodies:
        for network in body.children():
            if isinstance(network, Layers):
                network.live = actions  # behind what is seen
    return theirs.requires_grad_(False)


def _parameters(agent: SoftActorCritic[Any]) -> list[Tensor]:
    """Every parameter once, in the same order for each agent."""
    found = {id(each): each for network in agent._networks().values() for each in network.parameters()}
    return [*found.values(), agent.log_alpha]
