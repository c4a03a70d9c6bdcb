"""The soft actor-critic that every method of the family trains: act, store, update.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (equation numbers are that paper's), with one
temperature for each task, as mtrl trains it on Meta-World. What the networks are is the method's own affair: it gives
them in `build`. docs/methods/mt_sac.md says where the published code, the paper and this file differ.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.compilation import Compiled, tensors_of
from mtrepro.engine.device_replay import replay_on
from mtrepro.engine.execution import ALONE, Execution
from mtrepro.engine.meters import Meters
from mtrepro.engine.replay import Batch, Transitions
from mtrepro.methods import Array, Problem
from mtrepro.networks import squashed_gaussian
from mtrepro.networks.actor_critic import Networks, Seen
from mtrepro.networks.mlp import initialise
from mtrepro.networks.tasks import BatchTasks, chosen
from mtrepro.soft_actor_critic.mapped import over_seeds
from mtrepro.soft_actor_critic.settings import SacSettings
from mtrepro.soft_actor_critic.together import Together, learn_together

S = TypeVar("S", bound=SacSettings)  # a method's own settings


class Draw(NamedTuple):
    """What chance gives to one update; the rest of it is a function of these tensors and the method's state."""

    batch: Batch
    next_noise: Tensor  # (batch, actions), of the actions a' in the critics' targets
    noise: Tensor  # (batch, actions), of the actions in the actor loss
    longest: int | None = None  # at least as many rows as any task has; None where nobody counted


