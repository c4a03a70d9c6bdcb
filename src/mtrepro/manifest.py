"""The manifest of a study: what its tables expect, by arm and seed, whether or not the runs are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtrepro.embeddings import LEARNED, is_published
from mtrepro.engine.files import write_atomically
from mtrepro.specification import resolve_benchmark
from mtrepro.study import ResolvedStudy, load_study

SCHEMA_VERSION = 1


def write_manifest(study: Path, output: Path) -> None:
    """Write manifest.json beside the tables of a study; its runs lie one folder up, shared with other studies."""
    write_atomically(output, manifest_text(load_study(study), runs_folder=".."))


def manifest_text(resolved: ResolvedStudy, runs_folder: str) -> str:
    """The text of manifest.json; `runs_folder` is relative to it."""
    study = resolved.study
    arms: list[dict[str, Any]] = []
    for name, arm in study.arms.items():
        runs = [run for run in resolved.runs if run.arm == name]
        arms.append(
            {
                "arm": name,
                "label": arm.label or name,
                "reference": arm.reference,
                "method": arm.method,
                "budget": runs[0].specification.budget,
                "runs": [
                    {"seed": run.seed, "run": run.name, "specification_digest": run.specification.digest()}
                    for run in runs
                ],
            }
        )
    content = {
        "schema_version": SCHEMA_VERSION,
        "study": study.study,
        "title": study.title,
        "note": study.note,
        "runs_folder": runs_folder,
        "budget": study.budget,
        "tasks": list(resolved.tasks),
        **({"held_out": list(resolved.held_out)} if resolved.held_out else {}),
        "benchmark": {"name": study.benchmark.name, **resolved.benchmark},
        "evaluation": {"every": study.evaluation.every, "episodes": resolved.runs[0].specification.evaluation.episodes},
        "arms": arms,
        "notes": [*_held_out_notes(resolved), *_embedding_notes(resolved), *_learner_notes(resolved)],
        "published": [compared.as_dict() for compared in resolved.published],
        **({"pooled": list(study.pooled)} if study.pooled else {}),
        **({} if _has_success(resolved) else {"leading": "return"}),
    }
    return json.dumps(content, indent=1) + "\n"


def _has_success(resolved: ResolvedStudy) -> bool:
    """Whether success means anything on the benchmark; else returns are all there is to compare."""
    _, settings = resolve_benchmark(dict(resolved.benchmark), f"{resolved.study.study}: benchmark")
    return bool(getattr(settings, "MEASURES_SUCCESS", True))


def _held_out_notes(resolved: ResolvedStudy) -> list[str]:
    """Which tasks no arm trained on, and what the metrics of adaptation are; nothing where none is held out."""
    if not resolved.held_out:
        return []
    return [
        f"Held out of training: {', '.join(resolved.held_out)}; means are over all tasks, and the table of each task "
        "tells them apart. adapted_*: after every arm took its adaptation steps on each task; model_loss: on episodes "
        "of random actions, the same for all arms."
    ]


def _embedding_notes(resolved: ResolvedStudy) -> list[str]:
    """What every table of the study says of task embeddings that are not the published one, once for each."""
    labels: dict[str, list[str]] = {}
    for name, arm in resolved.study.arms.items():
        reference = next(run for run in resolved.runs if run.arm == name).specification.settings.get("task_embedding")
        if isinstance(reference, str) and reference != LEARNED and not is_published(reference):
            labels.setdefault(reference, []).append(arm.label or name)
    return [
        f"{', '.join(arms)}: task embedding {reference}, not the published one (mtrl's RoBERTa), so these rows are not "
        "comparable with printed CARE numbers."
        for reference, arms in labels.items()
    ]


def _learner_notes(resolved: ResolvedStudy) -> list[str]:
    """What every table of the study says of arms whose updates are not computed as papers do."""
    labels: dict[str, list[str]] = {}
    for name, arm in resolved.study.arms.items():
        run = next(run for run in resolved.runs if run.arm == name)
        for what in run.specification.learner.unlike_papers():
            labels.setdefault(what, []).append(arm.label or name)
    return [
        f"{', '.join(arms)}: {what}, so these rows are not comparable with printed numbers."
        for what, arms in labels.items()
    ]
