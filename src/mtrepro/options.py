"""How a run is carried out: what the command line of `mtrepro train` chooses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from mtrepro.errors import MtreproError
from mtrepro.lineage import has_pictures
from mtrepro.specification import leaves_weights


@dataclass(frozen=True)
class Options:
    """How a run is carried out; nothing here changes its results, save what belongs to the machine."""

    threads: int = 1
    workers: int = 0
    device: str = "auto"
    checkpoint_seconds: float = 60.0
    log: Path | None = None  # of several runs the folder, with a file for each
    label: str | None = None  # what progress lines call the run; the run's name if None; of several runs the arm
    wait: bool = False  # where another process holds the run, wait until it is over instead of leaving
    other_machine: bool = False  # resume with other threads, processor or device; marked as not bit-exact
    keep: str = "results"  # or "weights": leave those too, for runs that learn from this one; or "pictures": see below
    simulator: str = "fast"  # or "stock": the simulators' own environments; the same bits


def is_stock(simulator: str) -> bool:
    """Whether the simulators' own environments are asked for.

    Raises:
        MtreproError: there is no such choice.
    """
    if simulator not in ("fast", "stock"):
        raise MtreproError(f"--simulator {simulator}: unknown simulator\n  known: fast, stock")
    return simulator == "stock"


def keeps_weights(keep: str, method: str) -> bool:
    """Whether the run shall leave its weights.

    `weights` are for others to learn from: a finished run that left none is trained again. `pictures` are the same
    file, from which a film of the run is played, and no reason to train anything: a finished run stays as it is.

    Raises:
        MtreproError: there is no such choice, or the method leaves none.
    """
    if keep not in ("results", "weights", "pictures"):
        raise MtreproError(f"--keep {keep}: nothing that a run can leave\n  known: results, weights, pictures")
    if keep == "weights" and not leaves_weights(method):
        raise MtreproError(f"--keep weights: {method} leaves nothing that another run could learn from")
    if keep == "pictures" and not has_pictures(method):
        raise MtreproError(f"--keep pictures: {method} learns no model of pictures, so there are none to show")
    return keep != "results"


def chosen_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        MtreproError: there is no such name, or no GPU where one is asked for.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise MtreproError(f"--device {name}: unknown device\n  known: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MtreproError("--device cuda: torch finds no GPU here; see that the driver works, or use --device cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))
