"""What the cluster tests do to a cluster: start a head, find a job and its trainer, wait."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtrepro.engine.processes import started
from tests.workflow.conftest import Checkout

HERE = Path(__file__).resolve().parent
SAME_FILES = ("evaluation.csv", "training.csv", "specification.yaml")  # of two equal runs
STUDY = """\
schema_version: 1
study: {name}
title: "A small study on a cluster"
results: results/{name}
benchmark: {benchmark}
budget: {budget}
seeds: {seeds}
evaluation: {{every: {every}, episodes: 2}}
metrics_every: 100
settings: {{width: 16, depth: 1, batch: 24, replay_transitions: 3000, random_steps: 30, first_updates: 10}}
arms:
  mt-sac: {{method: mt_sac}}
resources: {{tries: {tries}, gpu: {gpu}, mem_mb: 1500, runtime: 30}}
"""
# Without accounting `sacct` knows nothing; and the first look after 40 seconds would be most of a short test.
QUICK = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10")
RECORDER = """\
#!/bin/bash
# Note down how sbatch is called, then call it.
printf '%s\\n' "$*" >>{record}
exec {sbatch} "$@"
"""


LONG = 1800  # seconds that anything may take on a slow machine beside everything else


def wait_for(true: Callable[[], Any], what: str, seconds: float = LONG) -> Any:
    """What `true` answers, once it is true."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
    return answer


