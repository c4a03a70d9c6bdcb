"""Real Snakemake and real DVC on the toy benchmark, in copies of this checkout.

Every Snakemake process costs about four seconds before it does anything, so one chain is run once and shared: tests ask
it for plans, and put back what they edit.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = """\
schema_version: 1
study: toy
title: "A toy study"
results: results/toy
benchmark: toy-state
budget: 120
seeds: [0, 1]
evaluation: {every: 40, episodes: 2}
metrics_every: 20
settings: {width: 16, depth: 1, batch: 24, replay_transitions: 3000, random_steps: 30, first_updates: 10}
arms:
  mt-sac: {method: mt_sac}
  random: {method: random_policy, reference: true, budget: 0}
published:
  - {cell: care/mt10-2m-mt-sac, arm: mt-sac, column: best_of_mean_curve}
resources: {tries: 3}
"""
STUDY = "config/studies/toy.yaml"


@dataclass
class Checkout:
    """A copy of this checkout in which commands run as a user types them."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, status: int = 0, **environment: str) -> str:
        """What a command printed; its exit status must be `status`."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.variables() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, f"{' '.join(command)} left with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def variables(self) -> dict[str, str]:
        """This process's environment, with the copy's code and this interpreter's commands first."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "MTREPRO"))}
        commands = Path(sys.executable).parent
        return inherited | {"PYTHONPATH": str(self.path / "src"), "PATH": f"{commands}:{os.environ['PATH']}"}

    def snakemake(self, *arguments: str, study: str = STUDY, status: int = 0, **environment: str) -> str:
        """Run Snakemake on the toy study with the local profile."""
        profile = ("--profile", "workflow/profiles/local")
        # --configfile takes every word behind it, so it stands last.
        return self.run("snakemake", *arguments, *profile, "--configfile", study, status=status, **environment)

    def plan(self, *arguments: str) -> list[str]:
        """What a dry run would do: rule names, for training with the run's method and seed, sorted."""
        output = self.snakemake(*arguments, "--dry-run", "--quiet", "host")
        jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", output, re.MULTILINE)
        runs = [re.search(r"wildcards: run=(\w+-s\d+)-", body) for _, body in jobs]
        names = [f"{name} {run[1]}" if run else name for (name, _), run in zip(jobs, runs, strict=True)]
        return sorted(name for name in names if name not in ("all", "runs", "tables", "figures", "report", "partial"))

    def changed(self) -> str:
        """What git finds different from the last commit."""
        return self.run("git", "status", "--porcelain")

    def commit(self, message: str) -> None:
        """Commit everything that is not ignored."""
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=a test", "-c", "user.email=test@example.org", "commit", "-qm", message)

    @contextlib.contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """One replacement in a file, put back at the end."""
        file = self.path / name
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new, 1))
        try:
            yield
        finally:
            file.write_text(before)

    def clone(self, path: Path) -> Checkout:
        """A fresh clone: what git has, and file times by chance."""
        self.run("git", "clone", "-q", str(self.path), str(path))
        return Checkout(path)


def copy_checkout(path: Path) -> Checkout:
    """What git would take of this working tree, without released studies, and with the toy study."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and not name.startswith("results/") and (source.is_file() or source.is_symlink()):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, path / name, follow_symlinks=False)
    (path / "dvc.lock").unlink(missing_ok=True)
    (path / STUDY).write_text(TOY)
    checkout = Checkout(path)
    list_released(checkout)
    checkout.run("git", "init", "-q")
    checkout.commit("the toy study")
    return checkout


def list_released(checkout: Checkout) -> None:
    """Bring results/released/studies.yaml up to date."""
    checkout.run(sys.executable, "-c", "from mtrepro.workflow import list_released; list_released()")


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the toy study was run and released, and everything committed."""
    checkout = copy_checkout(tmp_path_factory.mktemp("chain") / "checkout")
    checkout.snakemake("all")
    assert checkout.changed() == ""
    checkout.run("mtrepro", "release", STUDY)
    list_released(checkout)
    checkout.run("dvc", "commit", "--force")
    checkout.commit("released")
    return checkout


@pytest.fixture(scope="session")
def clone(chain: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh clone of the chain: what a reviewer has."""
    return chain.clone(tmp_path_factory.mktemp("clone") / "checkout")
