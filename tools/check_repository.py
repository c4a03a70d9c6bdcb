"""Checks that no other tool makes: the lock fits pyproject.toml and has no address; no file or function is too long.

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
from packaging.utils import canonicalize_name

FILE_LINES, FUNCTION_LINES = 300, 50
CODE = ("src", "tests", "tools", "workflow")


def main() -> int:
    """Print every mistake; the exit status is 1 where there is one."""
    mistakes = [*lock_mistakes(), *size_mistakes()]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return int(bool(mistakes))


def lock_mistakes() -> Iterator[str]:
    """Requirements that requirements.lock does not meet; lines in it without a hash, or with an address."""
    text = Path("requirements.lock").read_text(encoding="utf-8")
    if "://" in text:
        yield "requirements.lock: holds an address; `make lock` writes none"
    entries = re.split(r"\n(?=\S)", text)
    locked: dict[str, str] = {}
    for entry in entries:
        found = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", entry)
        if found is None:
            continue
        locked[canonicalize_name(found[1])] = found[2]
        if "--hash=sha256:" not in entry:
            yield f"requirements.lock: {found[1]} has no hash; run `make lock`"
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups.extend(project["project"]["optional-dependencies"].values())
    for requirement in map(Requirement, sorted({text for group in groups for text in group})):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or version not in requirement.specifier:
            yield f"requirements.lock: {version or 'nothing'} for `{requirement}` of pyproject.toml; run `make lock`"


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
