"""Build the container images and write containers/digests.yaml, from which the rules know them: `make containers`.

Usage: python tools/build_images.py [--base registry|local|FOLDER] [--cache FOLDER] [train] [analysis]

An image is named by the digest of its package manifest: other packages are another image, the same packages built again
are the same. An image that was built from the same files is taken from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "containers"
IMAGES = ("train", "analysis")
SUITE = "bookworm"
MANIFEST = "/opt/mtrepro/manifest.txt"
CERTIFICATES = (  # of Debian, Fedora and openSUSE
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
# In a fresh root filesystem, and not to be copied into an image: device nodes, and folders that only apt's own user may
# read. mmdebstrap makes them last of all; apt makes its folders again.
TRIMMED = ("dev", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial")
HEAD = """\
# The images on this machine. Written by `make containers`, read by the rules; git ignores it, as it does the images.
# `file` is a rule's reference: it carries the digest of the image's package manifest. `sif` is the file's own digest,
# which differs at each build and goes into run.json. `packages`: what the manifest says of Python.
"""
NO_REGISTRY = """\
containers/{name}.def: the base image could not be fetched from its registry, or the build failed: see above
  where no image registry is reachable: `make containers BASE=local` makes the base with mmdebstrap, or
  BASE=/path/of/a/debian/{suite}/root takes one that is there"""


class BuildError(Exception):
    """What was wrong, where, and what to do."""


def main() -> int:
    """Build what is missing; the exit status is 1 where that fails."""
    arguments = _arguments()
    try:
        if shutil.which("apptainer") is None:
            raise BuildError(
                "no `apptainer` is on the PATH\n  see docs/containers.md; Podman and Docker: the same page"
            )
        digests = FOLDER / "digests.yaml"
        known = yaml.safe_load(digests.read_text())["images"] if digests.exists() else {}
        for name in arguments.images or IMAGES:
            built = build(name, arguments.base, arguments.cache)
            known[name] = install(name, built)
        text = yaml.safe_dump({"schema_version": 1, "images": known}, sort_keys=True)
        partial = digests.with_suffix(".partial")
        partial.write_text(HEAD + text)
        partial.replace(digests)
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        print(f"make containers: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="train or analysis; both if none is named")
    parser.add_argument("--base", default="registry", help="registry, local (mmdebstrap), or a folder with a Debian")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=caches / "mtrepro" / "images", help="where built images are kept")
    arguments = parser.parse_args()
    if unknown := set(arguments.images) - set(IMAGES):
        parser.error(f"{', '.join(sorted(unknown))}: no such image\n  known: {', '.join(IMAGES)}")
    return arguments


def build(name: str, base: str, cache: Path) -> Path:
    """The image of what containers/ says now: from the cache, or built into it."""
    key = inputs_digest(name)
    kind = base if base in ("registry", "local") else hashlib.sha256(base.encode()).hexdigest()[:6]  # of a folder
    image = cache / f"{name}-{key[:12]}-{kind}.sif"
    if image.exists():
        print(f"containers/{name}: built before from the same files: {image}")
        return image
    cache.mkdir(parents=True, exist_ok=True)
    partial = image.with_suffix(f".partial-{os.getpid()}")
    begun = datetime.now(UTC)
    try:
        subprocess.run(_command(name, base, cache, partial), cwd=ROOT, check=True)
        partial.replace(image)
    except subprocess.CalledProcessError:
        raise BuildError(NO_REGISTRY.format(name=name, suite=SUITE)) from None
    finally:
        partial.unlink(missing_ok=True)
    print(f"containers/{name}: built in {(datetime.now(UTC) - begun).seconds} s: {image}")
    return image


def _command(name: str, base: str, cache: Path, image: Path) -> list[str]:
    # zstd: a third of gzip's time, and smaller; mounted by every kernel and squashfuse since 2018.
    words = ["apptainer", "build", "--force", "--mksquashfs-args", "-comp zstd -Xcompression-level 3"]
    candidates = (os.environ.get("SSL_CERT_FILE") or CERTIFICATES[0], *CERTIFICATES)
    trusted = next((path for path in candidates if Path(path).exists()), None)
    if trusted is None:
        raise BuildError("no bundle of certificates was found\n  name yours: SSL_CERT_FILE=FILE make containers")
    words += ["--build-arg", f"certificates={trusted}"]
    if base != "registry":
        folder = local_base(cache) if base == "local" else Path(base).resolve()
        if not (folder / "etc" / "debian_version").exists():
            raise BuildError(f"{folder}: is not a Debian root filesystem\n  BASE=local makes one with mmdebstrap")
        words += ["--build-arg", "bootstrap=localimage", "--build-arg", f"base={folder}"]
    return [*words, str(image), f"containers/{name}.def"]


def local_base(cache: Path) -> Path:
    """A Debian root filesystem like the registry's, made from Debian's archive; older than a week, it is made again."""
    folder = cache / f"{SUITE}-root"
    week = 7 * 24 * 3600
    if folder.exists() and datetime.now(UTC).timestamp() - folder.stat().st_ctime < week:
        return folder
    if shutil.which("mmdebstrap") is None:
        raise BuildError(
            "no `mmdebstrap` is on the PATH, and BASE=local needs it\n  Debian and Ubuntu: apt install mmdebstrap"
        )
    partial = Path(tempfile.mkdtemp(dir=cache, prefix=f".{SUITE}-root-"))
    shutil.rmtree(partial)
    try:
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", SUITE, str(partial)], check=True)
    except subprocess.CalledProcessError:
        raise BuildError("mmdebstrap failed: see above") from None
    for name in TRIMMED:
        shutil.rmtree(partial / name)
    (partial / "dev").mkdir()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def install(name: str, built: Path) -> dict[str, Any]:
    """Put an image where the rules expect it; returns its entry in digests.yaml."""
    read = ["apptainer", "exec", str(built), "cat", MANIFEST]
    manifest = subprocess.run(read, check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    image = FOLDER / f"{name}-{digest[:12]}.sif"
    image.unlink(missing_ok=True)
    try:
        os.link(built, image)
    except OSError:  # the cache is on another file system
        shutil.copyfile(built, image)
    sif = hashlib.file_digest(image.open("rb"), "sha256").hexdigest()
    print(f"containers/{name}: {image.relative_to(ROOT)}, packages sha256:{digest}, file sha256:{sif}")
    return {
        "file": f"containers/{image.name}",
        "manifest": digest,
        "sif": sif,
        "lock": hashlib.sha256((FOLDER / f"{name}.lock").read_bytes()).hexdigest(),
        "inputs": inputs_digest(name),
        "base": "registry" if built.stem.endswith("-registry") else "local",
        "packages": dict(re.findall(r"^python ([^=]+)==(\S+)$", manifest, re.MULTILINE)),
    }


def inputs_digest(name: str) -> str:
    """One digest over every file that an image is built from."""
    files = (f"{name}.def", f"{name}.lock", f"{name}.debian.txt", "install", "mtrepro", "../tools/uv.txt")
    return hashlib.sha256(b"\0".join((FOLDER / file).read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
