"""What is in the images, and what of the host can be seen from inside."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mtrepro.images import PASSED, PROXIES

ROOT = Path(__file__).resolve().parents[2]
FLAGS = yaml.safe_load((ROOT / "workflow/profiles/slurm/profile.yaml").read_text())["apptainer-args"].split()


def inside(images: Path, name: str, *command: str, **environment: str) -> str:
    """What a command prints in an image, started as the Slurm profile starts it."""
    entry = yaml.safe_load((images / "digests.yaml").read_text())["images"][name]
    started = ["apptainer", "exec", "--home", str(ROOT), *FLAGS, str(ROOT / entry["file"]), *command]
    done = subprocess.run(started, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["train", "analysis"])
def test_the_reference_is_the_digest_of_the_manifest_and_the_packages_are_the_lock(images: Path, name: str) -> None:
    entry = yaml.safe_load((images / "digests.yaml").read_text())["images"][name]
    manifest = inside(images, name, "cat", "/opt/mtrepro/manifest.txt")
    assert entry["manifest"] == hashlib.sha256(manifest.encode()).hexdigest()
    assert entry["file"] == f"containers/{name}-{entry['manifest'][:12]}.sif"
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", (images / f"{name}.lock").read_text(), re.MULTILINE))
    assert entry["packages"] == locked
    assert entry["sif"] == hashlib.file_digest((ROOT / entry["file"]).open("rb"), "sha256").hexdigest()


def test_the_training_image_has_no_compiler_and_no_workflow_code(images: Path) -> None:
    found = inside(
        images,
        "train",
        "sh",
        "-c",
        "for name in gcc cc clang g++ make snakemake dvc pip uv; do command -v $name; done; true",
    )
    assert found == ""
    names = inside(images, "train", "cat", "/opt/mtrepro/manifest.txt")
    assert not re.search(r"^python (snakemake|dvc|mtrepro|matplotlib)", names, re.MULTILINE)


@pytest.mark.parametrize("library", ["egl", "osmesa"])
def test_the_training_image_renders_without_a_screen_and_without_a_gpu(images: Path, library: str) -> None:
    picture = (
        "import mujoco; model = mujoco.MjModel.from_xml_string("
        '\'<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/></worldbody></mujoco>\');'
        "data = mujoco.MjData(model); mujoco.mj_forward(model, data); renderer = mujoco.Renderer(model, 24, 32);"
        "renderer.update_scene(data); print(renderer.render().max() > 0)"
    )
    assert (
        inside(
            images, "train", "python", "-c", picture, APPTAINERENV_MUJOCO_GL=library, APPTAINERENV_XDG_CACHE_HOME="/tmp"
        ).strip()
        == "True"
    )


def test_nothing_of_the_hosts_environment_is_visible_but_the_list(images: Path) -> None:
    passed = {f"APPTAINERENV_{name}": "passed" for name in PASSED} | {f"APPTAINERENV_{name}": "" for name in PROXIES}
    host = {
        "SECRET_TOKEN": "of the host",
        "HTTPS_PROXY": "http://user:of the host@proxy",
        "OMP_NUM_THREADS": "7",
        "PYTHONPATH": "/elsewhere",
        **passed,
    }
    seen = inside(images, "train", "env", **host)
    assert "of the host" not in seen and "OMP_NUM_THREADS" not in seen and "/elsewhere" not in seen
    assert set(re.findall(r"^(\w+)=passed$", seen, re.MULTILINE)) == set(PASSED)


@pytest.mark.parametrize("name", ["train", "analysis"])
def test_mtrepro_in_an_image_is_the_bound_checkouts(images: Path, name: str) -> None:
    assert "Reproduce multi-task" in inside(images, name, "mtrepro", "--help")
    assert "6 runs" in inside(images, name, "mtrepro", "plan", "config/studies/closing.yaml")


def test_without_a_checkout_the_message_says_how_to_name_one(images: Path) -> None:
    with pytest.raises(AssertionError, match=r"no checkout of mtrepro is bound there\n.*--env MTREPRO_ROOT="):
        inside(images, "analysis", "sh", "-c", "cd / && mtrepro --help")


def test_the_doctor_finds_the_training_image_well(images: Path) -> None:
    said = inside(images, "train", "mtrepro", "doctor", "--quick")
    for line in (
        r"ok      packages +\d+ of \d+ packages of .*/lock.txt are installed, each in its version",
        r"ok      GL +MuJoCo renders with egl, osmesa",
        # Equal but for rounding is a note: on another processor than that of the record.
        r"(ok|note) +golden metaworld \d+ (of \d+ )?trajectories \(of \d+: --quick\) equal",
        r"\d+ ok, \d+ notes, 0 problems",
    ):
        assert re.search(line, said), said
