"""Dreamer: learn a world model from pictures, and the behaviour in what the model imagines. Single task.

v1: Hafner et al., "Dream to Control: Learning Behaviors by Latent Imagination", ICLR 2020; v2: Hafner et al.,
"Mastering Atari with Discrete World Models", ICLR 2021. Which of the two it is, settings say; the defaults are v1's.
The equations and their letters are in world_model/; docs/methods/dreamer.md has a table of them, and says where the
papers, their code and this file differ.

    while steps are left:   act, remembering s -> store the frame
                            every so many steps: draw sequences -> world model -> imagine -> actor, critic
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.meters import Meters
from mtrepro.engine.replay import Transitions
from mtrepro.engine.sequence_replay import SequenceReplay
from mtrepro.methods import Array, Problem
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.descent import descend
from mtrepro.world_model.imagination import draw_noise, imagine
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.pictures import refuse_other_pictures
from mtrepro.world_model.policies import Policy
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import State


class Settings(DreamerSettings):
    """Every hyper-parameter of Dreamer; the defaults are in config/methods/dreamer.yaml."""

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if len(tasks) != 1:
            yield "", f"dreamer learns one task, not {len(tasks)}: choose one of the benchmark's ({', '.join(tasks)})"


class Remembered(NamedTuple):
    """What acting goes on from; zeros where an episode begins."""

    state: State  # (tasks, ...)
    action: Tensor  # (tasks, actions): the one that was taken there

    def rows(self, task: Tensor) -> Remembered:
        """Those of some tasks."""
        return Remembered(State(self.state.h[task], self.state.z[task]), self.action[task])

    def put(self, task: Tensor, other: Remembered) -> None:
        """Write those of some tasks."""
        for mine, theirs in zip((*self.state, self.action), (*other.state, other.action), strict=True):
            mine[task] = theirs


class Dreamer:
    """One Dreamer on one task; see the protocol `Method`."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        refuse_other_pictures(problem.observation_shape, str(problem.observation_dtype), "dreamer")
        self.settings, self.problem, self.device = settings, problem, device
        self.model = WorldModel(settings, problem.observation_shape[0], problem.action_size)
        self.behaviour = Behaviour(settings, self.model.dynamics.features, problem.action_size)
        initialise(self.model, seeding.torch_stream(seed, "world model"))
        initialise(self.behaviour.actor, seeding.torch_stream(seed, "actor"))
        initialise(self.behaviour.critic, seeding.torch_stream(seed, "critic"))
        self.behaviour.begin_slow_critic()
        self.model.to(device)
        self.behaviour.to(device)
        self.optimisers = {
            "world_model": self._adam(self.model, settings.model_rate),
            "actor": self._adam(self.behaviour.actor, settings.actor_rate),
            "critic": self._adam(self.behaviour.critic, settings.critic_rate),
        }
        self.replay = SequenceReplay(
            settings.replay_frames, problem.tasks, problem.observation_shape, problem.observation_dtype,
            problem.action_size, streams.numpy_stream(seed, "replay"), device, problem.storage,
        )  # fmt: skip
        self.mask = torch.from_numpy(problem.action_mask[0].astype(np.float32)).to(device)
        self.random_actions = streams.numpy_stream(seed, "random actions")
        self.acting_noise = seeding.torch_stream(seed, "acting", device=device)
        self.noise = seeding.torch_stream(seed, "noise", device=device)
        self.meters = Meters(device)
        self.remembered = self._nothing(problem.tasks)
        self.owed = self.steps = self.updates = 0

    # Acting

    @torch.no_grad()
    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """a ~ pi(a | s), s ~ q(s | what was seen and done), with noise; uniform in the random phase.

        Without `explore` the modes of both, going on from `memory`.
        """
        dynamics, e = self.model.dynamics, self.model.embed(torch.from_numpy(observation).to(self.device))
        if explore:
            tasks = torch.from_numpy(task).to(self.device)
            before = self.remembered.rows(tasks)
            noise = dynamics.latents.noise(len(task), generator=self.acting_noise)
            state = dynamics.see(before.state, before.action, e, noise)
            action = self.mask * self._explore(state)
            self.remembered.put(tasks, Remembered(state, action))
        else:
            memory = {} if memory is None else memory
            before = memory.get("remembered") or self._nothing(len(task))
            state = dynamics.see(before.state, before.action, e, None)
            action = self.mask * self._policy(state).mode()
            memory["remembered"] = Remembered(state, action)
        chosen: NDArray[np.float32] = action.cpu().numpy()
        return chosen

    def _explore(self, state: State) -> Tensor:
        """The training phase's action, (rows, actions)."""
        shape = (len(state.h), self.problem.action_size)
        if self.steps < self.settings.random_steps:
            return torch.from_numpy(self.random_actions.uniform(-1, 1, shape).astype(np.float32)).to(self.device)
        policy = self._policy(state)
        drawn = policy.action(policy.raw(torch.rand(shape, generator=self.acting_noise, device=self.device)))
        more = torch.randn(shape, generator=self.acting_noise, device=self.device)
        return (drawn + self.settings.exploration_noise * more).clamp(-1, 1)

    def observe(self, transitions: Transitions) -> None:
        """Store one vector step; forget what was remembered where an episode ended."""
        self.replay.add(transitions)
        ended = torch.from_numpy(transitions.terminated | transitions.truncated).to(self.device)
        for each in (*self.remembered.state, self.remembered.action):
            each[ended] = 0.0
        self.steps += 1
        since = self.steps - self.settings.random_steps
        if since == 0:
            self.owed += self.settings.first_updates
        elif since > 0 and since % self.settings.learn_every == 0:
            self.owed += self.settings.learn_updates

    # Learning

    def learn(self) -> None:
        """One update: the world model on sequences, then actor and critic on what it imagines from their states."""
        settings, dynamics = self.settings, self.model.dynamics
        batch = self.replay.draw(settings.sequences, settings.length)
        loss = self.model.loss(batch, dynamics.latents.noise(settings.length, settings.sequences, generator=self.noise))
        model_norm = self._descend("world_model", loss.total)

        start = State(*(each.detach().flatten(0, 1) for each in loss.followed.states))  # every frame is one
        alive = torch.ones_like(batch.terminated) if self.model.continues is None else 1 - batch.terminated
        noise = draw_noise(dynamics, settings.imagination_horizon, len(start.h), self.problem.action_size, self.noise)
        imagined = imagine(dynamics, self.behaviour.actor, start, self.mask, noise)
        judged = self.behaviour.judge(self.model, imagined, alive.flatten(), self.mask)
        actor_norm = self._descend("actor", judged.actor_loss)
        critic_loss = self.behaviour.critic_loss(judged)
        critic_norm = self._descend("critic", critic_loss)

        self.updates += 1
        self.behaviour.follow_critic(self.updates)
        self.owed -= 1
        self.meters.add(
            model_loss=loss.total, **loss.parts, actor_loss=judged.actor_loss, critic_loss=critic_loss,
            imagined_return=judged.returns.mean(), entropy=judged.entropy, model_gradient=model_norm,
            actor_gradient=actor_norm, critic_gradient=critic_norm,
        )  # fmt: skip

    def _descend(self, name: str, loss: Tensor) -> Tensor:
        return descend(self.optimisers[name], loss, self.settings.gradient_limit, self.settings.weight_decay)

    def _policy(self, state: State) -> Policy:
        return self.behaviour.actor.policy(self.behaviour.actor(state.features))

    def _nothing(self, rows: int) -> Remembered:
        return Remembered(
            self.model.dynamics.begin(rows), torch.zeros(rows, self.problem.action_size, device=self.device)
        )

    def _adam(self, network: nn.Module, rate: float) -> Adam:
        return Adam(network.parameters(), rate, epsilon=self.settings.adam_epsilon)

    # What the loop asks

    def metrics(self) -> dict[str, float]:
        """Mean losses, returns, entropy and gradients' norms of the updates since the last call."""
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
            "model": self.model.state_dict(),
            "behaviour": self.behaviour.state_dict(),
            "optimisers": {name: optimiser.state() for name, optimiser in self.optimisers.items()},
            "replay": self.replay.state(),
            "remembered": [each.clone() for each in (*self.remembered.state, self.remembered.action)],
            "random_actions": streams.generator_state(self.random_actions),
            "acting_noise": self.acting_noise.get_state(),
            "noise": self.noise.get_state(),
            "meters": self.meters.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.owed, self.steps, self.updates = state["owed"], state["steps"], state["updates"]
        self.model.load_state_dict(state["model"])
        self.behaviour.load_state_dict(state["behaviour"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state(state["optimisers"][name])
        self.replay.load_state(state["replay"])
        for mine, saved in zip((*self.remembered.state, self.remembered.action), state["remembered"], strict=True):
            mine.copy_(saved)
        streams.load_generator_state(self.random_actions, state["random_actions"])
        self.acting_noise.set_state(state["acting_noise"])
        self.noise.set_state(state["noise"])
        self.meters.load_state(state["meters"])
