"""Find a benchmark family by its name: a file of this folder that defines `Benchmark`. No list is kept."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pydantic import BaseModel

from mtrepro import validation
from mtrepro.benchmarks import Benchmark

PAGE = "docs/adding-a-benchmark.md"


@functools.lru_cache
def families() -> tuple[str, ...]:
    """Every family there is: the files of this folder with a class `Benchmark`. Nothing is imported to find out."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    return tuple(path.stem for path in paths if not path.stem.startswith("_") and _defines_benchmark(path))


def load_family(family: str, where: str = "benchmark") -> ModuleType:
    """The module `benchmarks/<family>.py`.

    Args:
        where: the file and key that asked for it, for the message.

    Raises:
        SpecificationError: there is no such family; names the known ones and the nearest.
    """
    if family not in families():
        raise validation.unknown(f"{where}.family", "benchmark family", family, families(), PAGE)
    return importlib.import_module(f"mtrepro.benchmarks.{family}")


def load_benchmark(family: str, settings: Mapping[str, Any] | BaseModel, seed: int, stock: bool = False) -> Benchmark:
    """The benchmark of a family with these settings and the run's seed.

    Args:
        stock: step the simulator's own environments where the family has faster ones with the same bits.

    Raises:
        SpecificationError: unknown family, or settings that it refuses.
    """
    module = load_family(family)
    if not isinstance(settings, BaseModel):
        settings = validation.validate(module.Settings, settings, "benchmark", PAGE)
    made = cast(Benchmark, module.Benchmark(settings, seed))
    made.stock = stock
    return made


def _defines_benchmark(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return any(isinstance(node, ast.ClassDef) and node.name == "Benchmark" for node in tree.body)
