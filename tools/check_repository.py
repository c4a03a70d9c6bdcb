"""Checks that no other tool makes: locks are whole and fit pyproject.toml; no file or function is too long.

Usage: python tools/check_repository.py, from the root of the checkout. Needs no network.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from mtrepro.lock import normalised, read_lock

FILE_LINES, FUNCTION_LINES = 300, 50
CODE = ("src", "tests", "tools", "workflow")


def main() -> int:
    """Print every mistake; the exit status is 1 where there is one."""
    mistakes = [*lock_mistakes(), *size_mistakes()]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return int(bool(mistakes))


def lock_mistakes() -> Iterator[str]:
    """Lines of a lock that are not pinned with hashes, and what pyproject.toml asks for and requirements.lock lacks."""
    lock = read_lock(Path("requirements.lock"))
    for mistake in (*lock.mistakes, *read_lock(Path("tools/uv.txt")).mistakes):
        yield f"{mistake}; run `make lock`"
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups.extend(project["project"]["optional-dependencies"].values())
    for requirement in map(Requirement, sorted({text for group in groups for text in group})):
        version = lock.versions.get(normalised(requirement.name))
        if version is None:
            yield f"requirements.lock: nothing for `{requirement}` of pyproject.toml; run `make lock`"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"requirements.lock: {version} is outside `{requirement}` of pyproject.toml; run `make lock`"
    yield from group_mistakes(project.get("dependency-groups", {}), lock.versions)


def group_mistakes(groups: dict[str, list[str]], locked: dict[str, str]) -> Iterator[str]:
    """What of a dependency group, which no lock covers, is not one version; or is another one than a lock has."""
    for name, texts in groups.items():
        for requirement in map(Requirement, texts):
            where = f"pyproject.toml: dependency-groups.{name}: `{requirement}`"
            version = locked.get(normalised(requirement.name))
            if not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
                yield f"{where} is not pinned; write name==version, because no lock covers the groups"
            elif version is not None and version not in requirement.specifier:
                yield f"{where}, but requirements.lock has {version}; let them be the same"


def size_mistakes() -> Iterator[str]:
    """Files over 300 lines and functions over 50: usually two things in one."""
    listed = subprocess.run(["git", "ls-files", *CODE], check=True, capture_output=True, text=True).stdout
    for path in map(Path, listed.split()):
        if path.is_symlink() or not path.is_file() or path.suffix not in (".py", ".smk"):
            continue
        text = path.read_text(encoding="utf-8")
        if (count := text.count("\n")) > FILE_LINES:
            yield f"{path}: {count} lines; more than {FILE_LINES} is usually two files"
        if path.suffix == ".py":
            yield from _long_functions(path, ast.parse(text))


def _long_functions(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {count} lines; more than {FUNCTION_LINES} is usually two"


if __name__ == "__main__":
    sys.exit(main())
