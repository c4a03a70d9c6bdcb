"""The curves of a study's runs as TensorBoard event files, for those who like to look at them there."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mtrepro.analysis.load import read_manifest
from mtrepro.errors import MtreproError


def write_events(study_folder: Path, output: Path) -> None:
    """Write one folder of events for each finished run: `<arm>/seed-<seed>`.

    Raises:
        MtreproError: the folder has no manifest or a malformed one, or none of its runs is finished.
    """
    path = study_folder / "manifest.json"
    if not path.exists():
        raise MtreproError(
            f"{path}: there is no such file\n  name the folder of a study, such as results/released/closing"
        )
    manifest = read_manifest(path)
    written = 0
    for arm in manifest.arms:
        for run in arm.runs:
            folder = study_folder / manifest.runs_folder / run.run
            if (folder / "run.json").exists():
                _write_run(folder, output / arm.arm / f"seed-{run.seed}")
                written += 1
    if not written:
        raise MtreproError(f"{study_folder}: none of its runs is finished yet")
    print(f"wrote {written} runs; look at them with: tensorboard --logdir {output}")


def _write_run(folder: Path, output: Path) -> None:
    writer = EventFileWriter(str(output))
    points: dict[tuple[int, str], list[float]] = defaultdict(list)
    for row in _rows(folder / "evaluation.csv"):
        for task in ("mean", row["task"]):
            points[int(row["step"]), f"evaluation/{row['metric']}/{task}"].append(float(row["value"]))
    for row in _rows(folder / "training.csv"):
        name = f"training/{row['metric']}" + (f"/{row['task']}" if row["task"] else "")
        points[int(row["step"]), name].append(float(row["value"]))
    for (step, tag), values in sorted(points.items()):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=sum(values) / len(values))])
        writer.add_event(Event(step=step, summary=summary))
    writer.close()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
