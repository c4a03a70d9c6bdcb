"""The hyper-parameters that every method of the soft actor-critic family has. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SacSettings(BaseModel):
    """Replay, losses, optimisers and targets; networks are the method's own. Defaults: config/methods/*.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    batch: int = Field(gt=0, description="transitions of one update, of all tasks together")
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

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        count = len(tasks)
        lowest, highest = self.log_std_range
        if lowest >= highest:
            yield "log_std_range", f"{lowest:g} is not below {highest:g}; give the lowest, then the highest"
        for beta in self.adam_betas:
            if not 0 <= beta < 1:
                yield "adam_betas", f"{beta:g} is outside [0, 1)"
        if budget <= self.random_steps:
            yield (
                "random_steps",
                f"{self.random_steps} random steps leave nothing to learn in a budget of {budget} steps",
            )
        if self.replay_transitions < count:
            yield "replay_transitions", f"{self.replay_transitions} transitions cannot hold one step of {count} tasks"
        if self.replay_sampling == "stratified" and self.batch % count:
            yield "batch", f"a stratified batch of {self.batch} cannot be shared equally by {count} tasks"
