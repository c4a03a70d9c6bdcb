"""Dreamer of several tasks that share their eyes: a model for each task, or one for all, told the task or not.

`sharing` chooses. separate: encoder and decoder are shared, each task has a state-space model, reward, continue, actor
and critic of its own, which no other task moves. shared: one Dreamer sees the pictures of all tasks and must guess the
task from them, as the published code of Sasso et al. has it (remosasso/multi-source-TL-for-deep-MBRL). embedded: the
same, told by a learned code of the task. `state_space` chooses the recurrent model or the Transformer for each.
docs/methods/multi_task_dreamer.md has the equations, and says where published code and this file differ.

    an update:  k sequences of every task -> world models -> each imagines -> actors, critics
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mtrepro.engine.adam import Adam
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Problem
from mtrepro.world_model.agent import DreamerAgent
from mtrepro.world_model.descent import descend_along
from mtrepro.world_model.minds import Mind, make_mind
from mtrepro.world_model.model import ModelLoss
from mtrepro.world_model.settings import DreamerSettings


class Settings(DreamerSettings):
    """Every hyper-parameter of the multi-task Dreamer; the defaults are in config/methods/multi_task_dreamer.yaml."""

    LEAVES_WEIGHTS: ClassVar[bool] = True

    sequences: int = Field(gt=0, description="sequences of each task in one update")
    sharing: Literal["separate", "shared", "embedded"] = Field(
        description="a model for each task behind shared eyes; one for all tasks; or one for all that is told the task"
    )
    task_code_size: int = Field(gt=0, description="numbers of the learned code that tells the task, for `embedded`")
    task_reward_scales: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="what a task's rewards are multiplied with before anything learns from them, by its name; else 1"
    )
    mask_actions: bool = Field(description="actions that a task has not are zero; false: as the policy gives them")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        for name in self.task_reward_scales:
            if name not in tasks:
                yield "task_reward_scales", f"there is no task {name!r} here; the tasks are {', '.join(tasks)}"


class MultiTaskDreamer(DreamerAgent[Settings]):
    """One Dreamer of all tasks, or one for each behind shared eyes."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "multi_task_dreamer")
        scales = [settings.task_reward_scales.get(name, 1.0) for name in problem.task_names]
        self.reward_scales = torch.tensor(scales, device=device)  # (tasks,)
        if not settings.mask_actions:
            self.masks.fill_(1.0)

    def build(self, seed: int) -> list[Mind]:
        """One mind that may be told the task, or one for each task, all with the eyes of the first."""
        settings, problem = self.settings, self.problem
        if settings.sharing != "separate":
            embedded = settings.sharing == "embedded"
            codes = nn.Linear(problem.tasks, settings.task_code_size, bias=False) if embedded else None
            return [make_mind(settings, problem, seed, codes=codes)]
        minds = [make_mind(settings, problem, seed, name) for name in problem.task_names]
        for mind in minds[1:]:
            mind.model.encoder, mind.model.decoder = minds[0].model.encoder, minds[0].model.decoder
        return minds

    def optimise(self) -> dict[str, Adam]:
        """For separate minds one for the eyes and three for each task: no task's gradient shortens another's."""
        if self.settings.sharing != "separate":
            return super().optimise()
        settings, first = self.settings, self.minds[0].model
        eyes = [*first.encoder.parameters(), *first.decoder.parameters()]
        optimisers = {"eyes": self.adam(eyes, settings.model_rate)}
        for name, mind in zip(self.problem.task_names, self.minds, strict=True):
            of_eyes = {id(parameter) for parameter in eyes}
            own = [parameter for parameter in mind.model.parameters() if id(parameter) not in of_eyes]
            optimisers[f"world_model/{name}"] = self.adam(own, settings.model_rate)
            optimisers[f"actor/{name}"] = self.adam(mind.behaviour.actor.parameters(), settings.actor_rate)
            optimisers[f"critic/{name}"] = self.adam(mind.behaviour.critic.parameters(), settings.critic_rate)
        return optimisers

    def draw(self) -> Sequences:
        """As many sequences of every task, rewards scaled."""
        batch = self.replay.draw_of_each(self.settings.sequences, self.settings.length)
        return batch._replace(reward=batch.reward * self.reward_scales[batch.task])

    def descend_models(self, losses: Sequence[ModelLoss]) -> Tensor:
        """Each task's own part goes down its own loss, the eyes go down the mean of all."""
        if self.settings.sharing != "separate":
            return super().descend_models(losses)
        limit, decay = self.settings.gradient_limit, self.settings.weight_decay
        eyes = self.optimisers["eyes"]
        mean, norms = [torch.zeros_like(parameter) for parameter in eyes.parameters], list[Tensor]()
        for name, loss in zip(self.problem.task_names, losses, strict=True):
            own = self.optimisers[f"world_model/{name}"]
            moved = [*eyes.parameters, *own.parameters]
            gradients = torch.autograd.grad(loss.total, moved, torch.ones_like(loss.total))
            torch._foreach_add_(mean, list(gradients[: len(mean)]), alpha=1 / len(losses))
            norms.append(descend_along(own, gradients[len(mean) :], limit, decay))
        norms.append(descend_along(eyes, mean, limit, decay))
        return torch.stack(norms).mean(0)

    def descend_behaviour(self, mind: int, part: str, loss: Tensor) -> Tensor:
        """Move the "actor" or "critic" of a mind down its loss."""
        separate = self.settings.sharing == "separate"
        return self.descend(f"{part}/{self.problem.task_names[mind]}" if separate else part, loss)
