"""The settings of CARE, which CARE-PTSL has too. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from mtrepro.soft_actor_critic.task_settings import TaskSettings


class CareSettings(TaskSettings):
    """Encoders, attention, actor and critics."""

    width: int = Field(gt=0, description="units of each hidden layer of the actor and of each critic")
    depth: int = Field(ge=0, description="hidden layers of the actor and of each critic")
    experts: int = Field(gt=0, description="k: encoders in the mixture; with one there is nothing to attend to")
    expert_depth: int = Field(ge=0, description="hidden layers of each expert")
    feature_size: int = Field(gt=0, description="units of each layer of an expert, and of the encoding it gives")
    attention: Literal["task", "context"] = Field(
        description="task: a network of the task code chooses (code); context: expert times stopped task code (paper)"
    )
    attention_depth: int = Field(ge=0, description="hidden layers of the attention network, for `task`")
    actor_attention: Literal["frozen", "trained"] = Field(
        description="frozen: the actor's own attention stays as drawn (code); trained: the actor loss moves it"
    )

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if self.attention == "context" and self.feature_size != self.code_size:
            yield (
                "feature_size",
                f"attention by context multiplies encodings of {self.feature_size} numbers with task codes of "
                f"{self.code_size}; make feature_size and code_size equal",
            )
        if self.attention == "context" and self.actor_attention == "trained":
            yield "actor_attention", "attention by context has no parameters that the actor could train; use `frozen`"
