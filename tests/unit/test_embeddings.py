"""Task embeddings: names, never positions; a digest that any number changes; and what every slip says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import AfterValidator, BaseModel

from mtrepro import embed, embeddings
from mtrepro.benchmarks.metaworld_tasks import MT50
from mtrepro.errors import SpecificationError
from mtrepro.source import closure
from tests.unit.embedding_fixture import SEE, SHIPPED, SMALL, imported, message, own_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embeddings folder of its own with the real descriptions and no embedding."""
    return own_folder(tmp_path, monkeypatch)


def test_the_shipped_embedding_covers_every_task_and_is_made_from_todays_descriptions() -> None:
    tasks = [*MT50, *(f"toy-{index}" for index in range(8))]
    assert embeddings.missing_tasks(SHIPPED, tasks) == []
    vectors = embeddings.task_vectors(SHIPPED, tasks)
    assert vectors.shape == (58, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(vectors), axis=1)), 1.0, atol=1e-5)
    assert len({row.tobytes() for row in vectors}) == 58
    stored = embeddings.load(SHIPPED)
    assert set(stored.vectors) == set(embed.descriptions()) == {embeddings.task_key(task) for task in tasks}
    assert stored.descriptions == embeddings.digest_of(embed.descriptions())
    assert embed.text(stored).encode() == (embeddings.folder() / f"{SHIPPED}.json").read_bytes()
    assert not embeddings.is_published(SHIPPED)


def test_sentences_are_all_different() -> None:
    sentences = list(embed.descriptions().values())
    assert len(set(sentences)) == len(sentences) and all(sentence.endswith(".") for sentence in sentences)


def test_vectors_mean_what_the_sentences_say() -> None:
    door, other_door, ball = embeddings.task_vectors(SHIPPED, ["door-open", "door-close", "basketball"])
    assert door @ other_door > 2 * (door @ ball)


def test_vectors_follow_names_not_positions(folder: Path) -> None:
    imported("one", {"reach-v1": [1.0, 2.0], "push-v1": [3.0, 4.0], "sweep-v1": [5.0, 6.0]})
    imported("other", {"sweep": [5, 6], "reach-v2": [1, 2], "push-v3": [3, 4]})
    for name in ("one", "other"):
        vectors = embeddings.task_vectors(name, ["push-v3", "sweep", "reach-v2", "push-v1"])
        np.testing.assert_array_equal(vectors, [[3, 4], [5, 6], [1, 2], [3, 4]])
    assert embeddings.resolve("one")[-12:] == embeddings.resolve("other")[-12:]
    assert embeddings.task_vectors("one", []).shape == (0, 2)


def test_a_reference_resolves_to_itself_and_any_number_changes_it(folder: Path) -> None:
    imported()
    reference = embeddings.resolve("small")
    name, _, digest = reference.partition("@")
    assert name == "small" and len(digest) == 12 and set(digest) <= set("0123456789abcdef")
    assert embeddings.resolve(reference) == reference
    seen = {digest}
    for task in SMALL:
        for position in range(3):
            changed = {key: list(vector) for key, vector in SMALL.items()}
            changed[task][position] += 1e-6
            imported(content=changed, force=True)
            seen.add(embeddings.resolve("small")[-12:])
    assert len(seen) == 7
    imported(force=True)
    assert embeddings.resolve("small") == reference
    path = folder / "small.json"  # where it comes from is no part of what a run sees
    path.write_text(path.read_text().replace("imported number for number", "by hand"))
    assert embeddings.resolve("small") == reference


def test_a_changed_file_is_refused_with_both_digests(folder: Path) -> None:
    imported()
    old = embeddings.resolve("small")
    imported(content={**SMALL, "push-v1": [0, 0, 1]}, force=True)
    new = embeddings.resolve("small")
    said = (
        f"embedding 'small': the file has changed since the reference was written: the reference says {old[-12:]}, "
        f"config/embeddings/small.json is {new[-12:]}\n  write `small` or `{new}` to use the file as it is, or bring "
        "the old file back (`git log -- config/embeddings/small.json`)" + SEE
    )
    assert message(ValueError, lambda: embeddings.resolve(old)) == said
    assert message(SpecificationError, lambda: embeddings.task_vectors(old, ["reach"])) == said
    assert message(SpecificationError, lambda: embeddings.missing_tasks(old, ["reach"])) == said


def test_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    assert message(ValueError, lambda: embeddings.resolve("small")) == "unknown embedding 'small'\n  known: none" + SEE
    imported()
    said = "unknown embedding 'smal'\n  known: small (nearest: small)" + SEE
    assert message(ValueError, lambda: embeddings.resolve("smal")) == said
    assert message(SpecificationError, lambda: embeddings.is_published("smal")) == said
    assert "unknown embedding '../embeddings/small'" in message(
        ValueError, lambda: embeddings.resolve("../embeddings/small")
    )


def test_settings_hold_the_resolved_reference() -> None:
    class Settings(BaseModel):
        task_embedding: Annotated[str, AfterValidator(embeddings.resolve)]

    settings = Settings(task_embedding=SHIPPED)
    assert settings.task_embedding == embeddings.resolve(SHIPPED)
    assert Settings.model_validate(settings.model_dump()) == settings
    with pytest.raises(ValueError, match="unknown embedding 'gt-all'"):
        Settings(task_embedding="gt-all")


def test_a_task_without_a_vector_is_named(folder: Path) -> None:
    imported()
    assert embeddings.missing_tasks("small", ["reach-v3", "rech-v3", "sweep"]) == ["rech-v3", "sweep"]
    assert message(SpecificationError, lambda: embeddings.task_vectors("small", ["rech-v3", "push"])) == (
        "config/embeddings/small.json: no vector for 1 of 2 tasks: rech-v3 (nearest: reach)\n"
        "  choose an embedding that has them, or add their descriptions and make one" + SEE
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"vectors": {"reach": [1.0, 2.0, 3.0], "push": [1.0]}},
            "the vector of task 'push' has 1 numbers, `width` says 3\n"
            "  every vector must be as wide as the others: mend or restore the file",
        ),
        (
            {"vectors": {"reach": [1.0, 1e39, 3.0]}},
            "number 1 (from 0) in the vector of task 'reach' is 1e+39, not a finite 32-bit number\n"
            "  mend or restore the file",
        ),
        ({"vectors": {}}, "holds no vector; expected task names with a list of numbers each"),
        ({"vectors": {"reach-v3": [1.0, 2.0, 3.0]}}, "task 'reach-v3' has a version suffix; write 'reach'"),
        ({"name": "tiny"}, "the name inside is 'tiny'; name the file tiny.json"),
    ],
)
def test_a_damaged_file_is_refused(folder: Path, changed: dict[str, Any], said: str) -> None:
    imported()
    path = folder / "small.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert message(SpecificationError, lambda: embeddings.resolve("small")) == f"config/embeddings/small.json: {said}"


def test_reading_embeddings_needs_no_torch_and_no_code_that_makes_them() -> None:
    assert list(closure(["mtrepro.embeddings"])) == ["mtrepro", "mtrepro.embeddings"]
    words = "import sys, mtrepro.embeddings; print({'torch', 'transformers', 'mtrepro.embed'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
