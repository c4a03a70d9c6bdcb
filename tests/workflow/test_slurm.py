"""The Slurm profile without Slurm: stub commands on the PATH, and what a dry run and `sbatch` are told."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from .conftest import STUDY, TOY, Checkout

STUBS = {
    "apptainer": '[ "$1" = --version ] && echo "apptainer version 1.4.5" && exit\n'
    'echo "$*" >> "$RECORD/apptainer.log"\nfor last; do :; done\nexec bash -c "$last"\n',
    "sbatch": 'echo "$*" >> "$RECORD/sbatch.log"\necho "the stub submits nothing" >&2\nexit 1\n',
    "sinfo": "echo gpu\n",
    "sacctmgr": "echo lab\n",
    **dict.fromkeys(("srun", "sacct", "sshare", "squeue", "scontrol", "scancel"), "exit 0\n"),
}
GPU = "resources: {tries: 1, threads: 2, gpu: 1, mem_mb: 16000, runtime: 90}"


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """Environment variables with which Slurm's and Apptainer's commands are stubs."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "RECORD": str(tmp_path), "MTREPRO_SLURM_PARTITION": "a100", "MTREPRO_SLURM_ACCOUNT": "lab"}


def test_dry_run_asks_for_what_the_study_says(chain: Checkout, cluster: dict[str, str]) -> None:
    with chain.edited(STUDY, "resources: {tries: 3}", GPU):
        command = ("snakemake", "-n", "--forceall", "--profile", "slurm", "--configfile", STUDY)
        output = chain.run(*command, **cluster)
    resources = re.findall(r"^rule train:\n(?:    .*\n)*?    resources: (.*)", output, re.MULTILINE)
    assert len(resources) == 4
    wanted = "mem_mb=16000 slurm_partition=a100 slurm_account=lab runtime=90 slurm_extra=--signal=USR1@120 gpu=1"
    assert set(wanted.split()) <= set(resources[0].split(", "))


@pytest.mark.slow  # the executor looks at a job after a minute
def test_job_is_submitted_with_exactly_this(chain: Checkout, cluster: dict[str, str]) -> None:
    (chain.path / "containers").mkdir(exist_ok=True)
    images = [chain.path / f"containers/{name}.sif" for name in ("train", "analysis")]
    for image in images:
        image.touch()
    quick = ("--latency-wait", "1", "--slurm-init-seconds-before-status-checks", "1")
    study = chain.path / "config/studies/submitted.yaml"
    study.write_text(TOY.replace("seeds: [0, 1]", "seeds: [9]").replace("resources: {tries: 3}", GPU))
    name = next(word for word in chain.run("mtrepro", "plan", str(study)).split() if word.startswith("mt_sac-s9-"))
    command = ("snakemake", f"results/toy/{name}/run.json", "--profile", "slurm", *quick, "--configfile", str(study))
    try:
        chain.run(*command, status=1, **cluster)
    finally:
        for path in (study, *images):
            path.unlink()
    record = Path(cluster["RECORD"])
    assert "--nv --cleanenv" in (record / "apptainer.log").read_text()
    submitted = (record / "sbatch.log").read_text().splitlines()
    assert len(submitted) == 1
    asked = submitted[0].partition("--comment ")[2].partition(" --wrap")[0]
    assert asked == (
        f"rule_train_wildcards_{name} -A lab -p a100 -t 90 --mem 16000 --requeue --cpus-per-task=2 --signal=USR1@120 "
        f"-D {chain.path} --gpus=1"
    )
    assert "--deployment-method apptainer" in submitted[0]


def test_without_apptainer_the_message_says_how_to_get_it_and_how_to_plan(chain: Checkout, tmp_path: Path) -> None:
    for command in Path("/usr/bin").iterdir():  # `make cluster-test` may have put an Apptainer there
        if command.name not in ("apptainer", "singularity"):
            (tmp_path / command.name).symlink_to(command)
    path = f"{Path(sys.executable).parent}:{tmp_path}"
    output = chain.run("snakemake", "--profile", "slurm", "-n", status=1, PATH=path)
    assert "no `apptainer` is on the PATH" in output
    assert "snakemake --profile workflow/profiles/local -n" in output
    assert "mtrepro plan config/demo.yaml" in output
    assert "to train" in chain.run("mtrepro", "plan", "config/demo.yaml")


def test_missing_image_stops_before_any_job(chain: Checkout, cluster: dict[str, str]) -> None:
    with chain.edited(STUDY, "seeds: [0, 1]", "seeds: [0, 1, 2]"):
        output = chain.run("snakemake", "runs", "--profile", "slurm", "--configfile", STUDY, status=1, **cluster)
    assert "containers/train.sif: there is no such image" in output
    assert "Error in rule" not in output
