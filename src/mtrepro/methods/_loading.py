"""Finding a method by its name: no list is kept."""

from __future__ import annotations

import importlib
from typing import Any, cast

from mtrepro.methods import Method, Problem


def class_name(method: str) -> str:
    """The class that a method's file must define: mt_sac -> MtSac."""
    return "".join(part.capitalize() for part in method.split("_"))


def load_method(method: str) -> type[Method]:
    """The class of a method."""
    module = importlib.import_module(f"mtrepro.methods.{method}")
    return cast(type[Method], getattr(module, class_name(method)))


def make_method(method: str, settings: dict[str, Any], problem: Problem, seed: int, device: Any) -> Method:
    """A method with these settings, which have been validated before."""
    module = importlib.import_module(f"mtrepro.methods.{method}")
    return load_method(method)(module.Settings.model_validate(settings), problem, seed, device)
