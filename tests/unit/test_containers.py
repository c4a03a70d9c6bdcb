"""What pins the images, and when another image makes a run stale; the images themselves are tests/cluster's."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mtrepro import images
from mtrepro.errors import MtreproError
from mtrepro.source import run_source
from mtrepro.workflow import Study

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"
STUDY = str(ROOT / "config/studies/closing.yaml")
APPTAINER = ["apptainer"]  # as `--sdm apptainer` arrives
HEX = "0" * 64


def locked(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> version and hashes of every entry of a lock."""
    entries = re.findall(r"^([\w.-]+)==([^\s;\\]+)((?:.*\n)(?:    --hash=.*\n?)*)", path.read_text(), re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"sha256:\w{64}", rest))) for name, version, rest in entries}


@pytest.mark.parametrize("name", images.IMAGES)
def test_an_images_lock_is_part_of_the_lock_at_the_same_versions_and_hashes(name: str) -> None:
    whole, part = locked(ROOT / "requirements.lock"), locked(CONTAINERS / f"{name}.lock")
    assert len(part) > 20 and all(hashes for _, hashes in part.values())
    assert {package: whole.get(package) for package in part} == part
    assert "://" not in (CONTAINERS / f"{name}.lock").read_text()


def test_the_training_image_holds_what_trains_and_nothing_of_the_workflow() -> None:
    train, analysis = locked(CONTAINERS / "train.lock"), locked(CONTAINERS / "analysis.lock")
    assert {"torch", "mujoco", "metaworld", "gymnasium", "pydantic"} <= train.keys()
    assert not [name for name in train if re.match(r"snakemake|dvc|pytest|matplotlib|pandas", name)]
    assert {"matplotlib", "pandas", "scipy"} <= analysis.keys()
    assert not [name for name in analysis if re.match(r"snakemake|dvc|pytest|torch|mujoco", name)]


def test_every_recipe_starts_from_the_same_base_by_its_digest() -> None:
    recipes = [CONTAINERS / name for name in ("train.def", "analysis.def", "Containerfile")]
    bases = {tuple(set(re.findall(r"debian@sha256:[0-9a-f]{64}", recipe.read_text()))) for recipe in recipes}
    assert len(bases) == 1 and len(bases.pop()) == 1


def test_the_same_packages_in_an_image_or_not_are_the_same_run_and_others_are_not() -> None:
    here = {name: importlib.metadata.version(name) for name in ("numpy", "torch", "mujoco", "metaworld", "gymnasium")}
    here["scipy"] = importlib.metadata.version("scipy")
    outside, inside = Study.load(STUDY), Study.load(STUDY, here)
    other = Study.load(STUDY, here | {"mujoco": "0.0.1"})
    unrelated = Study.load(STUDY, here | {"rich": "0.0.1"})
    # A run that nobody has: a finished one answers with the digest that it really had.
    for study in (outside, inside, other, unrelated):
        study.results = "results/none"
    run = outside.runs[0]
    assert inside.source_digest(run) == outside.source_digest(run) == unrelated.source_digest(run)
    assert other.source_digest(run) != outside.source_digest(run)


def test_a_study_that_no_image_can_step_is_refused_when_it_is_planned() -> None:
    study = Study.load(str(ROOT / "config/studies/dreamer-dmc-walker-walk.yaml"))
    assert {"dm-control": "dmc", "mujoco": "dmc"}.items() <= study.packages.items()
    with pytest.raises(MtreproError) as caught:
        images.need_packages(APPTAINER, study.path, study.packages)
    assert str(caught.value) == (
        "config/studies/dreamer-dmc-walker-walk.yaml: benchmark family dmc needs dm-control, which the image `train` "
        "does not hold (containers/train.lock)\n"
        "  run it outside of images: snakemake --profile workflow/profiles/local all --configfile "
        "config/studies/dreamer-dmc-walker-walk.yaml\n"
        "  see docs/benchmarks/dmc.md"
    )
    images.need_packages(set(), study.path, study.packages)


