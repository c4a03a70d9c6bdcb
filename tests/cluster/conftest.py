"""A real Slurm of one node, a real Apptainer and the images that this checkout builds: set up once, used by every test.

`make cluster-test` runs this. It needs root on Debian, because it installs Apptainer and starts a cluster; elsewhere
everything here is skipped, with the reason. Under MTREPRO_CLUSTER_TESTS=where-possible a machine where the set-up fails
(no network, no user namespaces) is such a one, too.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import Checkout, copy_checkout

from .slurm import HERE, Cluster

ROOT = HERE.parents[1]


def why_not() -> str | None:
    """Why this machine cannot hold the cluster, or None if it can."""
    if "MTREPRO_CLUSTER_TESTS" not in os.environ:
        return "they install Slurm and Apptainer, so only `make cluster-test` runs them"
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "there is one cluster, and several workers of pytest-xdist would set it up at once"
    if os.geteuid() != 0:
        return "installing Slurm and Apptainer needs root"
    if not Path("/etc/debian_version").exists():
        return "the cluster is put together from Debian's packages, and this is no Debian"
    return None


def call(*command: str | Path) -> None:
    """Run a command of the set-up; what it printed is the reason if it fails."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = f"{' '.join(map(str, command))}: left with {done.returncode}:\n{done.stdout}"
    if done.returncode and os.environ["MTREPRO_CLUSTER_TESTS"] == "where-possible":
        pytest.skip(f"this machine cannot be set up for it: {said}")
    assert done.returncode == 0, said


@pytest.fixture(scope="session")
def machine() -> Iterator[None]:
    """Slurm answers and Apptainer runs; a cluster that was started here is ended here."""
    if reason := why_not():
        pytest.skip(reason)
    call(HERE / "install-apptainer.sh")
    ours = shutil.which("sinfo") is None or subprocess.run(("sinfo",), capture_output=True, check=False).returncode != 0
    call(HERE / "start-slurm.sh")
    yield
    if ours:
        call(HERE / "stop-slurm.sh")


@pytest.fixture(scope="session")
def images(machine: None) -> Path:
    """containers/ with both images, built or taken from the cache."""
    call(sys.executable, "tools/build_images.py", "--base", os.environ.get("BASE", "local"))
    return ROOT / "containers"


@pytest.fixture(scope="session")
def cluster(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A copy of this checkout with the images, whose jobs go to Slurm."""
    checkout = copy_checkout(tmp_path_factory.mktemp("cluster") / "checkout")
    bring_images(images, checkout)
    return Cluster(checkout, tmp_path_factory.mktemp("record"))


def bring_images(images: Path, checkout: Checkout) -> None:
    """What git does not carry: the images, and the file that names them."""
    shutil.copy2(images / "digests.yaml", checkout.path / "containers")
    for file in images.glob("*.sif"):
        (checkout.path / "containers" / file.name).symlink_to(file)


@pytest.fixture
def moment(request: pytest.FixtureRequest) -> float:
    """A random share of a run; its seed is in the test's name, so that a failure can be repeated."""
    return random.Random(request.param).uniform(0.05, 0.6)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One random moment of each kind, or as many as MTREPRO_MOMENTS says."""
    if "moment" in metafunc.fixturenames:
        count = int(os.environ.get("MTREPRO_MOMENTS", "1"))
        given = int(os.environ.get("MTREPRO_SEED", "0"))
        # Skipped tests keep their names: pytest-xdist compares what its workers collect.
        first = given or (1 if why_not() else random.SystemRandom().randrange(1, 10**6))
        metafunc.parametrize("moment", range(first, first + count), indirect=True, ids=lambda seed: f"seed{seed}")
