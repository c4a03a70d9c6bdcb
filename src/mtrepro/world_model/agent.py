"""What every Dreamer does: act from what it remembers, store frames, learn model and behaviour, save all of it.

    while steps are left:   act, remembering s -> store the frame
                            every so many steps: draw sequences -> world model -> imagine -> actor, critic

A method gives one mind for all tasks or one for each, their optimisers, and what an update learns from. Tasks that
share a mind are computed together, others one after the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.compilation import Compiled, tensors_of
from mtrepro.engine.execution import Execution
from mtrepro.engine.meters import Meters
from mtrepro.engine.replay import Transitions
from mtrepro.engine.sequence_replay import SequenceReplay, Sequences
from mtrepro.methods import Array, Problem
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.descent import descend
from mtrepro.world_model.imagination import Draw, draw_noise, imagine
from mtrepro.world_model.model import ModelLoss, WorldModel
from mtrepro.world_model.pictures import refuse_other_pictures
from mtrepro.world_model.policies import Policy
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import State


class Mind(nn.Module):
    """What is known of a world, and what is done in it: of one task or of several."""

    def __init__(self, model: WorldModel, behaviour: Behaviour) -> None:
        super().__init__()
        self.model, self.behaviour = model, behaviour

    def policy(self, state: State) -> Policy:
        """pi(a | s)."""
        return self.behaviour.actor.policy(self.behaviour.actor(state.features))


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


S = TypeVar("S", bound=DreamerSettings)  # a method's own settings


class DreamerAgent(ABC, Generic[S]):
    """A Dreamer of one task or several; a method derives from it. See the protocol `Method`."""

    def __init__(self, settings: S, problem: Problem, seed: int, device: torch.device, name: str) -> None:
        refuse_other_pictures(problem.observation_shape, str(problem.observation_dtype), name)
        self.settings, self.problem, self.device = settings, problem, device
        execution = problem.execution or Execution()
        self.precision = execution.precision(device)
        self._computed = Compiled(self._update, lambda: tensors_of(self.minds, self.optimisers), execution)
        self.minds = self.build(seed)
        for mind in self.minds:
            mind.behaviour.begin_slow_critic()
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

    @abstractmethod
    def build(self, seed: int) -> list[Mind]:
        """One mind for all tasks, or one for each, initialised."""

    @abstractmethod
    def optimise(self) -> dict[str, Adam]:
        """The optimisers by the names of their groups."""

    @abstractmethod
    def draw(self) -> Sequences:
        """What one update learns from; with a mind for each task, every task's sequences."""

    @abstractmethod
    def descend_models(self, losses: Sequence[ModelLoss]) -> Tensor:
        """Move the world models down their losses, one for each mind; the gradients' mean norm, scalar."""

    def descend_behaviour(self, mind: int, part: str, loss: Tensor) -> Tensor:
        """Move the "actor" or "critic" of a mind; the gradient's norm, scalar."""
        return self.descend(part, loss)

    # Acting

    @torch.no_grad()
    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """a ~ pi(a | s), s ~ q(s | what was seen and done), with noise; uniform in the random phase.

        Without `explore` the modes of both, going on from `memory`.
        """
        tasks, seen = torch.from_numpy(task).to(self.device), torch.from_numpy(observation).to(self.device)
        memory = {} if memory is None else memory
        remembered = self.remembered.rows(tasks) if explore else memory.get("remembered") or self._nothing(tasks)
        following = self._nothing(tasks)
        for mind, rows in self._by_mind(task):
            step = self._step(mind, remembered.rows(rows), seen[rows], tasks[rows], explore)
            following.put(rows, step)
        if explore:
            self.remembered.put(tasks, following)
        else:
            memory["remembered"] = following
        chosen: NDArray[np.float32] = following.action.cpu().numpy()
        return chosen

    def _step(self, mind: Mind, before: Remembered, seen: Tensor, task: Tensor, explore: bool) -> Remembered:
        """One moment of tasks that share a mind."""
        model = mind.model
        state, e = before.state._replace(c=model.code(task)), model.embed(seen)
        if not explore:
            state = model.dynamics.see(state, before.action, e, None)
            return Remembered(state, self.masks[task] * mind.policy(state).mode())
        noise = model.dynamics.latents.noise(len(task), generator=self.acting_noise)
        state = model.dynamics.see(state, before.action, e, noise)
        return Remembered(state, self.masks[task] * self._explore(mind, state))

    def _explore(self, mind: Mind, state: State) -> Tensor:
        """The training phase's action, (rows, actions)."""
        shape = (len(state.h), self.problem.action_size)
        if self.steps < self.settings.random_steps:
            return torch.from_numpy(self.random_actions.uniform(-1, 1, shape).astype(np.float32)).to(self.device)
        policy = mind.policy(state)
        drawn = policy.action(policy.raw(torch.rand(shape, generator=self.acting_noise, device=self.device)))
        more = torch.randn(shape, generator=self.acting_noise, device=self.device)
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

    def learn(self) -> None:
        """One update: world models on sequences, then actors and critics on what is imagined from their states."""
        self.meters.add(**self._computed(self._draws()))
        self.updates += 1
        for mind in self.minds:
            mind.behaviour.follow_critic(self.updates)
        self.owed -= 1

    def _draws(self) -> tuple[Draw, ...]:
        """For each mind its sequences and all the noise of an update: all that it takes from random streams."""
        batch, horizon, actions = self.draw(), self.settings.imagination_horizon, self.problem.action_size
        shares = [batch.columns(columns) for _, columns in self._by_mind(batch.task.cpu().numpy())]
        minds = [(mind.model.dynamics, share) for mind, share in zip(self.minds, shares, strict=True)]
        latent = [dynamics.latents.noise(*share.reward.shape, generator=self.noise) for dynamics, share in minds]
        noise = [draw_noise(dynamics, horizon, share.reward.numel(), actions, self.noise) for dynamics, share in minds]
        return tuple(Draw(*each) for each in zip(shares, latent, noise, strict=True))

    def _update(self, draws: tuple[Draw, ...]) -> dict[str, Tensor]:
        """What follows from the draws; returns the meters'. It takes from no random stream."""
        with self.precision.products():
            losses = [mind.model.loss(its.batch, its.latent) for mind, its in zip(self.minds, draws, strict=True)]
        norm = self.descend_models(losses)
        learned = [
            {"model_loss": loss.total, **loss.parts, **self._learn_behaviour(index, draw, loss)}
            for index, (draw, loss) in enumerate(zip(draws, losses, strict=True))
        ]
        means = {name: torch.stack([each[name].detach() for each in learned]).mean() for name in learned[0]}
        return {**means, "model_gradient": norm}

    def _learn_behaviour(self, index: int, draw: Draw, loss: ModelLoss) -> dict[str, Tensor]:
        """Actor and critic of a mind, from every frame of its sequences."""
        batch, model, behaviour = draw.batch, self.minds[index].model, self.minds[index].behaviour
        alive = torch.ones_like(batch.terminated) if model.continues is None else 1 - batch.terminated
        mask = self.masks[batch.task].repeat(len(batch.terminated), 1)  # (N, actions)
        with self.precision.products():
            start = model.dynamics.starts(loss.followed.states)
            imagined = imagine(model.dynamics, behaviour.actor, start, mask, draw.imagined)
            judged = behaviour.judge(model, imagined, alive.flatten(), mask)
        actor_norm = self.descend_behaviour(index, "actor", judged.actor_loss)
        with self.precision.products():
            critic_loss = behaviour.critic_loss(judged)
        critic_norm = self.descend_behaviour(index, "critic", critic_loss)
        return {
            "actor_loss": judged.actor_loss, "critic_loss": critic_loss, "imagined_return": judged.returns.mean(),
            "entropy": judged.entropy, "actor_gradient": actor_norm, "critic_gradient": critic_norm,
        }  # fmt: skip

    def descend(self, name: str, loss: Tensor) -> Tensor:
        """One step of the optimiser of this name down a loss; the gradient's norm, scalar."""
        return descend(self.optimisers[name], loss, self.settings.gradient_limit, self.settings.weight_decay)

    def adam(self, parameters: Iterable[nn.Parameter], rate: float) -> Adam:
        """An optimiser as the settings say."""
        return Adam(parameters, rate, epsilon=self.settings.adam_epsilon)

    def _by_mind(self, task: Array) -> Iterator[tuple[Mind, Any]]:
        """Each mind with its rows of some tasks, (rows,); those that have none are left out."""
        if len(self.minds) == 1:
            yield self.minds[0], slice(None)
            return
        for index, mind in enumerate(self.minds):
            if len(rows := np.flatnonzero(task == index)):
                yield mind, torch.from_numpy(rows).to(self.device)

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