def test_the_image_can_step_every_other_shipped_benchmark() -> None:
    families = {yaml.safe_load(path.read_text())["family"] for path in (ROOT / "config/benchmarks").glob("*.yaml")}
    for family in families - {"dmc"}:
        needed = dict.fromkeys(run_source("random_policy", family).packages, family)
        images.need_packages(APPTAINER, "a study", needed)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with nothing but containers/."""
    (tmp_path / "containers").mkdir()
    for name in images.IMAGES:
        (tmp_path / f"containers/{name}.lock").write_text("")
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    images.images.cache_clear()
    yield tmp_path
    images.images.cache_clear()


def digests(lock: str) -> str:
    """A digests.yaml whose images were built from a lock of this digest."""
    pins = f"manifest: '{HEX}', sif: '{HEX}', lock: '{lock}', inputs: '{HEX}'"
    rest = "base: local, packages: {torch: 2.13.0}"
    lines = [f"  {name}: {{file: containers/{name}-1.sif, {pins}, {rest}}}\n" for name in images.IMAGES]
    return "schema_version: 1\nimages:\n" + "".join(lines)


def test_an_image_of_another_lock_is_refused(checkout: Path) -> None:
    (checkout / "containers/digests.yaml").write_text(digests(HEX))
    with pytest.raises(MtreproError, match=r"containers/train-1.sif: there is no such image\n  build it with `make"):
        images.need_images(["apptainer"])
    (checkout / "containers/train-1.sif").touch()
    with pytest.raises(MtreproError, match=r"train-1.sif: was built from another containers/train.lock than today's\n"):
        images.need_images(["apptainer"])
    images.need_images([])  # nothing runs in an image


def test_a_mistake_in_digests_names_file_and_key(checkout: Path) -> None:
    (checkout / "containers/digests.yaml").write_text(digests(HEX).replace("sif: '", "siff: '"))
    with pytest.raises(MtreproError, match=r"containers/digests.yaml: images.train.siff: unknown key 'siff'"):
        images.image("train")


# The sbatch that the head calls

QUEUE = "{job}|{state}|an-older-head|{folder}|{time}|rule_{rule}_wildcards_mt_sac-s0-0"
CALL = ("--parsable", "--job-name", "this-head", "--comment", "rule_{rule}_wildcards_mt_sac-s0-0")


@pytest.mark.parametrize("rule", ["train", "train_leaving"])
@pytest.mark.parametrize(
    ("job", "state", "time", "answer"),
    [
        ("7", "RUNNING", "2999-01-01T00:00:00", "7"),
        ("7", "PENDING", "2999-01-01T00:00:00", "7"),
        ("7", "COMPLETING", "2999-01-01T00:00:00", "8"),  # it is about to end
        ("7", "RUNNING", "2001-01-01T00:00:00", "8"),  # the code was edited since
        ("7_2", "RUNNING", "2999-01-01T00:00:00", "8"),  # of an array, whose tasks all have its first run's comment
    ],
)
def test_a_dead_heads_job_is_taken_over_and_any_other_is_submitted(
    tmp_path: Path, job: str, state: str, time: str, answer: str, rule: str
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/code.py").touch()
    (tmp_path / "containers").mkdir()
    queue = QUEUE.format(job=job, state=state, time=time, folder=tmp_path, rule=rule)
    call = [word.format(rule=rule) for word in CALL]
    for name, body in {"squeue": f"echo '{queue}'", "scontrol": "echo $* >&2", "sbatch": "echo 8"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    ours = ROOT / "workflow/bin"
    environment = os.environ | {"PATH": f"{ours}:{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ("sbatch", *call, "-D", str(tmp_path)), env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{answer}\n"
    assert ("update jobid=7 jobname=this-head" in done.stderr) == (answer == "7")
