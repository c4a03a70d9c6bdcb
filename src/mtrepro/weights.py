"""The file that a run leaves for others to learn from, and for its pictures: every parameter, and whose it is.

Parameters stand by group and name as the method gives them to others (`LeavesWeights`). What a Dreamer plays with
besides, such as the codes of its tasks, stands in a group `mind/<index>` for each mind.
"""

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
from mtrepro.methods import LeavesWeights, Method, Weights
from mtrepro.paths import shown
from mtrepro.specification import leaves_weights
from mtrepro.world_model.acting import Acting

if TYPE_CHECKING:
    from mtrepro.specification import SourceRun, Specification
    from mtrepro.training import Trainer

SCHEMA_VERSION = 1
NOT_KEPT = "behaviour.slow_critic."  # copies of the critic, which only learning needs


class Sources(NamedTuple):
    """What a run learns from, by what it is to the run."""

    weights: dict[str, Weights]
    record: dict[str, dict[str, str]]  # for run.json: name of the run, digest of the file


class Left(NamedTuple):
    """What a run left."""

    weights: Weights
    digest: str  # SHA-256 of the file
    diverged: str | None  # why, where the run did


def packed(trainer: Trainer) -> bytes:
    """The weights of a run at its end; equal runs give equal bytes.

    Raises:
        SpecificationError: its method leaves none.
    """
    specification = trainer.specification
    groups = {group: _on_cpu(named) for group, named in kept(specification.method, trainer.method).items()}
    content = {
        "schema_version": SCHEMA_VERSION,
        "specification_digest": specification.digest(),
        "diverged": trainer.diverged,
        "weights": groups,
    }
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def kept(name: str, method: Method) -> Weights:
    """The parameters themselves that the file of a run of this method holds, by group and name.

    Raises:
        SpecificationError: the method leaves none.
    """
    groups: dict[str, Mapping[str, torch.Tensor]] = {}
    if leaves_weights(name) and isinstance(method, LeavesWeights):
        groups |= method.weights()
    elif not isinstance(method, Acting):
        raise SpecificationError(f"{name} leaves no weights: nothing could learn from them, or show what they see")
    there = {id(parameter) for named in groups.values() for parameter in named.values()}
    for index, mind in enumerate(method.minds if isinstance(method, Acting) else ()):
        named = {name: p for name, p in mind.named_parameters() if not name.startswith(NOT_KEPT) and id(p) not in there}
        there |= {id(parameter) for parameter in named.values()}
        groups |= {f"mind/{index}": named} if named else {}
    return groups


@torch.no_grad()
def put(name: str, method: Method, left: Weights, where: str) -> None:
    """Give a method the parameters that a run of it left; all fit, or none is touched.

    Args:
        where: what messages call the file.

    Raises:
        StateError: groups, names or shapes are not those of the method; names the first that differs.
    """
    mine = kept(name, method)
    for group in sorted({*mine, *left}):
        here, there = mine.get(group, {}), left.get(group, {})
        for each in sorted({*here, *there}):
            shapes = [tuple(its[each].shape) if each in its else None for its in (here, there)]
            if shapes[0] != shapes[1]:
                needed, found = ("nothing" if shape is None else shape for shape in shapes)
                raise StateError(
                    f"{where}: group {group}, {each}: {needed} here, {found} in the file\n"
                    "  other code left it; remove the file, and the run goes without pictures, or is trained again\n"
                    "  where you ask Snakemake for the file"
                )
    for group, its in mine.items():
        for each, parameter in its.items():
            parameter.copy_(left[group][each])


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


def read_weights(folder: Path, specification_digest: str) -> Left:
    """What the run in a folder left.

    Raises:
        MtreproError: there is nothing yet.
        StateError: the file is damaged, holds more than data, or is of another run.
    """
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError:
        raise missing(folder) from None
    digest = digest_of(content)
    if weights_digest(folder) != digest:
        raise StateError(
            f"{shown(path)}: damaged, or not the weights of which run.json beside it speaks\n"
            "  remove it; `snakemake runs` trains a run again from which others learn"
        )
    try:
        left: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        whose, diverged, weights = left["specification_digest"], left["diverged"], left["weights"]
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, TypeError) as error:
        raise StateError(
            f"{shown(path)}: no weights of a run ({type(error).__name__}); nothing of it was executed\n"
            "  mtrepro writes no such file: find out where it comes from, and remove it to train its run again"
        ) from error
    if whose != specification_digest:
        raise StateError(
            f"{shown(path)}: of another specification\n  found:    {whose}\n  expected: {specification_digest}\n"
            "  somebody moved files there; remove the folder, and `snakemake runs` trains its run again"
        )
    return Left(weights, digest, diverged)


def _read(folder: Path, source: SourceRun) -> tuple[Weights, str]:
    left = read_weights(folder, source.digest)
    if left.diverged:
        raise SpecificationError(
            f"{shown(folder / WEIGHTS)}: its run diverged ({left.diverged}): there is nothing to learn from it"
        )
    return left.weights, left.digest


def _on_cpu(named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}
