"""The source digest: a fingerprint of exactly the code that a run's result depends on.

It covers the import closure, inside this package, of the training loop, the run's method and its benchmark, each by its
syntax tree, so that comments, docstrings and layout do not count; and the installed versions of the packages that
the numbers come from. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrepro.errors import SpecificationError
from mtrepro.paths import PACKAGE, shown

ALWAYS = ("numpy", "torch")  # packages that every run's numbers come from
NOT_INSTALLED = "not installed"  # the version of a package that is not there
ONLY_WORDS = {"mtrepro.errors", "mtrepro.paths", "mtrepro.validation"}  # they refuse and explain; no number passes them


@dataclass(frozen=True)
class Source:
    """What a run's code was: the digest of each module and the version of each package."""

    modules: dict[str, str]
    packages: dict[str, str]

    def digest(self) -> str:
        """One SHA-256 over all of it."""
        text = json.dumps([self.modules, self.packages], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def installed(self, packages: Mapping[str, str]) -> Source:
        """The same code where `packages` are what is installed, such as in an image."""
        return Source(self.modules, {name: packages.get(name, NOT_INSTALLED) for name in self.packages})

    def differences(self, other: dict[str, Any]) -> list[str]:
        """The modules and packages in which `other` (as stored by `as_dict`) is not this one."""
        mine, theirs = {**self.modules, **self.packages}, {**other.get("modules", {}), **other.get("packages", {})}
        return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))

    def as_dict(self) -> dict[str, Any]:
        """For a file or a checkpoint."""
        return {"modules": self.modules, "packages": self.packages}


@functools.lru_cache
def run_source(method: str, family: str) -> Source:
    """The source of a run with this method and benchmark family."""
    benchmark = f"mtrepro.benchmarks.{family}"
    modules = closure(("mtrepro.training", "mtrepro.results", f"mtrepro.methods.{method}", benchmark))
    packages = (*ALWAYS, *_packages_of(benchmark))
    return Source(modules, {name: _version(name) for name in sorted(packages)})


def module_digest(module: str) -> str:
    """The digest of one module's import closure: what a table or a figure was made by."""
    return Source(closure((module,)), {}).digest()


def closure(modules: Iterable[str]) -> dict[str, str]:
    """The digests of `modules` and of everything in this package that they import, directly or not."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and module not in ONLY_WORDS:
            found[module], imported = _read(module)
            waiting.extend(imported)
    return dict(sorted(found.items()))


@functools.lru_cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """The digest of one module and the modules of this package that it imports."""
    path = _file_of(module)
    if path is None:
        raise SpecificationError(f"{module}: there is no such module in {shown(PACKAGE)}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise SpecificationError(f"{shown(path)}:{error.lineno}: not valid Python: {error.msg}") from None
    tree = _WithoutWords().visit(tree)
    imported = {name for node in ast.walk(tree) for name in _imports(node) if _file_of(name)}
    imported |= {parent for name in (module, *imported) for parent in _parents(name)}
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(imported))


class _WithoutWords(ast.NodeTransformer):
    """Drop docstrings, fields' descriptions and what only a type checker sees: they change no result."""

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
        return super().visit(node)

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(other) for other in node.orelse] or ast.Pass()
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        return self.generic_visit(node)


def _parents(module: str) -> list[str]:
    """The packages that Python runs before a module: a.b.c -> a, a.b."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.ImportFrom) and node.level:
        raise SpecificationError(f"relative import at line {node.lineno}: write the whole name, mtrepro.…")
    return []


def _file_of(module: str) -> Path | None:
    if module.split(".")[0] != "mtrepro":
        return None
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _packages_of(module: str) -> tuple[str, ...]:
    """The literal PACKAGES of a benchmark family."""
    path = _file_of(module)
    assert path is not None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and getattr(target, "id", None) == "PACKAGES":
            assert node.value is not None
            return tuple(ast.literal_eval(node.value))
    return ()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
