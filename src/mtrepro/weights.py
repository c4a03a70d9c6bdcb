"""The file that a run leaves for others to learn from: every parameter, by group and name, and whose it is."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mtrepro.errors import SpecificationError, StateError
from mtrepro.lineage import WEIGHTS, missing, weights_digest
from mtrepro.methods import LeavesWeights, Weights
from mtrepro.paths import shown

if TYPE_CHECKING:
    from mtrepro.specification import SourceRun, Specification
    from mtrepro.training import Trainer

SCHEMA_VERSION = 1


class Sources(NamedTuple):
    """What a run learns from, by what it is to the run."""

    weights: dict[str, Weights]
    record: dict[str, dict[str, str]]  # for run.json: name of the run, digest of the file


def packed(trainer: Trainer) -> bytes:
    """The weights of a run at its end; equal runs give equal bytes.

    Raises:
        SpecificationError: its method leaves none.
    """
    specification, method = trainer.specification, trainer.method
    if not isinstance(method, LeavesWeights):
        raise SpecificationError(
            f"--keep weights: {specification.method} leaves no weights that another run could learn from"
        )
    groups = {group: _on_cpu(named) for group, named in method.weights().items()}
    content = {
        "schema_version": SCHEMA_VERSION,
        "specification_digest": specification.digest(),
        "diverged": trainer.diverged,
        "weights": groups,
    }
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def read_sources(results: Path, specification: Specification) -> Sources:
    """What the sources of a run left, in the folder of each in `results`.

    Raises:
        MtreproError: there is nothing yet.
        StateError: a file is damaged, holds more than data, or is of another run.
        SpecificationError: a source has diverged.
    """
    found = {role: _read(results / source.run, source) for role, source in specification.sources.items()}
    return Sources(
        {role: weights for role, (weights, _) in found.items()},
        {role: {"run": specification.sources[role].run, "weights": digest} for role, (_, digest) in found.items()},
    )


def digest_of(content: bytes) -> str:
    """SHA-256 of the file."""
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path, source: SourceRun) -> tuple[Weights, str]:
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError:
        raise missing(folder) from None
    digest = digest_of(content)
    if weights_digest(folder) != digest:
        raise StateError(
            f"{shown(path)}: damaged, or not the weights of which run.json beside it speaks\n"
            "  remove it; `snakemake runs` trains the source again"
        )
    try:
        left: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        whose, diverged, weights = left["specification_digest"], left["diverged"], left["weights"]
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, TypeError) as error:
        raise StateError(
            f"{shown(path)}: no weights of a run ({type(error).__name__}); nothing of it was executed\n"
            "  mtrepro writes no such file: find out where it comes from, and remove it to train the source again"
        ) from error
    if whose != source.digest:
        raise StateError(
            f"{shown(path)}: of another specification\n  found:    {whose}\n  expected: {source.digest}\n"
            "  somebody moved files there; remove the folder, and `snakemake runs` trains the source again"
        )
    if diverged:
        raise SpecificationError(f"{shown(path)}: its run diverged ({diverged}): there is nothing to learn from it")
    return weights, digest


def _on_cpu(named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}
