"""A real Slurm of one node, a real Apptainer and the images that this checkout builds: set up once, used by every test.

`make cluster-test` runs this. It needs root on Debian, because it installs Apptainer and starts a cluster; elsewhere
everything here is skipped, with the reason. Under MTREPRO_CLUSTER_TESTS=where-possible a machine where the set-up fails
(no network, no user namespaces) is such a one, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.workflow.conftest import Checkout, copy_checkout

from .moments import BUDGET, MOMENTS, RUNS, SEED, TOLD
from .slurm import HERE, Cluster, Study

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


NO_NETWORK = re.compile(r"could not resolve|name resolution|failed to fetch|connection|unreachable", re.IGNORECASE)


def call(*command: str | Path, skip_where: re.Pattern[str] = re.compile("")) -> None:
    """Run a command of the set-up; what it printed is the reason if it fails, and may be one to skip everything."""
    words = ("timeout", "1800", *command)
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = f"{' '.join(map(str, command))}: left with {done.returncode}:\n{done.stdout}"
    if done.returncode and os.environ["MTREPRO_CLUSTER_TESTS"] == "where-possible" and skip_where.search(done.stdout):
        pytest.skip(f"this machine cannot be set up for it: {said}")
    assert done.returncode == 0, said


@pytest.fixture(scope="session")
def machine() -> Iterator[None]:
    """Slurm answers and Apptainer runs; a cluster that was started here is ended here."""
    if reason := why_not():
        pytest.skip(reason)
    call(HERE / "install-apptainer.sh")
    ours = shutil.which("sinfo") is None or subprocess.run(("sinfo",), capture_output=True, check=False).returncode != 0
    try:
        call(HERE / "start-slurm.sh")
        yield
    finally:
        if ours:
            call(HERE / "stop-slurm.sh")


@pytest.fixture(scope="session")
def images(machine: None) -> Path:
    """containers/ with both images, built or taken from the cache."""
    build = (sys.executable, "tools/build_images.py", "--base", os.environ.get("BASE", "local"))
    call(*build, skip_where=NO_NETWORK)  # any other reason is ours
    return ROOT / "containers"


@pytest.fixture(scope="session")
def new_cluster(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Cluster]:
    """Makes a copy of this checkout with the images, whose jobs go to Slurm. There is one head a checkout."""
    pristine = tmp_path_factory.mktemp("pristine") / "checkout"
    bring_images(images, copy_checkout(pristine))

    def copy() -> Cluster:
        path = tmp_path_factory.mktemp("cluster") / "checkout"
        shutil.copytree(pristine, path, symlinks=True)
        return Cluster(Checkout(path), tmp_path_factory.mktemp("record"))

    return copy


@pytest.fixture(scope="session")
def cluster(new_cluster: Callable[[], Cluster]) -> Cluster:
    """The checkout of the tests that follow one another."""
    return new_cluster()


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster) -> Study:
    """A study that nothing disturbed: what each disturbed one must end with."""
    study = cluster.study(BUDGET, RUNS)
    with study.running() as head, ThreadPoolExecutor(RUNS) as pool:
        study.seconds = min(pool.map(lambda seed: study.wait_until(float("inf"), seed), range(RUNS)))
        head.ends()
    TOLD.append(f"disturbed at {MOMENTS} random moments of each kind, those of MTREPRO_SEED={SEED}")
    return study


def bring_images(images: Path, checkout: Checkout) -> None:
    """What git does not carry: the images, and the file that names them."""
    shutil.copy2(images / "digests.yaml", checkout.path / "containers")
    for file in images.glob("*.sif"):
        (checkout.path / "containers" / file.name).symlink_to(file)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured, how often each kind of disturbance happened, and what repeats the same moments."""
    for line in TOLD:
        terminalreporter.write_line(line)
