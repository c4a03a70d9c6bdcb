"""Meta-Dreamer: a world model that a few gradient steps adapt to a task it never saw, and behaviour learned in it.

Model-agnostic meta-learning (Finn, Abbeel, Levine, ICML 2017, 1703.03400) of a Dreamer's world model; for what is
adapted see also Nagabandi et al., "Learning to Adapt in Dynamic, Real-World Environments", ICLR 2019 (1803.11347).
theta are the parameters of the world model, L its loss:

    inner   theta_i = theta after `inner_steps` limited steps of gradient descent on L(support of task i)
    outer   Adam on the mean over tasks of L(query of task i; theta_i), which gradients reach through the inner steps
            (`order: second`) or past them (`order: first`)
    then    actor and critic learn from what theta_i imagines from the query's states, whose rewards the model gives,
            and curiosity more of them: what surprised the model (world_model/curiosity.py)

Support and query share no episode, or, while there are too few, no frame. There is one actor and one critic for all
tasks; no network is told its task.
With `inner_steps: 0` this is plain multi-task training, and with a budget of 0 nothing was trained at all: the two
baselines of the same adaptation. docs/methods/meta_dreamer.md says where the notebook that it follows is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.compilation import Compiled, tensors_of
from mtrepro.engine.execution import ALONE
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Array, Episode, Problem
from mtrepro.world_model.acting import Acting
from mtrepro.world_model.adaptation import Parameters, adapt, apart, parameters_of, under
from mtrepro.world_model.adapted import AdaptedDreamer
from mtrepro.world_model.behaviour import Behaviour, Judged
from mtrepro.world_model.curiosity import Curiosity, surprise, weighted_mean
from mtrepro.world_model.descent import descend_along
from mtrepro.world_model.episodes import sequences_of
from mtrepro.world_model.imagination import Noise
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.minds import Mind
from mtrepro.world_model.model import ModelLoss, WorldModel
from mtrepro.world_model.outer import Draw, Outer
from mtrepro.world_model.settings import DreamerSettings


class Settings(DreamerSettings):
    """Every hyper-parameter of Meta-Dreamer; the defaults are in config/methods/meta_dreamer.yaml."""

    adapts: ClassVar[bool] = True

    tasks_per_update: int | None = Field(gt=0, description="tasks of one update, drawn by chance; null: every task")
    support_sequences: int = Field(gt=0, description="sequences of a task's inner steps; `sequences` are its query's")
    inner_steps: int = Field(ge=0, description="K: inner steps in training; 0 is plain multi-task training")
    inner_rate: float = Field(gt=0, description="alpha: length of an inner step per length of its gradient")
    inner_limit: float = Field(gt=0, description="largest length of an inner step's gradient; longer ones are scaled")
    order: Literal["first", "second"] = Field(description="whether gradients pass through the inner steps (second)")
    curiosity_scale: float = Field(ge=0, description="eta: weight of the reward for surprises; 0: there is none")
    curiosity_kind: Literal["latent_error", "divergence"] = Field(
        description="a surprise is the prior's squared error about z, or the KL of posterior and prior"
    )
    curiosity_limit: float = Field(gt=0, description="a surprise of more standard deviations counts as this many")
    curiosity_rate: float = Field(gt=0, description="learning rate of what foresees surprises")
    adaptation_episodes: int = Field(gt=0, description="episodes of a task that an evaluation adapts to")
    adaptation_steps: int = Field(ge=0, description="inner steps of an evaluation, on all of these episodes")
    adaptation_actions: Literal["policy", "random"] = Field(
        description="how these episodes are played: by the policy with its exploration, or uniformly at random"
    )

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        if not budget:  # never trained: what there is adapts from its first parameters
            yield from self.impossible_shapes()
            return
        yield from super().conflicts(budget, tasks)
        frames = min(self.random_steps + 1, self.replay_frames // len(tasks))
        if 2 * self.length > frames:
            yield (
                "length",
                f"support and query need two sequences of {self.length} frames apart from each other, and the first "
                f"updates find {frames}",
            )


class MetaDreamer(Acting[Settings]):
    """One Meta-Dreamer on any number of tasks; see the protocol `Adaptive`."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "meta_dreamer")
        self.seed, self.adaptation_episodes = seed, settings.adaptation_episodes
        self.chosen_tasks = streams.numpy_stream(seed, "tasks of an update")
        self._computed = Compiled(self._update, self._moved, self.execution)

    @property
    def model(self) -> WorldModel:
        """The world model, with theta."""
        return self.minds[0].model

    @property
    def behaviour(self) -> Behaviour:
        """Actor and critic."""
        return self.minds[0].behaviour

    def build(self, seed: int) -> list[Mind]:
        """One mind for all tasks, and beside it what foresees surprises."""
        its, minds = self.settings, super().build(seed)
        self.curiosity: Curiosity | None = None
        if its.curiosity_scale:
            features = minds[0].model.dynamics.features
            self.curiosity = Curiosity(features, its.width, its.reward_depth, its.curiosity_limit)
            initialise(self.curiosity, seeding.torch_stream(seed, "curiosity"))
            self.curiosity.to(self.device)
        return minds

    def optimise(self) -> dict[str, Adam]:
        """One for the model, the outer one; one for the actor, one for the critic, one for curiosity."""
        optimisers = super().optimise()
        if self.curiosity is not None:
            optimisers["curiosity"] = self.adam(self.curiosity.parameters(), self.settings.curiosity_rate)
        return optimisers

    # Learning

    def learn(self) -> None:
        """One update: the outer step, then actor and critic under every task's adapted model."""
        self.execution.note_company(ALONE)
        self.meters.add(**self._computed(self._draws()))
        self.updates += 1
        self.behaviour.follow_critic(self.updates)
        self.owed -= 1

    def _draws(self) -> tuple[Draw, ...]:
        """For each task of the update what it draws: all that the update takes from random streams."""
        draws = [self.drawn(int(task)) for task in self._tasks_of_update()]
        noises = [self.noise_of_imagination(self.minds[0], draw.query.reward.numel()) for draw in draws]
        return tuple(draw._replace(imagined=noise) for draw, noise in zip(draws, noises, strict=True))

    def drawn(self, task: int) -> Draw:
        """Support and query of a task and their noise, not yet that of what is imagined."""
        its = self.settings
        support, query = self.replay.draw_apart(task, (its.support_sequences, its.sequences), its.length)
        on_support = self._noise_of(support, self.noise) if its.inner_steps else None
        return Draw(support, query, on_support, self._noise_of(query, self.noise))

    def _update(self, draws: tuple[Draw, ...]) -> dict[str, Tensor]:
        """What follows from the draws; returns the meters'. It takes from no random stream."""
        theta = parameters_of(self.model)
        outers = [self.outer(theta, draw) for draw in draws]
        gradients = [torch.stack(each).mean(0) for each in zip(*(outer.gradients for outer in outers), strict=True)]
        its = self.settings
        norm = descend_along(self.optimisers["world_model"], gradients, its.gradient_limit, its.weight_decay)
        return {
            "model_loss": _mean(outer.loss.total for outer in outers),
            "unadapted_model_loss": _mean(outer.before for outer in outers),
            **{name: _mean(outer.loss.parts[name] for outer in outers) for name in outers[0].loss.parts},
            **self._learn_curiosity(outers),
            **self._learn_behaviour_under(outers, [draw.imagined for draw in draws]),
            "model_gradient": norm,
        }

    def outer(self, theta: Parameters, draw: Draw) -> Outer:
        """Adapt to a task's support, and the gradient of its query's loss with respect to `theta`."""
        its, adapted = self.settings, theta
        if draw.on_support is not None:
            on_support = self._loss_of(draw.support, draw.on_support)
            adapted = self._adapted(theta, lambda: on_support().total, its.inner_steps, its.order == "second")
        loss = under(self.model, adapted, on_query := self._loss_of(draw.query, draw.on_query))
        gradients = torch.autograd.grad(loss.total, list(theta.values()))
        with torch.no_grad():
            before = under(self.model, theta, on_query).total if its.inner_steps else loss.total.detach()
        return Outer(draw.query, apart(adapted), loss, before, gradients)

    def _learn_curiosity(self, outers: Sequence[Outer]) -> dict[str, Tensor]:
        """Learn to foresee what surprised the adapted models; the first frame of an episode or window always does."""
        if self.curiosity is None:
            return {}
        latents, kind = self.model.dynamics.latents, self.settings.curiosity_kind
        foreseen = [~outer.query.is_first for outer in outers]
        for each in foreseen:
            each[0] = False
        u, s, seen = (
            torch.cat([each.flatten(0, 1) for each in parts])
            for parts in (
                [surprise(latents, outer.loss.followed, kind) for outer in outers],
                [outer.loss.followed.states.features.detach() for outer in outers],
                foreseen,
            )
        )
        # A recorded update cannot choose rows: how many there are would be asked of the device.
        weight = None if self.device.type == "cpu" else seen.to(u.dtype)
        u, s = (u[seen], s[seen]) if weight is None else (u, s)
        self.curiosity.note(u, weight)
        with self.precision.products():
            loss = self.curiosity.loss(s, u, weight)
        self.descend("curiosity", loss)
        return {"surprise": weighted_mean(u, weight), "curiosity_loss": loss}

    def _learn_behaviour_under(self, outers: Sequence[Outer], noises: Sequence[Noise | None]) -> dict[str, Tensor]:
        """One step of actor and critic on what all adapted models imagine."""

        def imagined(outer: Outer, noise: Noise | None) -> Judged:
            assert noise is not None
            with self.precision.products():
                return self.judged(self.minds[0], outer.query, outer.loss, noise, self._bonus)

        judged = [
            under(self.model, outer.adapted, partial(imagined, outer, noise))
            for outer, noise in zip(outers, noises, strict=True)
        ]
        actor_loss = _mean(each.actor_loss for each in judged)
        actor_norm = self.descend("actor", actor_loss)
        with self.precision.products():
            critic_loss = _mean(self.behaviour.critic_loss(each) for each in judged)
        critic_norm = self.descend("critic", critic_loss)
        return {
            "actor_loss": actor_loss, "critic_loss": critic_loss, "entropy": _mean(each.entropy for each in judged),
            "imagined_return": _mean(each.returns.mean() for each in judged), "actor_gradient": actor_norm,
            "critic_gradient": critic_norm,
        }  # fmt: skip

    def _bonus(self, features: Tensor) -> Tensor:
        """eta i(s), or nothing: (...)."""
        i: Tensor = torch.zeros_like(features[..., 0]) if self.curiosity is None else self.curiosity(features)
        return self.settings.curiosity_scale * i

    def _tasks_of_update(self) -> NDArray[np.int64]:
        count, tasks = self.settings.tasks_per_update, self.problem.tasks
        every = count is None or count >= tasks
        return np.arange(tasks) if every else np.sort(self.chosen_tasks.choice(tasks, count, replace=False))

    def _noise_of(self, batch: Sequences, generator: torch.Generator) -> Tensor:
        return self.model.dynamics.latents.noise(*batch.reward.shape, generator=generator)

    def _loss_of(self, batch: Sequences, noise: Tensor) -> Callable[[], ModelLoss]:
        """The model's loss on a batch, with the same noise however often it is asked and under whatever parameters."""

        def loss() -> ModelLoss:
            with self.precision.products():
                return self.model.loss(batch, noise)

        return loss

    def _adapted(self, theta: Parameters, loss: Callable[[], Tensor], steps: int, second_order: bool) -> Parameters:
        its = self.settings
        return adapt(self.model, theta, loss, steps, its.inner_rate, its.inner_limit, second_order)

    # Adapting in an evaluation: streams of its own, so that nothing of the training moves

    @torch.no_grad()
    def gather(self, observation: Array, task: Array, moment: int, memory: dict[str, Any]) -> NDArray[np.float32]:
        """The policy with its exploration, or uniform actions."""
        if self.settings.adaptation_actions == "random":
            uniform = streams.numpy_stream(self.seed, "gathered actions", moment)
            return uniform.uniform(-1, 1, (len(task), self.problem.action_size)).astype(np.float32)
        noise = seeding.torch_stream(self.seed, "gathered actions", moment, device=self.device)
        return self.follow_episode(observation, task, memory, noise)

    def adapt(self, episodes: Sequence[Sequence[Episode]]) -> AdaptedDreamer:
        """The model adapted to each task by `adaptation_steps` steps on all windows of its episodes."""
        theta = {name: each.detach().requires_grad_() for name, each in parameters_of(self.model).items()}
        adapted = list[Parameters]()
        for task, its in enumerate(episodes):
            loss = self.loss_of_episodes(task, its)
            steps = self.settings.adaptation_steps
            adapted.append(apart(self._adapted(theta, lambda f=loss: f().total, steps, False)))  # type: ignore[misc]
        return AdaptedDreamer(self, apart(theta), adapted)

    def loss_of_episodes(self, task: int, episodes: Sequence[Episode]) -> Callable[[], ModelLoss]:
        """The model's loss on whole episodes, always with the same noise."""
        batch = sequences_of(task, episodes, self.settings.length, self.device)
        chance = seeding.torch_stream(self.seed, "adaptation", device=self.device)
        return self._loss_of(batch, self._noise_of(batch, chance))

    # What the loop asks

    def _moved(self) -> list[Tensor]:
        """Every tensor that an update changes."""
        return tensors_of([*self.minds, *([] if self.curiosity is None else [self.curiosity])], self.optimisers)

    def state(self) -> dict[str, Any]:
        """The agent's, with curiosity and the stream of tasks."""
        more = {} if self.curiosity is None else self.curiosity.state_dict()
        tasks = streams.generator_state(self.chosen_tasks)
        return super().state() | {"curiosity": more, "chosen_tasks": tasks}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`, bit for bit."""
        super().load_state(state)
        if self.curiosity is not None:
            self.curiosity.load_state_dict(state["curiosity"])
        streams.load_generator_state(self.chosen_tasks, state["chosen_tasks"])


def _mean(values: Iterator[Tensor] | Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
