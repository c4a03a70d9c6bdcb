"""How a method computes its updates, as the run asks: the precision, and one operation at a time or recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from mtrepro.engine.compilation import CudaGraphs, Recorder
from mtrepro.engine.precision import Name, Precision
from mtrepro.errors import SpecificationError

Mode = Literal["eager", "graph"]
Choice = Literal["auto", "eager", "graph"]
ALONE = "alone"  # the company of a run whose updates no other run's are part of


class Execution:
    """Precision and recorder of one run's updates; once it has fallen back to eager ones it stays with them.

    Args:
        recorder: what records an update and replays it; None: eager, the reference.
        say: told why, where a recording fails and eager updates take its place.
    """

    def __init__(
        self, precision: Name = "fp32", recorder: Recorder | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.precision_name, self.recorder, self.say = precision, recorder, say
        self.replayed = False  # whether any update so far was a recording's
        self.fallback: str | None = None  # why updates are eager that were to be recorded
        self.company: list[str] = []  # in which updates were computed: alone, mapped with some seeds

    def precision(self, device: torch.device) -> Precision:
        """The precision of products on a device."""
        return Precision(self.precision_name, device.type)

    @property
    def mode(self) -> Mode:
        """How updates are computed from here on."""
        return "graph" if self.recorder else "eager"

    def described(self) -> str:
        """How updates were computed, in words for a record."""
        words = self.mode if self.fallback is None else f"{self.mode}, because {self.fallback}"
        return words if self.company in ([], [ALONE]) else f"{words}; {' and '.join(self.company)}"

    @property
    def mixed(self) -> bool:
        """Whether updates were computed in different ways as it happened: the run has no second of the same bits."""
        return (self.replayed and self.fallback is not None) or len(self.company) > 1

    def fall_back(self, reason: str) -> None:
        """Record nothing more."""
        self.recorder, self.fallback = None, reason
        if self.say:
            self.say(f"updates are computed eagerly from here on: {reason}")

    def note_replay(self) -> None:
        """From here on some update was a recording's."""
        self.replayed = True

    def note_company(self, company: str) -> None:
        """Updates are computed in this company."""
        if company not in self.company:
            self.company.append(company)

    def state(self) -> dict[str, Any]:
        """What must not be tried anew after a resume."""
        return {"replayed": self.replayed, "fallback": self.fallback, "company": list(self.company)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue as it was."""
        self.replayed, self.company = state["replayed"], list(state["company"])
        if state["fallback"] is not None and self.recorder:
            self.fall_back(f"as before the resume: {state['fallback']}")


class Executions(Execution):
    """That of several runs whose updates are one: what befalls it befalls each; it records where all of them would."""

    def __init__(self, those: Sequence[Execution]) -> None:
        first = those[0]
        # a recorder of its own: graphs of others come and go beside its own ones
        super().__init__(first.precision_name, first.recorder and type(first.recorder)())
        self.those = those

    def agree(self) -> None:
        """Where one of them gave up recording, all do."""
        fallen = next((each.fallback for each in self.those if each.fallback is not None), None)
        if fallen is not None and any(each.recorder for each in (self, *self.those)):
            self.fall_back(f"as another seed's: {fallen}")

    def fall_back(self, reason: str) -> None:
        """Record nothing more, for none of them."""
        self.recorder, self.fallback = None, reason
        for each in self.those:
            if each.recorder is not None:
                each.fall_back(reason)

    def note_replay(self) -> None:
        """From here on some update of each was a recording's."""
        super().note_replay()
        for each in self.those:
            each.note_replay()


def be_deterministic(device: torch.device) -> None:
    """Have a GPU add up in one order. On the CPU the kernels in use do so by themselves: contract tests prove it."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses matrix products then
        torch.use_deterministic_algorithms(True)


def execution(
    precision: Name, choice: Choice, device: torch.device, say: Callable[[str], None] | None = None
) -> Execution:
    """What a specification asks for, on this device.

    Raises:
        SpecificationError: `graph` without a GPU. Nothing falls back here: who names it counts on a GPU, and would find
            out after days that there was none.
    """
    if choice == "graph" and device.type != "cuda":
        raise SpecificationError(
            f"learner.compile: 'graph' records CUDA graphs, but this run would train on the {device.type}\n"
            "  start it where torch finds a GPU (`mtrepro doctor` says so), or use 'auto', which records where it can"
        )
    graph = choice == "graph" or (choice == "auto" and device.type == "cuda")
    return Execution(precision, CudaGraphs() if graph else None, say)
