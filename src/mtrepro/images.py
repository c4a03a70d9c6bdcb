"""The container images: which there are, what they hold, and what of the machine outside is let into them.

containers/digests.yaml names the images that were built here (`make containers`). An image's reference carries the
digest of its package manifest, not of its file, which differs at each build. Importing this must not import torch.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
import shutil
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mtrepro import validation
from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.paths import root, shown
from mtrepro.specification import Strict

IMAGES = ("train", "analysis")
MANIFEST = Path("/opt/mtrepro/manifest.txt")  # in every image: what it is
PASSED = ("CUDA_VISIBLE_DEVICES", "MUJOCO_GL", "SLURM_JOB_ID")  # all of the environment that a job in an image sees
PROXIES = [
    f(name)
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
    for f in (str.lower, str.upper)
]
NO_APPTAINER = """\
this profile runs every job in a container, and no `apptainer` is on the PATH
  to get it: your cluster's `module load apptainer`, or https://apptainer.org/docs/admin/main/installation.html
  to plan without it: `snakemake --profile workflow/profiles/local -n` or `mtrepro plan {study}`"""
NO_IMAGE = """\
{file}: there is no such image
  build it with `make containers` (docs/containers.md), or run without: snakemake --profile workflow/profiles/local"""
NOT_HELD = """\
{study}: benchmark family {family} needs {package}, which the image `train` does not hold (containers/train.lock)
  run it outside of images: snakemake --profile workflow/profiles/local all --configfile {study}
  see docs/benchmarks/{family}.md"""
OTHER_LOCK = """\
{file}: was built from another containers/{name}.lock than today's
  build it again with `make containers`: what runs must be what was locked"""


class Image(Strict):
    """An image that was built on this machine, or brought to it."""

    file: str = Field(description="its place in the checkout, which is its reference in a rule")
    manifest: str = Field(description="SHA-256 of the package manifest inside it")
    sif: str = Field(description="SHA-256 of the file itself, which differs at each build")
    lock: str = Field(description="SHA-256 of the lock that it was built from")
    inputs: str = Field(description="SHA-256 over every file that it was built from")
    base: Literal["registry", "local"] = Field(description="where its Debian came from")
    packages: dict[str, str] = Field(description="Python packages in it, with their versions")


class Digests(Strict):
    """containers/digests.yaml."""

    schema_version: Literal[1] = Field(description="version of this file format")
    images: dict[str, Image] = Field(description="the images, by name")


@functools.lru_cache
def images() -> dict[str, Image]:
    """The images that `make containers` wrote down; none before it ran."""
    path = root() / "containers" / "digests.yaml"
    if not path.exists():
        return {}
    return validation.validate(Digests, validation.read_yaml(path), shown(path), "docs/containers.md").images


def image(name: str) -> str:
    """The container image of a rule. It is used under `--sdm apptainer` alone.

    Before it was built its plain name stands here, so that a plan is right and `need_images` can say what to do.
    """
    known = images().get(name)
    return known.file if known else f"containers/{name}.sif"


def image_packages(name: str, deployment: Collection[Any]) -> dict[str, str] | None:
    """The packages that a job of this image will import, or None where it will run outside of one."""
    known = images().get(name) if _contained(deployment) else None
    return known.packages if known else None


def need_apptainer(deployment: Collection[Any], study: str) -> None:
    """Refuse `--sdm apptainer` where there is none, before Snakemake does with less to say.

    Raises:
        MtreproError: neither apptainer nor singularity is on the PATH.
    """
    if _contained(deployment) and not (shutil.which("apptainer") or shutil.which("singularity")):
        raise MtreproError(NO_APPTAINER.format(study=study))


def need_packages(deployment: Collection[Any], study: str, needed: Mapping[str, str]) -> None:
    """Refuse a study whose benchmarks no image can step, before a job finds out.

    Args:
        needed: the family that needs it, by package.

    Raises:
        MtreproError: the lock of the training image lacks one of the packages.
    """
    if not _contained(deployment):
        return
    lock = (root() / "containers" / "train.lock").read_text(encoding="utf-8")
    held = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    for package, family in needed.items():
        if package not in held:
            raise MtreproError(NOT_HELD.format(study=study, family=family, package=package))


def need_images(deployment: Collection[Any]) -> None:
    """Refuse to start jobs in images that nobody built, or that hold other packages than the lock says.

    Raises:
        MtreproError: an image is a local file that is not there, or is of another lock.
    """
    for name in IMAGES if _contained(deployment) else ():
        if "://" not in image(name) and not (root() / image(name)).exists():
            raise MtreproError(NO_IMAGE.format(file=image(name)))
        known, lock = images().get(name), root() / "containers" / f"{name}.lock"
        if known and known.lock != hashlib.sha256(lock.read_bytes()).hexdigest():
            raise MtreproError(OTHER_LOCK.format(file=known.file, name=name))


def pass_variables() -> None:
    """Let the few variables that a job needs through Apptainer's `--cleanenv`, which stops all others but the proxies'.

    A proxy's address may hold a password, and a job asks nothing of the network.
    """
    for name in PROXIES:
        os.environ[f"APPTAINERENV_{name}"] = ""
    for name in PASSED:
        if name in os.environ:
            os.environ[f"APPTAINERENV_{name}"] = os.environ[name]


def shield_mounts(deployment: Collection[Any]) -> None:
    """Make what mounts an image deaf to a cluster's signals, which hit every process of a job.

    One that ended the mount would take the trainer's code away while it saves. Apptainer finds squashfuse on the PATH
    and ends a mount by unmounting it, so one that ignores the signals first can stand before it.
    """
    ours = root() / ".snakemake" / "mtrepro" / socket.gethostname()
    others = [entry for entry in os.environ["PATH"].split(os.pathsep) if "/.snakemake/mtrepro/" not in f"{entry}/"]
    real = shutil.which("squashfuse_ll", path=os.pathsep.join(others))
    if real is None or not _contained(deployment):
        return
    shield, text = ours / "squashfuse_ll", f"#!/bin/sh\ntrap '' USR1 TERM\nexec {shlex.quote(real)} \"$@\"\n"
    if not os.access(shield, os.X_OK) or shield.read_text(encoding="utf-8") != text:
        partial = shield.with_name(f".{shield.name}.partial-{os.getpid()}")
        write_atomically(partial, text)
        partial.chmod(0o755)
        partial.replace(shield)  # executable from its first moment
    os.environ["PATH"] = os.pathsep.join([str(ours), *others])


def container() -> dict[str, str | None] | None:
    """The image that this process runs in, for run.json; None outside of one.

    The manifest's digest is taken inside the image. The file's own was taken when it was built, so it stands here only
    where the file and its packages are those that were written down.
    """
    if not MANIFEST.exists():
        return None
    manifest = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    file = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("MTREPRO_CONTAINER")
    known = [one for one in images().values() if file and Path(one.file).name == Path(file).name]
    sif = next((one.sif for one in known if one.manifest == manifest), None)
    return {"image": Path(file).name if file else None, "manifest": manifest, "sif": sif}


def _contained(deployment: Collection[Any]) -> bool:
    return any(str(method).rsplit(".", 1)[-1].lower() == "apptainer" for method in deployment)