def slurm(*command: str) -> str:
    """What a command of Slurm's printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@dataclass
class Cluster:
    """A checkout whose heads submit to Slurm; every call of sbatch is recorded."""

    checkout: Checkout
    folder: Path
    count: int = field(default=0)

    def study(self, budget: int, runs: int = 1, gpu: int = 1, tries: int = 4, benchmark: str = "toy-state") -> Study:
        """Write a study of some small runs that have `budget` steps each; their seeds count from 0."""
        self.count += 1
        name = f"c{self.count}"
        numbers = {"budget": budget, "every": budget // 4, "gpu": gpu, "tries": tries}
        text = STUDY.format(name=name, benchmark=benchmark, seeds=list(range(runs)), **numbers)
        (self.checkout.path / f"config/studies/{name}.yaml").write_text(text)
        return Study(self, name, runs)


@dataclass
class Study:
    """A study on the cluster."""

    cluster: Cluster
    name: str
    runs: int
    heads: list[Head] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # what its user exported
    seconds: float = 0.0  # of the processor, that the training of its quickest run took

    @property
    def results(self) -> Path:
        return self.cluster.checkout.path / "results" / self.name

    @property
    def record(self) -> Path:
        """What sbatch was told, a line for each job."""
        return self.cluster.folder / f"{self.name}.sbatch"

    def submitted(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    def command(self, target: str = "runs", *words: str) -> list[str]:
        return [
            "snakemake",
            target,
            *words,
            "--profile",
            "slurm",
            *QUICK,
            "--configfile",
            f"config/studies/{self.name}.yaml",
        ]

    def environment(self) -> dict[str, str]:
        """The head's: the recorder stands before the cluster's sbatch."""
        folder = self.cluster.folder / f"bin-{self.name}"
        recorder = folder / "sbatch"
        if not recorder.exists():
            folder.mkdir(exist_ok=True)
            sbatch = slurm("which", "sbatch").strip()
            recorder.write_text(RECORDER.format(record=self.record, sbatch=sbatch))
            recorder.chmod(0o755)
        variables = self.cluster.checkout.variables()
        return variables | {"PATH": f"{folder}:{variables['PATH']}", "SECRET_TOKEN": "of the host"} | self.variables

    def head(self, *words: str) -> Head:
        """Start a head process."""
        log = self.cluster.folder / f"{self.name}-{time.monotonic_ns()}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                self.command("runs", *words),
                cwd=self.cluster.checkout.path,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.heads.append(Head(process, log, self.cluster.checkout.path))
        return self.heads[-1]

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[Head]:
        """A head; it and the study's later ones are ended, with their jobs, if the test does not see their end."""
        try:
            yield self.head(*words)
        finally:
            for head in self.heads:
                head.kill()
            for job in self.jobs():
                subprocess.run(("scancel", "--quiet", job), check=False)

    def jobs(self) -> dict[str, str]:
        """The jobs of this study that Slurm still has to do with: the run of each id."""
        names = {path.name for path in self.results.glob("mt_sac-*")}
        found = {}
        for line in slurm("squeue", "--noheader", "--format", "%i|%Z|%k").splitlines():
            job, folder, comment = line.split("|")
            run = comment.removeprefix("rule_train_wildcards_")
            if folder == str(self.cluster.checkout.path) and run in names:
                found[job] = run
        return found

    def job(self, seed: int = 0) -> str:
        """The job of one run, once it is in the queue."""
        of_it = f"mt_sac-s{seed}-"
        return str(wait_for(lambda: [job for job, run in self.jobs().items() if run.startswith(of_it)], "a job")[0])

    def wait_until(self, seconds: float, seed: int = 0) -> float:
        """Wait until a run has trained for so long by the processor's clock, or is over; how long it was then.

        The clock on the wall says little on a machine that does other things besides.
        """
        begun = last = wait_for(lambda: self._used(seed), f"{self.name} trains seed {seed}")
        while (now := self._used(seed)) is not None and now - begun < seconds:
            last = now
            time.sleep(0.1)
        return last - begun

    def _used(self, seed: int) -> float | None:
        """Processor seconds of the trainer; None where there is none."""
        try:
            fields = Path(f"/proc/{self.trainer(seed)}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def training(self) -> set[int]:
        """The seeds of the runs that have a living trainer now."""
        leases = self.results.glob(".state/mt_sac-s*/lease.json")
        seeds = {int(lease.parent.name.split("-")[1].removeprefix("s")) for lease in leases}
        return {seed for seed in seeds if self._used(seed) is not None}

    def trainer(self, seed: int = 0) -> int:
        """The process that trains, by its lease.

        Raises:
            ValueError: there is none; a lease outlives a trainer that was killed, and numbers are used again.
        """
        (file,) = self.results.glob(f".state/mt_sac-s{seed}-*/lease.json")
        lease = json.loads(file.read_text())
        if started(lease["process"]) != lease["started"]:
            raise ValueError(f"{file}: its process is gone")
        return int(lease["process"])

    def records(self) -> list[dict[str, Any]]:
        """run.json of every finished run."""
        return [json.loads(file.read_text()) for file in sorted(self.results.glob("mt_sac-*/run.json"))]

    def matches(self, undisturbed: Study) -> bool:
        """Whether all its runs are finished and have, byte for byte, the files of those that nothing disturbed."""
        mine, theirs = self.contents(), undisturbed.contents()
        return len(mine) == self.runs and all(mine[run] == theirs[run] for run in mine.keys() & theirs.keys())

    def contents(self) -> dict[str, dict[str, bytes]]:
        """The files of every run in which two equal runs must not differ."""
        folders = sorted(file.parent for file in self.results.glob("mt_sac-*/run.json"))
        return {folder.name: {name: (folder / name).read_bytes() for name in SAME_FILES} for folder in folders}


@dataclass
class Head:
    """A Snakemake process that submits jobs and waits for them."""

    process: subprocess.Popen[bytes]
    log: Path
    checkout: Path

    def works(self) -> bool:
        """Whether it has started or taken over its jobs."""
        assert self.process.poll() is None, self.said()
        note = self.checkout / ".snakemake/mtrepro-head.json"
        return note.exists() and json.loads(note.read_text())["process"] == self.process.pid

    def said(self) -> str:
        return self.log.read_text()

    def ends(self, status: int = 0, seconds: float = LONG) -> str:
        """Wait for its end, which must be with this status; what it said."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the head did not end within {seconds:.0f} s:\n{self.said()}") from None
        assert found == status, f"the head left with {found}:\n{self.said()}"
        return self.said()

    def kill(self) -> None:
        """kill -9, as a machine that goes down does; the jobs are Slurm's and go on."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
