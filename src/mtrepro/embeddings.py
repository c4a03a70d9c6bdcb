"""Task embeddings: a frozen vector for each task, made from its description, for methods that read what a task says.

Each file config/embeddings/NAME.json holds one embedding. This module reads them and knows no model: `mtrepro.embed`
makes the files, so that an edit there makes no finished run stale. Vectors belong to names, never to positions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mtrepro.errors import SpecificationError
from mtrepro.paths import root, shown
from mtrepro.validation import nearest, validate

PAGE = "docs/embeddings.md"
DIGITS = 12  # hexadecimal digits of a reference's digest
LEARNED = "learned"  # in the place of a name: a table that is learned from nothing
PUBLISHED = {
    "c5277a08c4c5": "MT10",
    "afb3dbabcc39": "MT50",
}  # mtrl's RoBERTa files, as `mtrepro embed --import` has them


class Embedding(BaseModel):
    """One file in config/embeddings/: the vectors, and where they come from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = Field(description="version of this file format")
    name: str = Field(description="name of the embedding, which is the file's too")
    model: str = Field(description="the text model that made the vectors")
    how: str = Field(description="pooling and scaling, in words")
    width: int = Field(ge=1, description="numbers per vector")
    package: str | None = Field(description="installed package that made the vectors; null for imported ones")
    version: str | None = Field(description="version of that package")
    descriptions: str | None = Field(description="SHA-256 of the descriptions used; null where they are not known")
    vectors: dict[str, list[float]] = Field(description="task without version suffix: its vector")


def resolve(reference: str) -> str:
    """'name' or 'name@digest' as 'name@digest', so that a specification holds exactly which vectors its run used.

    Raises:
        ValueError: there is no such embedding, or it is no longer the one that the digest names.
        SpecificationError: the embedding's file cannot be meant as written.
    """
    name, _, wanted = reference.partition("@")
    found = digest(load(name))
    if wanted and wanted != found:
        raise ValueError(
            f"embedding {name!r}: the file has changed since the reference was written: "
            f"the reference says {wanted}, {_shown(name)} is {found}\n"
            f"  write `{name}` or `{name}@{found}` to use the file as it is, or bring the old file back "
            f"(`git log -- {_shown(name)}`)\n  see {PAGE}"
        )
    return f"{name}@{found}"


def task_vectors(reference: str, tasks: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of `tasks`, in their order.

    Args:
        tasks: names with or without a version suffix: reach-v3 and reach are one task.

    Returns:
        Shape (tasks, width), as the file has them: not scaled.

    Raises:
        SpecificationError: the reference does not resolve, or a task has no vector.
    """
    embedding = _resolved(reference)
    if missing := missing_tasks(reference, tasks):
        near = nearest(task_key(missing[0]), embedding.vectors)
        raise SpecificationError(
            f"{_shown(embedding.name)}: no vector for {len(missing)} of {len(tasks)} tasks: "
            f"{', '.join(missing)}{near}\n"
            f"  choose an embedding that has them, or add their descriptions and make one\n  see {PAGE}"
        )
    rows = [embedding.vectors[task_key(task)] for task in tasks]
    return np.array(rows, dtype=np.float32).reshape(len(tasks), embedding.width)


def missing_tasks(reference: str, tasks: Iterable[str]) -> list[str]:
    """Those of `tasks`, as they are written, that the embedding has no vector for."""
    vectors = _resolved(reference).vectors
    return [task for task in tasks if task_key(task) not in vectors]


def is_published(reference: str) -> bool:
    """Whether the vectors are mtrl's, which the printed CARE numbers were made with; runs on others do not compare."""
    return digest(_resolved(reference)) in PUBLISHED


def task_key(task: str) -> str:
    """A task's name without Meta-World's version suffix: reach-v3 -> reach."""
    return re.sub(r"-v\d+$", "", task)


def digest(embedding: Embedding) -> str:
    """The first digits of the SHA-256 of what a run can see: width and vectors."""
    return digest_of({"width": embedding.width, "vectors": embedding.vectors})[:DIGITS]


def digest_of(content: Any) -> str:
    """The SHA-256 of content's canonical JSON: sorted keys, no blanks."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder() -> Path:
    """Where embeddings lie."""
    return root() / "config" / "embeddings"


def known() -> list[str]:
    """The names of all embeddings."""
    return sorted(path.stem for path in folder().glob("*.json"))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        SpecificationError: it cannot be read, is not UTF-8 text or JSON, or gives a key twice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise SpecificationError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecificationError(f"{shown(path)}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise SpecificationError(f"{shown(path)}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except _TwiceError as error:
        raise SpecificationError(f"{shown(path)}: key {error.args[0]!r} is given twice; keep one") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists without end
        raise SpecificationError(f"{shown(path)}: not JSON that can be read: {error}") from None


def check_vectors(where: str, vectors: dict[str, list[float]], width: int, why: str) -> None:
    """Refuse vectors that are none.

    Args:
        where: the file, as messages show it.
        why: who says that vectors are `width` wide.

    Raises:
        SpecificationError: there is no vector, one has another width, or a number is not finite.
    """
    if not vectors:
        raise SpecificationError(f"{where}: holds no vector; expected task names with a list of numbers each")
    for task, vector in vectors.items():
        if len(vector) != width:
            raise SpecificationError(
                f"{where}: the vector of task {task!r} has {len(vector)} numbers, {why} {width}\n"
                "  every vector must be as wide as the others: mend or restore the file"
            )
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.array(vector, dtype=np.float32))
        if not finite.all():
            position = int(np.argmin(finite))
            raise SpecificationError(
                f"{where}: number {position} (from 0) in the vector of task {task!r} is {vector[position]}, "
                "not a finite 32-bit number\n  mend or restore the file"
            )


class _TwiceError(Exception):
    """A key that a JSON object gives twice: the second would silently win."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return content


def _resolved(reference: str) -> Embedding:
    try:
        return load(resolve(reference).partition("@")[0])
    except ValueError as error:
        raise SpecificationError(str(error)) from None


def load(name: str) -> Embedding:
    """The embedding of this name.

    Raises:
        ValueError: there is none.
        SpecificationError: its file cannot be meant as written.
    """
    names = known()
    if name not in names:  # also keeps a path out: only what lies in the folder can be named
        raise ValueError(
            f"unknown embedding {name!r}\n  known: {', '.join(names) or 'none'}{nearest(name, names)}\n  see {PAGE}"
        )
    path = folder() / f"{name}.json"
    stamp = path.stat()
    return read_embedding(path, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=32)
def read_embedding(path: Path, modified: int, size: int) -> Embedding:
    """The embedding in a file, read again when the file's time or size is another.

    Raises:
        SpecificationError: the file cannot be meant as written.
    """
    where, content = shown(path), read_json(path)
    if not isinstance(content, dict):
        raise SpecificationError(f"{where}: expected a JSON object, found {type(content).__name__}\n  see {PAGE}")
    embedding = validate(Embedding, content, where, PAGE)
    if embedding.name != path.stem:
        raise SpecificationError(f"{where}: the name inside is {embedding.name!r}; name the file {embedding.name}.json")
    check_vectors(where, embedding.vectors, embedding.width, "`width` says")
    for task in embedding.vectors:
        if task != task_key(task):
            raise SpecificationError(f"{where}: task {task!r} has a version suffix; write {task_key(task)!r}")
    return embedding


def _shown(name: str) -> str:
    return shown(folder() / f"{name}.json")
