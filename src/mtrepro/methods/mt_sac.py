"""Multi-task soft actor-critic: one actor and one pair of critics for all tasks, a temperature for each task.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (equation numbers are that paper's), as mtrl
trains it on Meta-World. The published command is blind to the task (`task_input: none`); `one_hot` tells the networks
which task it is. docs/methods/mt_sac.md says where the published code, the paper and this file differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.meters import Meters
from mtrepro.engine.replay import Replay, Transitions
from mtrepro.methods import Array, Problem
from mtrepro.networks import squashed_gaussian
from mtrepro.networks.mlp import initialise, mlp


class Settings(BaseModel):
    """Every hyper-parameter of MT-SAC; the defaults are in config/methods/mt_sac.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    task_input: Literal["none", "one_hot"] = Field(description="how the networks are told the task")
    width: int = Field(gt=0, description="units of each hidden layer")
    depth: int = Field(ge=0, description="hidden layers of the actor and of each critic")
    batch: int = Field(gt=0, description="transitions of one update")
    replay_transitions: int = Field(gt=0, description="capacity of the replay, transitions of all tasks together")
    replay_sampling: Literal["uniform", "stratified"] = Field(
        description="uniform: every transition alike; stratified: the same number from every task"
    )
    random_steps: int = Field(ge=1, description="vector steps of uniform random actions at the start")
    first_updates: int = Field(ge=0, description="updates done at once when the random steps are over")
    updates_per_step: int = Field(ge=0, description="updates after every later vector step")
    discount: float = Field(ge=0, le=1, description="gamma")
    actor_rate: float = Field(gt=0, description="learning rate of the actor")
    critic_rate: float = Field(gt=0, description="learning rate of the critics")
    temperature_rate: float = Field(gt=0, description="learning rate of the temperatures")
    adam_betas: list[float] = Field(min_length=2, max_length=2, description="decay of Adam's two moments")
    adam_epsilon: float = Field(gt=0, description="Adam's epsilon")
    target_rate: float = Field(gt=0, le=1, description="tau: how fast the target critics follow")
    initial_temperature: float = Field(gt=0, description="alpha at the start")
    temperature_per_task: bool = Field(description="one temperature for each task, or one for all")
    target_entropy: float | None = Field(description="entropy per action vector aimed at; null means minus its size")
    log_std_range: list[float] = Field(
        min_length=2, max_length=2, description="lowest and highest logarithm of the policy's standard deviation"
    )
    critic_loss_limit: float = Field(gt=0, description="a critic loss above it counts as diverged")

    def conflicts(self, budget: int, tasks: int) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and number of tasks."""
        if budget <= self.random_steps:
            yield (
                "random_steps",
                f"{self.random_steps} random steps leave nothing to learn in a budget of {budget} steps",
            )
        if self.replay_transitions < tasks:
            yield "replay_transitions", f"{self.replay_transitions} transitions cannot hold one step of {tasks} tasks"
        if self.replay_sampling == "stratified" and self.batch % tasks:
            yield "batch", f"a stratified batch of {self.batch} cannot be shared equally by {tasks} tasks"


class MtSac:
    """Soft actor-critic over all tasks at once."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        self.settings, self.problem, self.device = settings, problem, device
        tasks, actions = problem.tasks, problem.action_size
        inputs = int(np.prod(problem.observation_shape)) + (tasks if settings.task_input == "one_hot" else 0)
        self.actor = mlp(inputs, settings.width, settings.depth, 2 * actions)
        self.critics = nn.ModuleList(mlp(inputs + actions, settings.width, settings.depth, 1) for _ in range(2))
        self.targets = nn.ModuleList(mlp(inputs + actions, settings.width, settings.depth, 1) for _ in range(2))
        initialise(self.actor, seeding.torch_stream(seed, "actor"))
        initialise(self.critics, seeding.torch_stream(seed, "critics"))
        self.targets.load_state_dict(self.critics.state_dict())
        for network in (self.actor, self.critics, self.targets):
            network.to(device)
        temperatures = tasks if settings.temperature_per_task else 1
        self.log_alpha = nn.Parameter(
            torch.full((temperatures,), float(np.log(settings.initial_temperature)), device=device)
        )
        self.target_entropy = -float(actions) if settings.target_entropy is None else settings.target_entropy
        self.optimisers = {
            "actor": self._adam(self.actor.parameters(), settings.actor_rate),
            "critics": self._adam(self.critics.parameters(), settings.critic_rate),
            "temperature": self._adam([self.log_alpha], settings.temperature_rate),
        }
        self.replay = Replay(
            settings.replay_transitions, tasks, problem.observation_shape, actions, settings.replay_sampling,
            streams.numpy_stream(seed, "replay"), device,
        )  # fmt: skip
        self.random_actions = streams.numpy_stream(seed, "random actions")
        self.noise = seeding.torch_stream(seed, "noise", device=device)
        self.meters = Meters(device)
        self.owed = 0

    # Acting

    @torch.no_grad()
    def act(self, observation: Array, task: Array, explore: bool, moment: int = 0) -> NDArray[np.float32]:
        """Uniform in the random phase, then a ~ pi; without `explore` the mode tanh(mu)."""
        if explore and self.replay.added < self.settings.random_steps:
            shape = (len(task), self.problem.action_size)
            return self.random_actions.uniform(-1, 1, shape).astype(np.float32)
        inputs = self._inputs(torch.from_numpy(observation).to(self.device), torch.from_numpy(task).to(self.device))
        output = self.actor(inputs)
        action = self._sample(output).action if explore else squashed_gaussian.mode(output)
        return action.cpu().numpy()

    def observe(self, transitions: Transitions) -> None:
        """Store one vector step. When the random phase ends `first_updates` are owed, then a few each step."""
        self.replay.add(transitions)
        if self.replay.added == self.settings.random_steps:
            self.owed += self.settings.first_updates
        elif self.replay.added > self.settings.random_steps:
            self.owed += self.settings.updates_per_step

    # Learning

    def learn(self) -> None:
        """One update of the critics, the actor, the temperatures and the targets, in this order (mtrl)."""
        batch = self.replay.draw(self.settings.batch)
        inputs, following = (
            self._inputs(batch.observation, batch.task),
            self._inputs(batch.next_observation, batch.task),
        )
        alpha = self.log_alpha.detach().exp()[batch.task if self.settings.temperature_per_task else 0]

        target = self._target(following, batch.reward, batch.terminated, alpha)
        values = self._values(self.critics, inputs, batch.action)  # (2, batch)
        critic_loss = (values - target).square().mean(1).sum()  # eq. 5, summed over both critics
        self.optimisers["critics"].minimise(critic_loss)

        drawn = self._sample(self.actor(inputs))
        least = self._values(self.critics, inputs, drawn.action).amin(0)
        actor_loss = (alpha * drawn.log_probability - least).mean()  # eq. 7
        self.optimisers["actor"].minimise(actor_loss)  # alone: the critics' own gradients are not computed

        surplus = (-drawn.log_probability - self.target_entropy).detach()
        temperature = self.log_alpha.exp()[batch.task if self.settings.temperature_per_task else 0]
        temperature_loss = (temperature * surplus).mean()  # eq. 18
        self.optimisers["temperature"].minimise(temperature_loss)

        with torch.no_grad():
            for slow, fast in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, self.settings.target_rate)
        self.meters.add(
            critic_loss=critic_loss, actor_loss=actor_loss, temperature_loss=temperature_loss, temperature=alpha.mean(),
            value=values.mean(), entropy=-drawn.log_probability.mean(),
        )  # fmt: skip
        self.owed -= 1

    @torch.no_grad()
    def _target(self, following: Tensor, reward: Tensor, terminated: Tensor, alpha: Tensor) -> Tensor:
        """r + gamma (1 - terminated) (min Q'(s', a') - alpha log pi(a' | s')), a' ~ pi: eq. 6. Shape (batch,)."""
        drawn = self._sample(self.actor(following))
        value = self._values(self.targets, following, drawn.action).amin(0) - alpha * drawn.log_probability
        return reward + self.settings.discount * (1 - terminated) * value

    def _inputs(self, observation: Tensor, task: Tensor) -> Tensor:
        """What the networks see: (batch, *shape), (batch,) -> (batch, inputs)."""
        flat = observation.flatten(1).float()
        if self.settings.task_input == "none":
            return flat
        return torch.cat([flat, functional.one_hot(task, self.problem.tasks).to(flat.dtype)], dim=1)

    def _values(self, critics: nn.ModuleList, inputs: Tensor, action: Tensor) -> Tensor:
        """Both critics' values: (2, batch)."""
        pairs = torch.cat([inputs, action], dim=1)
        return torch.stack([critic(pairs).squeeze(-1) for critic in critics])

    def _sample(self, output: Tensor) -> squashed_gaussian.Sample:
        noise = torch.randn(len(output), self.problem.action_size, generator=self.noise, device=self.device)
        return squashed_gaussian.sample(output, noise, *self.settings.log_std_range)

    def _adam(self, parameters: Iterable[nn.Parameter], rate: float) -> Adam:
        first, second = self.settings.adam_betas
        return Adam(parameters, rate, first, second, self.settings.adam_epsilon)

    # What the loop asks

    def metrics(self) -> dict[str, float]:
        """Mean losses, value, entropy and temperature of the updates since the last call."""
        return self.meters.take()

    def trouble(self) -> str | None:
        """A loss that is not finite, or a critic loss above the limit (mtrl stops at 1e8)."""
        if not self.meters.finite():
            return "a loss is not finite"
        largest = self.meters.largest("critic_loss")
        if largest > self.settings.critic_loss_limit:
            return f"the critic loss reached {largest:.3g}, above {self.settings.critic_loss_limit:.3g}"
        return None

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Actor, critics and temperatures."""
        return {
            "actor": list(self.actor.parameters()),
            "critics": list(self.critics.parameters()),
            "temperature": [self.log_alpha],
        }

    def state(self) -> dict[str, Any]:
        """Networks, optimisers, replay, random streams, running metrics."""
        return {
            "owed": self.owed,
            **{name: getattr(self, name).state_dict() for name in self._networks},
            "log_alpha": self.log_alpha.detach(),
            "optimisers": {name: optimiser.state() for name, optimiser in self.optimisers.items()},
            "replay": self.replay.state(),
            "random_actions": streams.generator_state(self.random_actions),
            "noise": self.noise.get_state(),
            "meters": self.meters.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        self.owed = state["owed"]
        for name in self._networks:
            getattr(self, name).load_state_dict(state[name])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state(state["optimisers"][name])
        self.replay.load_state(state["replay"])
        streams.load_generator_state(self.random_actions, state["random_actions"])
        self.noise.set_state(state["noise"])
        self.meters.load_state(state["meters"])

    _networks = ("actor", "critics", "targets")
