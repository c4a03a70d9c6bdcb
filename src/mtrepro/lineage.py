"""What runs leave for others, and what they learnt from, as their files say it; read without torch.

A run that others learn from, or that has pictures, leaves `weights.pt`, and its run.json has the file's digest under
`weights`. The run.json of one that learnt from others has under `sources`, for each, its name and the digest of the
weights that it found. So files alone say whether a run learnt from what its sources are now, however often either was
trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.paths import shown
from mtrepro.specification import SourceRun, load_specification, settings_model
from mtrepro.world_model.settings import DreamerSettings

WEIGHTS = "weights.pt"  # what others can learn from, in a run's folder


def read_record(folder: Path) -> dict[str, Any]:
    """A run's run.json; empty where there is none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def has_pictures(method: str) -> bool:
    """Whether a run of this method can be shown in pictures: it is a Dreamer, which learns a model of what it sees."""
    return issubclass(settings_model(method), DreamerSettings)


def weights_digest(folder: Path) -> str | None:
    """SHA-256 of the weights that a finished run left, or None: it is not finished, left none, or they are lost."""
    digest = read_record(folder).get("weights")
    return digest if isinstance(digest, str) and (folder / WEIGHTS).is_file() else None


def changed_sources(folder: Path) -> list[str]:
    """The sources of a finished run that left other weights since it learnt from them, by their names.

    A source whose weights are lost counts as it was: what it leaves when it is trained again is compared then.
    """
    learnt = read_record(folder).get("sources")
    changed = []
    for source in learnt.values() if isinstance(learnt, dict) else ():
        now = weights_digest(folder.parent / source["run"])
        if now is not None and now != source["weights"]:
            changed.append(str(source["run"]))
    return changed


def learnt_exactly(results: Path, sources: Mapping[str, SourceRun]) -> bool:
    """Whether every source has the bits that its specification promises: none went on on another machine."""
    return all(read_record(results / source.run).get("exact", True) is True for source in sources.values())


def state_digest(source_digest: str, results: Path, sources: Mapping[str, SourceRun]) -> str:
    """What a run's checkpoints are of: its code and, where it learns from others, the weights that these left."""
    if not sources:
        return source_digest
    found = {role: weights_digest(results / source.run) for role, source in sources.items()}
    return hashlib.sha256(json.dumps([source_digest, found], sort_keys=True).encode()).hexdigest()


def trace(path: Path, output: Path) -> None:
    """Write what the run of a specification.yaml is to learn from: name and weights of each source.

    Raises:
        MtreproError: a source is not finished, or left no weights.
    """
    specification = load_specification(path)
    found = {role: _found(path.parent.parent, source) for role, source in specification.sources.items()}
    write_atomically(output, json.dumps({"schema_version": 1, "sources": found}, indent=1) + "\n")


def _found(results: Path, source: SourceRun) -> Mapping[str, str]:
    folder = results / source.run
    digest = weights_digest(folder)
    if digest is None:
        raise missing(folder)
    return {"run": source.run, "weights": digest}


def missing(folder: Path) -> MtreproError:
    """The error for a source without weights."""
    return MtreproError(
        f"{shown(folder / WEIGHTS)}: there are no such weights, and this run learns from them\n"
        "  `snakemake runs --configfile STUDY` trains sources before what learns from them; by hand:\n"
        f"  mtrepro train {shown(folder / 'specification.yaml')} --keep weights"
    )
