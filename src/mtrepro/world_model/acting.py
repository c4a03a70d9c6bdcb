"""What every Dreamer does whatever it learns: act from what it remembers, store frames, judge what it imagines, save.

A method gives the minds, says whose each task is, and learns: see agent.py for one step of model and behaviour.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.meters import Meters
from mtrepro.engine.replay import Transitions
from mtrepro.engine.sequence_replay import SequenceReplay, Sequences
from mtrepro.methods import Array, Problem
from mtrepro.world_model.behaviour import Judged
from mtrepro.world_model.descent import descend
from mtrepro.world_model.imagination import draw_noise, imagine
from mtrepro.world_model.minds import Mind, make_mind
from mtrepro.world_model.model import ModelLoss
from mtrepro.world_model.pictures import refuse_other_pictures
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import State


class Remembered(NamedTuple):
    """What acting goes on from; zeros where an episode begins."""

    state: State  # (tasks, ...)
    action: Tensor  # (tasks, actions): the one that was taken there

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything, in order."""
        return (*self.state.tensors, self.action)

    def rows(self, rows: Any) -> Remembered:
        """Some rows, by whatever picks rows of a tensor."""
        return Remembered(self.state.map(lambda each: each[rows]), self.action[rows])

    def put(self, rows: Any, other: Remembered) -> None:
        """Write some rows."""
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine[rows] = theirs

    def actions(self) -> NDArray[np.float32]:
        """The action of each row, for the environments."""
        chosen: NDArray[np.float32] = self.action.cpu().numpy()
        return chosen


S = TypeVar("S", bound=DreamerSettings)  # a method's own settings


