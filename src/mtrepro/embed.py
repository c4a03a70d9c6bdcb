"""`mtrepro embed`: make a file in config/embeddings/, from a text model or from mtrl's format, or check one.

No run imports this module: an edit here makes no finished run stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtrepro import embeddings
from mtrepro.benchmarks.metaworld_tasks import MT50
from mtrepro.embeddings import PAGE, Embedding, check_vectors, task_key
from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.paths import shown
from mtrepro.validation import read_yaml, unknown

TOLERANCE = 1e-4  # of the stored vectors' root mean square: what other machines and library versions may differ by


def embed(model: str | None, file: Path | None, name: str | None, check: bool, force: bool) -> None:
    """Make an embedding and write it, or compare it with the file that is there.

    Args:
        model: a text model to run over config/embeddings/descriptions.yaml; or
        file: a JSON file in mtrl's format, {"reach-v1": [numbers], ...}.
        name: of the embedding; the model's or the file's where None.
        check: write nothing, compare.
        force: replace a file that holds something else.

    Raises:
        MtreproError: not one of model and file, both check and force, the model cannot be run, the check fails, or a
            file is in the way.
        SpecificationError: the file or the descriptions cannot be meant as written.
    """
    if check and force:
        raise MtreproError(
            f"embed: --check writes nothing, --force replaces a file: give one of the two, not both\n  see {PAGE}"
        )
    if (model is None) == (file is None):
        raise MtreproError(f"embed: give exactly one of --model NAME and --import FILE\n  see {PAGE}")
    made = from_model(model, name) if model is not None else from_file(Path(str(file)), name)
    path = embeddings.folder() / f"{made.name}.json"
    if check:
        print(compare(path, made))
    else:
        write(path, made, force)
        _tell(path, made)


def from_model(model: str, name: str | None = None) -> Embedding:
    """The vectors that a text model gives for the descriptions, scaled to a root mean square of one."""
    from mtrepro.embed_model import encode

    called = _valid_name(name or model.replace("/", "-"))
    texts = descriptions()
    encoded = encode(model, list(texts.values()))
    scaled = encoded.vectors / np.sqrt(np.mean(np.square(encoded.vectors), axis=1, keepdims=True))
    return Embedding(
        schema_version=1,
        name=called,
        model=model,
        how=encoded.how,
        width=scaled.shape[1],
        package=encoded.package,
        version=encoded.version,
        descriptions=embeddings.digest_of(texts),
        vectors={task: [float(f"{x:.6g}") for x in row] for task, row in zip(texts, scaled, strict=True)},
    )


def from_file(path: Path, name: str | None = None) -> Embedding:
    """The vectors of a JSON file in mtrl's format, number for number.

    Raises:
        SpecificationError: it is not such a file; the message names the task and what is wrong with its vector.
    """
    where, content = shown(path), embeddings.read_json(path)
    called = _valid_name(name or path.stem)
    if not isinstance(content, dict):
        raise SpecificationError(
            f"{where}: expected task names with a list of numbers each, found {_kind(content)}\n  see {PAGE}"
        )
    vectors = _named_vectors(where, content)
    first = next(iter(content), "")
    width = len(next(iter(vectors.values()), []))
    check_vectors(where, vectors, width, f"that of task {task_key(first)!r} has")
    known = embeddings.digest_of({"width": width, "vectors": vectors})[: embeddings.DIGITS] in embeddings.PUBLISHED
    return Embedding(
        schema_version=1,
        name=called,
        model="RoBERTa, as mtrl publishes it" if known else f"not known; imported from {path.name}",
        how="imported number for number, not scaled; how it was pooled is not known",
        width=width,
        package=None,
        version=None,
        descriptions=None,
        vectors=vectors,
    )


def descriptions() -> dict[str, str]:
    """Each task's sentence, by its name without version suffix.

    Raises:
        SpecificationError: config/embeddings/descriptions.yaml cannot be meant as written.
    """
    path = embeddings.folder() / "descriptions.yaml"
    content, where = read_yaml(path), shown(path)
    if set(content) != {"schema_version", "tasks"} or content["schema_version"] != 1:
        found = ", ".join(map(str, content)) or "nothing"
        raise SpecificationError(f"{where}: expected the keys `schema_version: 1` and `tasks`, found {found}")
    tasks = content["tasks"]
    if not isinstance(tasks, dict) or not tasks:
        raise SpecificationError(f"{where}: tasks: expected `task: sentence` lines, found {_kind(tasks)}")
    for task, sentence in tasks.items():
        if not isinstance(sentence, str) or not sentence.strip():
            raise SpecificationError(f"{where}: tasks.{task}: expected a sentence, found {_kind(sentence)}")
        if task_key(str(task)) != task:
            raise SpecificationError(f"{where}: tasks.{task}: write the name without its version suffix")
    return tasks


def text(embedding: Embedding) -> str:
    """The file of an embedding: one line for each field and for each task, so that a difference can be read."""
    head = embedding.model_dump(exclude={"vectors"})
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items()]
    rows = [f"    {json.dumps(task)}: {json.dumps(row)}" for task, row in embedding.vectors.items()]
    return "\n".join(["{", *lines, '  "vectors": {', ",\n".join(rows), "  }", "}"]) + "\n"


def write(path: Path, made: Embedding, force: bool) -> None:
    """Put an embedding's file in place, unless another one stands there.

    Raises:
        MtreproError: a file with other content is there and `force` is not given.
    """
    new = text(made)
    if path.exists() and path.read_bytes() != new.encode() and not force:
        raise MtreproError(
            f"{shown(path)}: there already, with other content; nothing was written\n"
            "  give another --name, or --force to replace it: a specification that names its digest is refused then"
        )
    write_atomically(path, new)


def compare(path: Path, made: Embedding) -> str:
    """A line that says that the stored embedding is this one.

    Raises:
        MtreproError: it is not; the message says where they differ.
    """
    if not path.exists():
        raise MtreproError(f"{shown(path)}: there is no such file to check; run without --check to make it")
    stored = embeddings.load(made.name)
    mend = "\n  nothing was written; run with --force instead of --check to replace the file"
    if stored.vectors.keys() != made.vectors.keys():
        tasks = ", ".join(sorted(stored.vectors.keys() ^ made.vectors.keys()))
        raise MtreproError(f"{shown(path)}: other tasks than now: {tasks}{mend}")
    if stored.width != made.width:
        raise MtreproError(f"{shown(path)}: {stored.width} numbers per vector, now {made.width}{mend}")
    if stored.descriptions != made.descriptions:
        raise MtreproError(f"{shown(path)}: made from other descriptions than descriptions.yaml holds{mend}")
    before, now = (np.array([e.vectors[task] for task in stored.vectors]) for e in (stored, made))
    differences = np.abs(before - now).max(axis=1) / max(float(np.sqrt(np.mean(np.square(before)))), 1e-30)
    worst = int(np.argmax(differences))
    if not differences[worst] <= TOLERANCE:
        task = list(stored.vectors)[worst]
        raise MtreproError(
            f"{shown(path)}: the vector of task {task!r} differs by {differences[worst]:.2g} of the vectors' root mean "
            f"square, more than {TOLERANCE:g}{mend}"
        )
    same = "the same bytes" if path.read_bytes() == text(made).encode() else "not the same bytes"
    return (
        f"{shown(path)}: {len(made.vectors)} vectors, {made.width} wide, are as made now\n"
        f"  largest difference {differences[worst]:.2g} of their root mean square (at most {TOLERANCE:g}); {same}"
    )


def _tell(path: Path, made: Embedding) -> None:
    print(f"{shown(path)}: {len(made.vectors)} vectors, {made.width} wide")
    missing = [task_key(task) for task in MT50 if task_key(task) not in made.vectors]
    if missing:
        print(f"warning: {len(missing)} of Meta-World's 50 tasks have no vector: {', '.join(missing)}")
    if embeddings.digest(made) not in embeddings.PUBLISHED:
        print("not mtrl's vectors: runs on them are not comparable with printed CARE numbers")
    print(f"reference: {embeddings.resolve(made.name)}")
    print(f"in a study: settings: {{task_embedding: {made.name}}}")


def _named_vectors(where: str, content: Mapping[str, Any]) -> dict[str, list[float]]:
    names, vectors = descriptions(), dict[str, list[float]]()
    for given, vector in content.items():
        task = task_key(given)
        if task not in names:
            raise unknown(where, "task", given, names, "config/embeddings/descriptions.yaml, where tasks are added")
        if task in vectors:
            raise SpecificationError(f"{where}: task {task!r} has two vectors, {given!r} is the second; keep one")
        if vector == []:
            raise SpecificationError(f"{where}: task {given!r}: the list is empty; expected its vector's numbers")
        if not isinstance(vector, list):
            raise SpecificationError(f"{where}: task {given!r}: expected a list of numbers, found {_kind(vector)}")
        for position, number in enumerate(vector):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise SpecificationError(
                    f"{where}: task {given!r}: expected a number at position {position} (from 0), found {_kind(number)}"
                )
        vectors[task] = [float(f"{number}") for number in vector]  # through text: a huge whole number becomes infinite
    return vectors


def _valid_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise MtreproError(
            f"embed: {name!r} cannot name an embedding; give a --name of letters, digits, dots, dashes and underscores"
        )
    return name


def _kind(value: Any) -> str:
    plain = {dict: "an object", list: "a list", str: f"the text {value!r}", bool: f"{value}", type(None): "nothing"}
    return plain.get(type(value), f"the number {value}")
