"""The settings of methods that encode their tasks: from a frozen text embedding, or from a learned table.

Reading them needs no torch. They stand apart from `settings.py` so that methods without a task encoder do not depend on
embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from mtrepro import embeddings
from mtrepro.soft_actor_critic.settings import SacSettings

LEARNED = embeddings.LEARNED


def _resolved(reference: str) -> str:
    """A name becomes name@digest: a specification holds exactly which vectors a run used."""
    return reference if reference == LEARNED else embeddings.resolve(reference)


class TaskSettings(SacSettings):
    """The hyper-parameters of a soft actor-critic with a task encoder."""

    task_embedding: Annotated[str, AfterValidator(_resolved)] = Field(
        description="a file in config/embeddings/ (name or name@digest), frozen; or `learned`, a table of our own"
    )
    code_size: int = Field(gt=0, description="units of each layer of the task encoder, and of the code it gives")
    task_encoder_rate: float = Field(gt=0, description="learning rate of the task encoder")
    encoder_target_rate: float = Field(gt=0, le=1, description="tau of the encoder's slow copy")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        known = self.task_embedding == LEARNED
        if missing := [] if known else embeddings.missing_tasks(self.task_embedding, tasks):
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            yield (
                "task_embedding",
                f"{self.task_embedding} has no vector for {len(missing)} of {len(tasks)} tasks: {shown}\n"
                "  describe them and run `mtrepro embed --model ...`, import a file that has them, or set "
                f"task_embedding: {LEARNED}; see {embeddings.PAGE}",
            )
