"""The files of a finished run, each written whole or not at all; run.json comes last: the others are there.

evaluation.csv, training.csv and specification.yaml of two equal runs are identical. What may differ between them,
times and hosts, stands in timing.csv and run.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrepro.engine.files import write_atomically

if TYPE_CHECKING:
    from mtrepro.specification import Specification
    from mtrepro.training import Trainer

SCHEMA_VERSION = 1
RESULT_FILES = ("evaluation.csv", "training.csv", "timing.csv", "run.json")


def write_results(
    folder: Path,
    specification: Specification,
    trainer: Trainer,
    record: dict[str, Any],
    timing: Iterable[Sequence[Any]],
    kept: Mapping[str, bytes] | None = None,
) -> None:
    """Write the result files of a run into its folder; `record` is what run.json says besides the outcome.

    Args:
        kept: what the run leaves besides, by the names of the files.
    """
    for name, content in (kept or {}).items():
        write_atomically(folder / name, content)
    write_atomically(
        folder / "evaluation.csv", _table(("step", "task", "episode", "metric", "value"), _evaluations(trainer))
    )
    write_atomically(folder / "training.csv", _table(("step", "task", "metric", "value"), trainer.rows))
    write_atomically(folder / "timing.csv", _table(("step", "seconds", "steps_per_second", "host"), timing))
    outcome = {
        "schema_version": SCHEMA_VERSION,
        "run": specification.run_name(),
        "status": "diverged" if trainer.diverged else "done",
        "reason": trainer.diverged,
        "step": trainer.step,
        "budget": specification.budget,
        "specification_digest": specification.digest(),
    }
    write_atomically(folder / "run.json", json.dumps({**outcome, **record}, indent=1) + "\n")


def _evaluations(trainer: Trainer) -> Iterable[Sequence[Any]]:
    tasks = trainer.benchmark.tasks
    for evaluation in trainer.evaluations:
        for index, task in enumerate(tasks):
            for episode, (total, success) in enumerate(
                zip(evaluation.returns[index].tolist(), evaluation.success[index].tolist(), strict=True)
            ):
                yield evaluation.step, task, episode, "return", total
                yield evaluation.step, task, episode, "success", int(success)
            for name, values in evaluation.more.items():
                for episode, value in enumerate(values[index].tolist()):
                    yield evaluation.step, task, episode, name, value


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV text; floats in the shortest form that reads back to the same bits."""
    lines = [",".join(columns), *(",".join(str(value) for value in row) for row in rows)]
    return "\n".join(lines) + "\n"