class SoftActorCritic(ABC, Generic[S]):
    """Soft actor-critic over all tasks at once; a method derives from it and builds its networks."""

    def __init__(self, settings: S, problem: Problem, seed: int, device: torch.device) -> None:
        self.settings, self.problem, self.seed, self.device = settings, problem, seed, device
        self.execution = problem.execution or Execution()
        self.precision = self.execution.precision(device)
        self._computed = Compiled(self._update, self._moved, self.execution)
        built = self.build()
        self.actor, self.critics, self.task_encoder = built.actor, built.critics, built.task_encoder
        initialise(self.actor, seeding.torch_stream(seed, "actor"))
        initialise(self.critics, seeding.torch_stream(seed, "critics"))  # after the actor: what both hold is theirs
        if self.task_encoder is not None:
            initialise(self.task_encoder, seeding.torch_stream(seed, "task encoder"))
        self.mapped = False  # whether parameters are those of several seeds, over which losses are mapped
        self.judges = self.critics  # whom the actor loss asks; of stacked seeds such as no gradient reaches
        self.targets = copy.deepcopy(self.critics)
        for network in self._networks().values():
            network.to(device)
        named = self.critics.named_parameters()
        self._slow_and_fast = [
            (slow, fast, built.encoder_target_rate if name.startswith("encoder.") else settings.target_rate)
            for slow, (name, fast) in zip(self.targets.parameters(), named, strict=True)
        ]
        temperatures = problem.tasks if settings.temperature_per_task else 1
        self.log_alpha = nn.Parameter(
            torch.full((temperatures,), float(np.log(settings.initial_temperature)), device=device)
        )
        self.target_entropy = (
            -float(problem.action_size) if settings.target_entropy is None else settings.target_entropy
        )
        self.optimisers = {
            "actor": self._adam(built.actor_trains, settings.actor_rate),
            "critics": self._adam(self.critics.parameters(), settings.critic_rate),
            "temperature": self._adam([self.log_alpha], settings.temperature_rate),
        }
        if self.task_encoder is not None:
            self.optimisers["task_encoder"] = self._adam(self.task_encoder.parameters(), built.task_encoder_rate)
        self.replay = replay_on(device)(
            settings.replay_transitions, problem.tasks, problem.observation_shape, problem.action_size,
            settings.replay_sampling, streams.numpy_stream(seed, "replay"), device,
        )  # fmt: skip
        self.random_actions = streams.numpy_stream(seed, "random actions")
        self.noise = seeding.torch_stream(seed, "noise", device=device)
        self.meters = Meters(device)
        self.owed = 0

    # What a method says of itself

    @abstractmethod
    def build(self) -> Networks:
        """The networks, not yet initialised."""

    def weigh(self, losses: Tensor, tasks: BatchTasks) -> Tensor:
        """Losses of single rows (..., batch) as they count in the mean over the batch."""
        return losses

    stackable = False  # whether its networks are `Layers`, whose stacked seeds have on the CPU the bits of single ones
    temperature_weight = 1.0  # of the mean over the batch in the temperature loss

    # Acting

    @torch.no_grad()
    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Uniform in the random phase, then a ~ pi; without `explore` the mode tanh(mu)."""
        if explore and self.replay.added < self.settings.random_steps:
            shape = (len(task), self.problem.action_size)
            return self.random_actions.uniform(-1, 1, shape).astype(np.float32)
        tasks = BatchTasks(torch.from_numpy(task).to(self.device), self.problem.tasks)
        output = self.actor(self._see(torch.from_numpy(observation).to(self.device), tasks, self._codes()))
        action = self._sample(output, self._noise(len(output))).action if explore else squashed_gaussian.mode(output)
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
        """One update of all networks: a draw, and what follows from it."""
        self.execution.note_company(ALONE)
        self.meters.add(**self._computed(self._draw()))
        self.owed -= 1

    def _draw(self, room: Draw | None = None) -> Draw:
        """Rows from the replay, then the noise of both policies: all that an update takes from random streams.

        Into `room` where it is given, else into tensors of its own.
        """
        rows = self.settings.batch
        if room is None:
            return Draw(self.replay.draw(rows), self._noise(rows), self._noise(rows), self.replay.longest)
        batch = self.replay.draw(rows, room.batch)
        return Draw(batch, self._noise(rows, room.next_noise), self._noise(rows, room.noise), self.replay.longest)

    def _update(self, draw: Draw) -> dict[str, Tensor]:
        """Critics, actor, temperatures, targets and last the task encoder, in this order (mtrl); returns the meters'.

        Of the draw and of what the optimisers hold, nothing else: it takes from no random stream.
        """
        tasks = BatchTasks(draw.batch.task, self.problem.tasks, draw.longest)
        encoder = self.task_encoder
        codes = None if encoder is None else self._each(partial(self.precision.of, encoder))
        critic_loss, critics = self._each(self._critic_loss, draw, tasks, codes)
        encoder_gradients = self._descend_critics(critic_loss)
        actor_loss, actor, surplus = self._each(self._actor_loss, draw, tasks, codes)
        self.optimisers["actor"].minimise(actor_loss)  # alone: the critics' own gradients are not computed
        temperature_loss = self._temperature_loss(draw.batch.task, surplus)
        self.optimisers["temperature"].minimise(self.temperature_weight * temperature_loss)
        with torch.no_grad():
            for slow, fast, rate in self._slow_and_fast:
                slow.lerp_(fast, rate)
        if encoder_gradients:
            self.optimisers["task_encoder"].descend(encoder_gradients)
        return {**critics, **actor, "temperature_loss": temperature_loss}

    def _each(self, function: Callable[..., Any], *given: Any) -> Any:
        """function(*given); of stacked seeds on a GPU for each of them, by its own parameters."""
        return over_seeds(self, function, *given) if self.mapped else function(*given)

    def _critic_loss(self, draw: Draw, tasks: BatchTasks, codes: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """What moves the critics (eq. 5, summed over both), and plain means over the batch for the meters."""
        batch, alpha = draw.batch, self._alpha(draw.batch.task)
        seen = self._see(batch.observation, tasks, codes)
        following = self._see(batch.next_observation, tasks, codes).stopped()
        target = self._target(following, batch.reward, batch.terminated, alpha, draw.next_noise)
        values = self.precision.of(self.critics, seen, batch.action)  # (..., 2, batch)
        errors = (values - target.unsqueeze(-2)).square()
        plain = {
            "critic_loss": errors.mean(-1).sum(-1), "value": values.mean((-2, -1)), "temperature": alpha.mean(-1),
        }  # fmt: skip
        return self.weigh(errors, tasks).mean(-1).sum(-1), plain

    def _descend_critics(self, loss: Tensor) -> tuple[Tensor | None, ...]:
        """Move the critics with their encoder; returns the task encoder's gradients, used when the update ends."""
        critics = self.optimisers["critics"]
        encoder = self.optimisers["task_encoder"].parameters if self.task_encoder is not None else []
        gradients = torch.autograd.grad(loss, [*critics.parameters, *encoder], torch.ones_like(loss), allow_unused=True)
        count = len(critics.parameters)
        critics.descend(gradients[:count])
        return gradients[count:]

    @torch.no_grad()
    def _target(self, following: Seen, reward: Tensor, terminated: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        """r + gamma (1 - terminated) (min Q'(s', a') - alpha log pi(a' | s')), a' ~ pi: eq. 6. Shape (batch,)."""
        drawn = self._sample(self.precision.of(self.actor, following), noise)
        least = self.precision.of(self.targets, following, drawn.action).amin(-2)
        value = least - alpha * drawn.log_probability
        return reward + self.settings.discount * (1 - terminated) * value

    def _actor_loss(
        self, draw: Draw, tasks: BatchTasks, codes: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What moves the actor, the meters' plain means, and each row's surplus -log pi - H (batch,)."""
        seen = self._see(draw.batch.observation, tasks, codes).stopped()  # the actor loss moves no encoder
        drawn = self._sample(self.precision.of(self.actor, seen), draw.noise)
        least = self.precision.of(self.judges, seen, drawn.action).amin(-2)
        regrets = self._alpha(draw.batch.task) * drawn.log_probability - least  # eq. 7
        plain = {"actor_loss": regrets.mean(-1), "entropy": -drawn.log_probability.mean(-1)}
        return self.weigh(regrets, tasks).mean(-1), plain, (-drawn.log_probability - self.target_entropy).detach()

    def _temperature_loss(self, task: Tensor, surplus: Tensor) -> Tensor:
        """What moves the temperatures (eq. 18), not yet weighed."""
        return (self._of_rows(self.log_alpha.exp(), task) * surplus).mean(-1)

    def _alpha(self, task: Tensor) -> Tensor:
        """Each row's temperature, or the one of all; no gradient flows."""
        return self._of_rows(self.log_alpha.detach().exp(), task)

    def _of_rows(self, alpha: Tensor, task: Tensor) -> Tensor:
        if self.settings.temperature_per_task:
            return chosen(alpha, task)
        return alpha[0] if alpha.dim() == 1 else alpha  # of stacked seeds: (seeds, 1)

    def _codes(self) -> Tensor | None:
        return None if self.task_encoder is None else self.task_encoder()

    def _see(self, observation: Tensor, tasks: BatchTasks, codes: Tensor | None) -> Seen:
        return Seen(observation.flatten(-len(self.problem.observation_shape)).float(), tasks, codes)

    def _noise(self, rows: int, room: Tensor | None = None) -> Tensor:
        """Standard normal, from the method's own stream: (rows, actions), in `room` where it is given."""
        return torch.randn(rows, self.problem.action_size, generator=self.noise, device=self.device, out=room)

    def _sample(self, output: Tensor, noise: Tensor) -> squashed_gaussian.Sample:
        return squashed_gaussian.sample(output, noise, *self.settings.log_std_range)

    def _adam(self, parameters: Iterable[nn.Parameter], rate: float) -> Adam:
        first, second = self.settings.adam_betas
        return Adam(parameters, rate, first, second, self.settings.adam_epsilon)

    @classmethod
    def together(cls, agents: Sequence[SoftActorCritic[S]]) -> Together | None:
        """The updates of several seeds at once: on the CPU where that is exact and no loss, on a GPU where it works."""
        return learn_together(agents, cls.stackable)

    # What the loop asks

    def metrics(self) -> dict[str, float]:
        """Mean losses, value, entropy and temperature of the updates since the last call."""
        return self.meters.take()

    def trouble(self) -> str | None:
        """A loss that is not finite, or a critic loss above the limit (mtrl stops at 1e8)."""
        return self.meters.trouble("critic_loss", self.settings.critic_loss_limit)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What each optimiser moves."""
        return {name: optimiser.parameters for name, optimiser in self.optimisers.items()}

    def state(self) -> dict[str, Any]:
        """Networks, optimisers, replay, random streams, running metrics."""
        return {
            "owed": self.owed,
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
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
        for name, network in self._networks().items():
            network.load_state_dict(state["networks"][name])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state(state["optimisers"][name])
        self.replay.load_state(state["replay"])
        streams.load_generator_state(self.random_actions, state["random_actions"])
        self.noise.set_state(state["noise"])
        self.meters.load_state(state["meters"])

    def _moved(self) -> list[Tensor]:
        """Every tensor that an update changes."""
        return [*tensors_of(self._networks().values(), self.optimisers), self.log_alpha.detach()]

    def _networks(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"actor": self.actor, "critics": self.critics, "targets": self.targets}
        return networks if self.task_encoder is None else {**networks, "task_encoder": self.task_encoder}
