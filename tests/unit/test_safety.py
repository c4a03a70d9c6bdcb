"""Nothing that a file says is executed, and no name in a configuration leads out of its folder."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import embed, paths
from mtrepro.analysis.aggregate import aggregate
from mtrepro.analysis.tensorboard import write_events
from mtrepro.benchmarks.loading import load_family
from mtrepro.errors import MtreproError, SpecificationError
from mtrepro.specification import load_specification
from mtrepro.study import load_study
from tests.conftest import toy_specification
from tests.unit.analysis_fixture import FakeStudy
from tests.unit.test_specification import STUDY

OUTSIDE = (
    "..",
    "../runs",
    "a/../../b",
    "/etc/passwd",
    "//host/share",
    "a\0b",
    "a\nb",
    "runs\n",
    "",
    ".",
    "./",
    ".hidden",
    "-option",
    "a b",
    "a;b",
    "$HOME",
    "~",
    "{run}",
    "..\\x",
)
KEYS = ("study", "results", "results inside", "benchmark", "benchmark.name", "arm", "method", "cell", "task_embedding")


def study_with(key: str, value: str) -> dict[str, Any]:
    """A study in which one key that ends in a path has this value."""
    care = {"method": "care", "settings": {"task_embedding": value}}
    cell = {"cell": f"{value}/mt10-2m-care", "arm": "mt-sac", "column": "final"}
    changed: dict[str, dict[str, Any]] = {
        "study": {"study": value},
        "results": {"results": value},
        "results inside": {"results": f"results/runs/{value}/x"},
        "benchmark": {"benchmark": value},
        "benchmark.name": {"benchmark": {"name": value}},
        "arm": {"arms": {value: {"method": "mt_sac"}}},
        "method": {"arms": {"mt-sac": {"method": value}}},
        "cell": {"published": [cell]},
        "task_embedding": {"arms": {"care": care}},
    }
    return STUDY | changed[key]


# results/runs//etc and results/runs/./etc are results/runs/etc
INSIDE = {("results inside", value) for value in OUTSIDE if value in ("", ".", "./") or value.startswith("/")}


@pytest.mark.parametrize(("key", "value"), [both for both in itertools.product(KEYS, OUTSIDE) if both not in INSIDE])
def test_no_name_in_a_study_leads_out_of_its_folder(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_with(key, value)))
    with pytest.raises(SpecificationError) as caught:
        load_study(path)
    said = str(caught.value)
    word = "arms" if key in ("arm", "method", "task_embedding") else key.split()[0].split(".")[0]
    assert said.startswith(f"{path}: {'published.0.cell' if key == 'cell' else word}"), said
    named = value.partition("/")[0] if key == "cell" else value  # before the slash stands the paper
    assert repr(named)[1:-1] in said, f"the value is not told: {said}"


@pytest.mark.parametrize("value", ["results/runs", "results//runs/", "results/./runs", "results/a/b.c-d_e"])
def test_a_folder_inside_results_is_taken_in_its_plain_form(tmp_path: Path, value: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"results": value}))
    results = load_study(path).results.as_posix()
    assert results in ("results/runs", "results/a/b.c-d_e")


@pytest.mark.parametrize("value", OUTSIDE, ids=repr)
def test_no_name_in_a_specification_leads_out_of_the_package(tmp_path: Path, value: str) -> None:
    path = tmp_path / "specification.yaml"
    content = toy_specification().model_dump(mode="json")
    for changed in ({"method": value}, {"benchmark": content["benchmark"] | {"family": value}}):
        path.write_text(yaml.safe_dump(content | changed))
        with pytest.raises(SpecificationError, match=r"unknown (method|benchmark family)"):
            load_specification(path)


@pytest.mark.parametrize("value", OUTSIDE, ids=repr)
def test_no_name_of_an_embedding_or_a_family_leads_out(tmp_path: Path, value: str) -> None:
    with pytest.raises(MtreproError, match="unknown benchmark family"):
        load_family(value)
    file = tmp_path / "vectors.json"
    file.write_text('{"reach": [1.0]}')
    if value:  # an empty --name is none
        with pytest.raises(MtreproError, match="cannot name an embedding"):
            embed.from_file(file, value)
        with pytest.raises(MtreproError, match="cannot name an embedding"):
            embed.from_model("a-model", value)


MANIFEST = [*itertools.product(("arm", "run", "runs_folder"), OUTSIDE)]
MANIFEST.remove(("runs_folder", ".."))  # where the runs of a study in work lie


@pytest.mark.parametrize(("key", "value"), MANIFEST)
def test_no_name_in_a_strangers_manifest_leads_out_of_the_studys_folder(tmp_path: Path, key: str, value: str) -> None:
    study = FakeStudy(tmp_path)
    path = study.write() / "manifest.json"
    content = study.manifest()
    {"arm": content["arms"][0], "run": content["arms"][0]["runs"][0], "runs_folder": content}[key][key] = value
    path.write_text(json.dumps(content))
    for read in (aggregate, write_events):
        with pytest.raises(MtreproError) as caught:
            read(study.study_folder, tmp_path / "output")
        assert str(caught.value).startswith(f"{path}: ") and f"{key}: " in str(caught.value)
    assert not (tmp_path / "output").exists()


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Every call in src/ with the name that is called, as written."""
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> Any:
    return next((ast.literal_eval(given.value) for given in call.keywords if given.arg == name), None)


def test_torch_and_numpy_load_data_and_never_code() -> None:
    loads = [(path, name, call) for path, name, call in calls() if name in ("torch.load", "np.load")]
    assert {path.name for path, name, _ in loads if name == "torch.load"} >= {"checkpoint.py"}
    for path, name, call in loads:
        wanted = ("weights_only", True) if name == "torch.load" else ("allow_pickle", False)
        assert keyword(call, wanted[0]) is wanted[1], f"{path}:{call.lineno}: {name} without {wanted[0]}={wanted[1]}"


def test_only_our_own_worker_processes_are_unpickled_and_yaml_is_loaded_safely() -> None:
    unpickling = {path.name for path, name, _ in calls() if re.fullmatch(r"(pickle|cloudpickle|dill)\.loads?", name)}
    assert unpickling == {"worker.py", "worker_process.py"}, "these read from a pipe that nobody else can write to"
    for path, name, call in calls():
        assert name not in ("yaml.unsafe_load", "yaml.full_load", "eval", "os.system"), f"{path}:{call.lineno}: {name}"
        assert name != "yaml.load" or keyword_name(call, "Loader") == "_Loader", f"{path}:{call.lineno}"
        assert keyword(call, "shell") is None, f"{path}:{call.lineno}: shell="
        assert keyword(call, "trust_remote_code") is None, f"{path}:{call.lineno}: trust_remote_code="


def keyword_name(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == name), None)


@pytest.mark.parametrize("line", (paths.PACKAGE.parents[1] / "tools/setup").read_text().splitlines())
def test_setup_installs_nothing_without_hashes(line: str) -> None:
    if re.search(r"\b(pip (install|sync)|get=\(install)", line) and not line.lstrip().startswith(("#", "say")):
        assert "--require-hashes" in line or "--no-deps" in line or '"${get[@]}"' in line, line
