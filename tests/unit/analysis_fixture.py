"""Write a small study folder as training leaves it: manifest.json and runs, with holes and divergence on demand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Score = Callable[[int, int, int, int, str], float]  # (seed, step, task index, episode, metric) -> value


def learning(seed: int, step: int, task: int, episode: int, metric: str) -> float:
    """A made-up run that learns: success rises with the step, earlier on the first tasks; noise from the names."""
    digest = hashlib.sha256(f"{seed} {step} {task} {episode}".encode()).digest()
    noise = int.from_bytes(digest[:4], "little") / 2**32
    level = 1 / (1 + np.exp(-(step / 400 - 3 - task + 0.8 * np.sin(seed))))
    return float(noise < level) if metric == "success" else round(float(1500 * level + 200 * noise * (task + 1)), 3)


@dataclass
class FakeArm:
    """An arm of the fake study."""

    arm: str = "mt-sac"
    label: str = "MT-SAC"
    reference: bool = False
    seeds: Sequence[int] = (0, 1, 2)
    steps: Sequence[int] = (0, 500, 1000, 1500, 2000)
    score: Score = learning
    missing: Sequence[int] = ()  # seeds without a folder
    diverged: dict[int, int] = field(default_factory=dict)  # seed -> step after which there are no evaluations
    inexact: Sequence[int] = ()


@dataclass
class FakeStudy:
    """A study on disk. `write` it, then change files to see what the analysis says."""

    folder: Path
    arms: Sequence[FakeArm] = (FakeArm(),)
    tasks: Sequence[str] = ("door-close-v3", "drawer-close-v3", "window-close-v3")
    metrics: Sequence[str] = ("return", "success")
    held_out: Sequence[str] = ()
    episodes: int = 4
    title: str = "Closing doors, drawers & windows"
    note: str = ""
    published: Sequence[dict[str, Any]] = ()  # as the manifest has them; see `printed`
    pooled: Sequence[str] = ()
    leading: str = "success"

    @property
    def study_folder(self) -> Path:
        return self.folder / "study-fake"

    def run_name(self, arm: FakeArm, seed: int) -> str:
        return f"{arm.arm.replace('-', '_')}-s{seed}-{self.digest(arm, seed)[:12]}"

    def run_folder(self, arm: FakeArm, seed: int) -> Path:
        return self.folder / self.run_name(arm, seed)

    def digest(self, arm: FakeArm, seed: int) -> str:
        return hashlib.sha256(f"{arm.arm} {seed}".encode()).hexdigest()

    def write(self) -> Path:
        """Write everything; the study folder."""
        self.study_folder.mkdir(parents=True, exist_ok=True)
        (self.study_folder / "manifest.json").write_text(json.dumps(self.manifest()))
        for arm in self.arms:
            for seed in arm.seeds:
                if seed not in arm.missing:
                    self.write_run(arm, seed)
        return self.study_folder

    def manifest(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "study": "fake",
            "title": self.title,
            "runs_folder": "..",
            "budget": max(max(arm.steps) for arm in self.arms),
            "note": self.note,
            "benchmark": {"family": "metaworld", "name": "closing", "protocol": "v3", "reward_version": "v2"},
            "tasks": list(self.tasks),
            "held_out": list(self.held_out),
            "evaluation": {"every": 500, "episodes": self.episodes},
            "published": list(self.published),
            **({"pooled": list(self.pooled)} if self.pooled else {}),
            **({} if self.leading == "success" else {"leading": self.leading}),
            "arms": [
                {
                    "arm": arm.arm,
                    "label": arm.label,
                    "reference": arm.reference,
                    "method": arm.arm.replace("-", "_"),
                    "budget": max(arm.steps),
                    "runs": [
                        {
                            "seed": seed,
                            "run": self.run_name(arm, seed),
                            "specification_digest": self.digest(arm, seed),
                        }
                        for seed in arm.seeds
                    ],
                }
                for arm in self.arms
            ],
        }

    def write_run(self, arm: FakeArm, seed: int) -> None:
        folder = self.run_folder(arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        last = arm.diverged.get(seed, max(arm.steps))
        lines = ["step,task,episode,metric,value"]
        for step in (step for step in arm.steps if step <= last):
            for index, task in enumerate(self.tasks):
                for episode in range(self.episodes):
                    for metric in self.metrics:
                        lines.append(
                            f"{step},{task},{episode},{metric},{arm.score(seed, step, index, episode, metric)!r}"
                        )
        (folder / "evaluation.csv").write_text("\n".join(lines) + "\n")
        (folder / "run.json").write_text(json.dumps(self.record(arm, seed)))

    def record(self, arm: FakeArm, seed: int) -> dict[str, Any]:
        diverged = seed in arm.diverged
        return {
            "schema_version": 1,
            "run": self.run_name(arm, seed),
            "status": "diverged" if diverged else "done",
            "reason": "critic loss is not finite" if diverged else "",
            "step": arm.diverged.get(seed, max(arm.steps)),
            "budget": max(arm.steps),
            "specification_digest": self.digest(arm, seed),
            "source_digest": "5" * 64,
            "exact": seed not in arm.inexact,
            "device": "cpu",
            "threads": 1,
            "cpu_capability": "AVX2",
            "seconds": {"total": 12.5},
            "resumes": 0,
            "provenance": {
                "commit": "c" * 40,
                "dirty": False,
                "packages": {"torch": "2.13.0"},
                "hardware": {"processor": "a processor", "cores": 2},
                "container": None,
            },
        }


RANDOM_POLICY = FakeArm("random", "Random policy", True, steps=(0,), score=lambda *where: learning(*where) * 0.2)


def printed(cell: str = "care/mt10-2m-care", arm: str = "mt-sac", **changed: Any) -> dict[str, Any]:
    """A comparison as the manifest has it; `changed` replaces keys of it or of its printed number."""
    number = {
        "paper": "CARE",
        "arxiv": "2102.06177",
        "table": "Table 1",
        "benchmark": "MT10",
        "steps": "2M per task",
        "method": "CARE",
        "metric": "mean success",
        "statistic": "mean",
        "unit": "share",
        "highest": None,
        "value": 0.84,
        "error": 0.02,
        "error_kind": "stderr",
        "seeds": 10,
        "conditions": "v1 environments",
        "source": "the paper",
        "trust": "paper text",
        "note": "",
        "missing": None,
    }
    comparison = {"cell": cell, "arm": arm, "step": 1000, "column": "final", "differs": []}
    number |= {key: value for key, value in changed.items() if key in number}
    comparison |= {key: value for key, value in changed.items() if key not in number}
    return comparison | {"printed": number}
