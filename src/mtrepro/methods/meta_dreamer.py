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
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mtrepro.engine import seeding, streams
from mtrepro.engine.adam import Adam
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Array, Episode, Problem
from mtrepro.world_model.acting import Acting
from mtrepro.world_model.adaptation import Parameters, adapt, apart, parameters_of, under
from mtrepro.world_model.behaviour import Behaviour, Judged
from mtrepro.world_model.curiosity import Curiosity, surprise
from mtrepro.world_model.descent import descend_along
from mtrepro.world_model.episodes import sequences_of
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.minds import Mind
from mtrepro.world_model.model import ModelLoss, WorldModel
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


class Outer(NamedTuple):
    """What one task gives to an update."""

    query: Sequences
    adapted: Parameters  # theta_i, from which no gradient passes back
    loss: ModelLoss  # of the query under theta_i
    before: Tensor  # the query's loss under theta; scalar
    gradients: tuple[Tensor, ...]  # of the loss with respect to theta


class MetaDreamer(Acting[Settings]):
    """One Meta-Dreamer on any number of tasks; see the protocol `Adaptive`."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "meta_dreamer")
        self.seed, self.adaptation_episodes = seed, settings.adaptation_episodes
        if self.execution.recorder:
            self.execution.fall_back("updates of meta_dreamer are not recorded")
        self.chosen_tasks = streams.numpy_stream(seed, "tasks of an update")

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
        theta = parameters_of(self.model)
        outers = [self.outer(theta, int(task)) for task in self._tasks_of_update()]
        gradients = [torch.stack(each).mean(0) for each in zip(*(outer.gradients for outer in outers), strict=True)]
        its = self.settings
        norm = descend_along(self.optimisers["world_model"], gradients, its.gradient_limit, its.weight_decay)
        means = {
            "model_loss": _mean(outer.loss.total for outer in outers),
            "unadapted_model_loss": _mean(outer.before for outer in outers),
            **{name: _mean(outer.loss.parts[name] for outer in outers) for name in outers[0].loss.parts},
            **self._learn_curiosity(outers),
            **self._learn_behaviour_under(outers),
        }
        self.updates += 1
        self.behaviour.follow_critic(self.updates)
        self.owed -= 1
        self.meters.add(**means, model_gradient=norm)

    def outer(self, theta: Parameters, task: int) -> Outer:
        """Adapt to a task's support, and the gradient of its query's loss with respect to `theta`."""
        its = self.settings
        support, query = self.replay.draw_apart(task, (its.support_sequences, its.sequences), its.length)
        adapted = theta
        if its.inner_steps:
            on_support = self._loss_of(support, self.noise)
            adapted = self._adapted(theta, lambda: on_support().total, its.inner_steps, its.order == "second")
        loss = under(self.model, adapted, on_query := self._loss_of(query, self.noise))
        gradients = torch.autograd.grad(loss.total, list(theta.values()))
        with torch.no_grad():
            before = under(self.model, theta, on_query).total if its.inner_steps else loss.total.detach()
        return Outer(query, apart(adapted), loss, before, gradients)

    def _learn_curiosity(self, outers: Sequence[Outer]) -> dict[str, Tensor]:
        """Learn to foresee what surprised the adapted models; the first frame of an episode or window always does."""
        if self.curiosity is None:
            return {}
        surprises, features = list[Tensor](), list[Tensor]()
        for outer in outers:
            followed, seen = outer.loss.followed, ~outer.query.is_first
            seen[0] = False
            surprises.append(surprise(self.model.dynamics.latents, followed, self.settings.curiosity_kind)[seen])
            features.append(followed.states.features.detach()[seen])
        u, s = torch.cat(surprises), torch.cat(features)
        self.curiosity.note(u)
        with self.precision.products():
            loss = self.curiosity.loss(s, u)
        self.descend("curiosity", loss)
        return {"surprise": u.mean(), "curiosity_loss": loss}

    def _learn_behaviour_under(self, outers: Sequence[Outer]) -> dict[str, Tensor]:
        """One step of actor and critic on what all adapted models imagine."""

        def imagined(outer: Outer) -> Judged:
            noise = self.noise_of_imagination(self.minds[0], outer.query.reward.numel())
            with self.precision.products():
                return self.judged(self.minds[0], outer.query, outer.loss, noise, self._bonus)

        judged = [under(self.model, outer.adapted, lambda each=outer: imagined(each)) for outer in outers]  # type: ignore[misc]
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

    def _loss_of(self, batch: Sequences, generator: torch.Generator) -> Callable[[], ModelLoss]:
        """The model's loss on a batch, with the same noise however often it is asked and under whatever parameters."""
        noise = self.model.dynamics.latents.noise(*batch.reward.shape, generator=generator)

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
        return self._loss_of(batch, seeding.torch_stream(self.seed, "adaptation", device=self.device))

    # What the loop asks

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


class AdaptedDreamer:
    """Meta-Dreamer with a world model for each task; see the protocol `Adapted`. The actor is the agent's own."""

    def __init__(self, agent: MetaDreamer, before: Parameters, adapted: Sequence[Parameters]) -> None:
        self.agent, self.before, self.adapted = agent, before, adapted

    def act(
        self, observation: Array, task: Array, explore: bool, moment: int = 0, memory: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """The agent's actions, each task's states being those of its adapted model."""
        memory = {} if memory is None else memory
        chosen = np.zeros((len(task), self.agent.problem.action_size), np.float32)
        for row, index in enumerate(task.tolist()):
            rows, its = slice(row, row + 1), memory.setdefault(str(row), {})
            chosen[rows] = under(
                self.agent.model,
                self.adapted[index],
                lambda rows=rows, its=its: self.agent.act(observation[rows], task[rows], explore=False, memory=its),  # type: ignore[misc]
            )
        return chosen

    @torch.no_grad()
    def judge(self, task: int, episode: Episode) -> dict[str, float]:
        """The model's loss on an episode before and after it adapted."""
        loss = self.agent.loss_of_episodes(task, [episode])
        before, after = (under(self.agent.model, its, loss).total for its in (self.before, self.adapted[task]))
        return {"model_loss": float(before), "adapted_model_loss": float(after)}


def _mean(values: Iterator[Tensor] | Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
