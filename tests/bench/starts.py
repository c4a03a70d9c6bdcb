"""Processor seconds of a Meta-World run's start, with the starts that an earlier process kept and without any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from mtrepro.paths import root
from tests.bench.measuring import Effort, Row, Topic, in_turn, ratios

FIRST, AGAIN = "nothing kept", "kept"
PARTS = ("goals", "comparison", "environments", "first starts")
_PROGRAM = """
import json, sys, time
from mtrepro.benchmarks.loading import load_benchmark
import metaworld
made = load_benchmark("metaworld", json.loads(sys.argv[1]), 0)
tasks, marks = range(len(made.tasks)), [time.process_time()]
for task in tasks:
    made.goals(task)
marks.append(time.process_time())
made.check()
marks.append(time.process_time())
both = [[made.make(task, purpose) for task in tasks] for purpose in ("training", "evaluation")]
marks.append(time.process_time())
for environment in both[0]:
    environment.reset()
for episode in range(made.evaluation_episodes):
    for environment in both[1]:
        environment.reset(episode)
marks.append(time.process_time())
for environment in both[0] + both[1]:
    environment.close()
print(json.dumps([after - before for before, after in zip(marks, marks[1:])]))
"""


def measure(effort: Effort) -> Topic:
    """A fresh interpreter each time, in a folder where nothing is kept and in one where an earlier process kept all."""
    large = "MT50" if effort.tasks == "MT10" else effort.tasks
    kinds = {"MT10, protocol 2020": (effort.tasks, "2020"), "MT50, protocol v3": (large, "v3")}
    parts: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as kept:
        for tasks, protocol in kinds.values():
            _start(tasks, protocol, kept)
        starts = {f"{kind}, {FIRST}": partial(_alone, *chosen) for kind, chosen in kinds.items()}
        starts |= {f"{kind}, {AGAIN}": partial(_start, *chosen, kept) for kind, chosen in kinds.items()}

        def timed(name: str) -> float:
            parts.setdefault(name, []).append(starts[name]())
            return sum(parts[name][-1])

        found = in_turn(effort.saves, {name: partial(timed, name) for name in starts})
    rows = []
    for kind in kinds:
        for label, role in ((FIRST, "peer"), (AGAIN, "ours")):
            name = f"{kind}, {label}"
            beside = {f"{part} s": [each[place] for each in parts[name]] for place, part in enumerate(PARTS)}
            if label == AGAIN:
                beside["x nothing kept"] = ratios(found[name], found[f"{kind}, {FIRST}"])
            rows.append(Row(name, role, "s", found[name], 1, 1, beside))  # type: ignore[arg-type]
    notes = (
        "Processor seconds of one process after its imports. Comparison: with the package's own classes, which is made "
        "at every start; environments: of training and of evaluation; first starts: one of each training environment "
        "and all of an evaluation.",
    )
    return Topic("The start of a Meta-World run", notes, tuple(rows))


def _alone(tasks: Any, protocol: str) -> list[float]:
    with tempfile.TemporaryDirectory() as empty:
        return _start(tasks, protocol, empty)


def _start(tasks: Any, protocol: str, folder: str) -> list[float]:
    """Processor seconds of each part, in a process whose checkout is `folder`."""
    settings = {"tasks": tasks if isinstance(tasks, str) else list(tasks), "protocol": protocol}
    if not isinstance(tasks, str):
        settings["evaluation_episodes"] = 2
    environment = os.environ | {"MTREPRO_ROOT": folder, "PYTHONPATH": str(Path(root()) / "src")}
    command = [sys.executable, "-c", _PROGRAM, json.dumps(settings)]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return list(json.loads(said.splitlines()[-1]))