class Acting(ABC, Generic[S]):
    """A Dreamer of one task or several; a method derives from it. See the protocol `Method`."""

    def __init__(self, settings: S, problem: Problem, seed: int, device: torch.device, name: str) -> None:
        refuse_other_pictures(problem.observation_shape, str(problem.observation_dtype), name)
        self.settings, self.problem, self.device = settings, problem, device
        self.minds = self.build(seed)
        for mind in self.minds:
            mind.to(device)
        self.optimisers = self.optimise()
        self.replay = SequenceReplay(
            settings.replay_frames, problem.tasks, problem.observation_shape, problem.observation_dtype,
            problem.action_size, streams.numpy_stream(seed, "replay"), device, problem.storage,
        )  # fmt: skip
        self.masks = torch.from_numpy(problem.action_mask.astype(np.float32)).to(device)  # (tasks, actions)
        self.random_actions = streams.numpy_stream(seed, "random actions")
        self.acting_noise = seeding.torch_stream(seed, "acting", device=device)
        self.noise = seeding.torch_stream(seed, "noise", device=device)
        self.meters = Meters(device)
        self.remembered = self._nothing(torch.arange(problem.tasks, device=device))
        self.owed = self.steps = self.updates = 0

    # What a method gives

    def build(self, seed: int) -> list[Mind]:
        """One mind for all tasks, or one for each, initialised."""
        return [make_mind(self.settings, self.problem, seed)]

    def optimise(self) -> dict[str, Adam]:
        """The optimisers by the names of their groups."""
        mind, settings = self.minds[0], self.settings
        return {
            "world_model": self.adam(mind.model.parameters(), settings.model_rate),
            "actor": self.adam(mind.behaviour.actor.parameters(), settings.actor_rate),
            "critic": self.adam(mind.behaviour.critic.parameters(), settings.critic_rate),
        }

    # Acting

    @torch.no_grad()
    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """a ~ pi(a | s), s ~ q(s | what was seen and done), with noise; uniform in the random phase.

        Without `explore` the modes of both, going on from `memory`.
        """
        tasks = torch.from_numpy(task).to(self.device)
        if not explore:
            return self.follow_episode(observation, task, {} if memory is None else memory, None)
        random = self.steps < self.settings.random_steps
        following = self._follow(observation, tasks, self.remembered.rows(tasks), self.acting_noise, random)
        self.remembered.put(tasks, following)
        return following.actions()

    @torch.no_grad()
    def follow_episode(
        self, observation: Array, task: Array, memory: dict[str, Any], chance: torch.Generator | None
    ) -> NDArray[np.float32]:
        """Actions of an episode outside of training, remembered in `memory`; explored as in training with `chance`."""
        tasks = torch.from_numpy(task).to(self.device)
        memory["remembered"] = self._follow(
            observation, tasks, memory.get("remembered") or self._nothing(tasks), chance
        )
        return cast(Remembered, memory["remembered"]).actions()

    def _follow(
        self,
        observation: Array,
        task: Tensor,
        remembered: Remembered,
        chance: torch.Generator | None,
        random: bool = False,
    ) -> Remembered:
        """One moment of every row: what was remembered, what is seen, what is done."""
        following, seen = self._nothing(task), torch.from_numpy(observation).to(self.device)
        for mind, rows in self._by_mind(task):
            following.put(rows, self._step(mind, remembered.rows(rows), seen[rows], task[rows], chance, random))
        return following

    def _step(
        self, mind: Mind, before: Remembered, seen: Tensor, task: Tensor, chance: torch.Generator | None, random: bool
    ) -> Remembered:
        """One moment of tasks that share a mind."""
        model = mind.model
        state, e = before.state._replace(c=model.code(task)), model.embed(seen)
        if chance is None:
            state = model.dynamics.see(state, before.action, e, None)
            return Remembered(state, self.masks[task] * mind.policy(state).mode())
        noise = model.dynamics.latents.noise(len(task), generator=chance)
        state = model.dynamics.see(state, before.action, e, noise)
        action = self._random(len(task)) if random else self._drawn(mind, state, chance)
        return Remembered(state, self.masks[task] * action)

    def _random(self, rows: int) -> Tensor:
        """Actions of the random phase, (rows, actions)."""
        uniform = self.random_actions.uniform(-1, 1, (rows, self.problem.action_size))
        return torch.from_numpy(uniform.astype(np.float32)).to(self.device)

    def _drawn(self, mind: Mind, state: State, chance: torch.Generator) -> Tensor:
        """Actions of the policy with the noise of exploration, (rows, actions)."""
        shape, policy = (len(state.h), self.problem.action_size), mind.policy(state)
        drawn = policy.action(policy.raw(torch.rand(shape, generator=chance, device=self.device)))
        more = torch.randn(shape, generator=chance, device=self.device)
        return (drawn + self.settings.exploration_noise * more).clamp(-1, 1)

    def observe(self, transitions: Transitions) -> None:
        """Store one vector step; forget what was remembered where an episode ended."""
        self.replay.add(transitions)
        ended = torch.from_numpy(transitions.terminated | transitions.truncated).to(self.device)
        for each in self.remembered.tensors:
            each[ended] = 0
        self.steps += 1
        since = self.steps - self.settings.random_steps
        if since == 0:
            self.owed += self.settings.first_updates
        elif since > 0 and since % self.settings.learn_every == 0:
            self.owed += self.settings.learn_updates

    # Learning

    @abstractmethod
    def learn(self) -> None:
        """Do one update and take it off `owed`."""

    def judged(
        self, mind: Mind, batch: Sequences, loss: ModelLoss, bonus: Callable[[Tensor], Tensor] | None = None
    ) -> Judged:
        """What is imagined from every frame of a mind's sequences, and what that is worth; see `Behaviour.judge`."""
        model, behaviour = mind.model, mind.behaviour
        start = model.dynamics.starts(loss.followed.states)
        alive = torch.ones_like(batch.terminated) if model.continues is None else 1 - batch.terminated
        mask = self.masks[batch.task].repeat(len(batch.terminated), 1)  # (N, actions)
        noise = draw_noise(
            model.dynamics, self.settings.imagination_horizon, len(start.h), self.problem.action_size, self.noise
        )
        imagined = imagine(model.dynamics, behaviour.actor, start, mask, noise)
        return behaviour.judge(model, imagined, alive.flatten(), mask, bonus)

    def descend(self, name: str, loss: Tensor) -> Tensor:
        """One step of the optimiser of this name down a loss; the gradient's norm, scalar."""
        return descend(self.optimisers[name], loss, self.settings.gradient_limit, self.settings.weight_decay)

    def adam(self, parameters: Iterable[nn.Parameter], rate: float) -> Adam:
        """An optimiser as the settings say."""
        return Adam(parameters, rate, epsilon=self.settings.adam_epsilon)

    def _by_mind(self, task: Tensor) -> Iterator[tuple[Mind, Any]]:
        """Each mind with its rows of some tasks, (rows,); those that have none are left out."""
        if len(self.minds) == 1:
            yield self.minds[0], slice(None)
            return
        for index, mind in enumerate(self.minds):
            if len(rows := (task == index).nonzero().squeeze(1)):
                yield mind, rows

    def _nothing(self, tasks: Tensor) -> Remembered:
        """What is remembered where episodes of some tasks begin."""
        model = self.minds[0].model
        return Remembered(
            model.dynamics.begin(torch.zeros_like(model.code(tasks))),
            torch.zeros(len(tasks), self.problem.action_size, device=self.device),
        )

    # What the loop asks

    def metrics(self) -> dict[str, float]:
        """Mean losses, returns, entropy and gradients' norms of the updates since the last call, over the minds."""
        return self.meters.take()

    def trouble(self) -> str | None:
        """A loss that is not finite, or a critic loss above the limit."""
        return self.meters.trouble("critic_loss", self.settings.critic_loss_limit)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What each optimiser moves."""
        return {name: optimiser.parameters for name, optimiser in self.optimisers.items()}

    def state(self) -> dict[str, Any]:
        """Networks, optimisers, replay, random streams, what is remembered of the episodes under way, metrics."""
        return {
            "owed": self.owed,
            "steps": self.steps,
            "updates": self.updates,
            "minds": [mind.state_dict() for mind in self.minds],
            "optimisers": {name: optimiser.state() for name, optimiser in self.optimisers.items()},
            "replay": self.replay.state(),
            "remembered": [each.clone() for each in self.remembered.tensors],
            "random_actions": streams.generator_state(self.random_actions),
            "acting_noise": self.acting_noise.get_state(),
            "noise": self.noise.get_state(),
            "meters": self.meters.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.owed, self.steps, self.updates = state["owed"], state["steps"], state["updates"]
        for mind, saved in zip(self.minds, state["minds"], strict=True):
            mind.load_state_dict(saved)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state(state["optimisers"][name])
        self.replay.load_state(state["replay"])
        for mine, saved in zip(self.remembered.tensors, state["remembered"], strict=True):
            mine.copy_(saved)
        streams.load_generator_state(self.random_actions, state["random_actions"])
        self.acting_noise.set_state(state["acting_noise"])
        self.noise.set_state(state["noise"])
        self.meters.load_state(state["meters"])
