"""Runs on the cluster: in the image, on the GPU that was asked for, submitted with exactly the lines that are meant."""

from __future__ import annotations

import os
import time
from pathlib import Path

import yaml

from mtrepro import kernels

from .moments import RUNS, TOLD
from .slurm import Cluster, Study


def test_every_job_ran_in_the_image_on_the_gpu_that_was_asked_for(undisturbed: Study) -> None:
    digests = yaml.safe_load((undisturbed.cluster.checkout.path / "containers/digests.yaml").read_text())
    image = digests["images"]["train"]
    records = undisturbed.records()
    assert len(records) == RUNS
    assert len({record["provenance"]["hardware"]["visible_gpus"] for record in records}) == RUNS  # side by side
    for record in records:
        container = record["provenance"]["container"]
        assert container["image"] == image["file"].removeprefix("containers/")
        assert (container["manifest"], container["sif"]) == (image["manifest"], image["sif"])
        assert record["provenance"]["hardware"]["visible_gpus"] in set("01234567")  # one of the cluster's
        assert record["provenance"]["commit"] and record["provenance"]["job"].isdigit()
        assert (record["status"], record["resumes"], record["exact"]) == ("done", 0, True)


def test_a_job_is_submitted_with_exactly_this(undisturbed: Study) -> None:
    lines = undisturbed.submitted()
    assert all(line.startswith("--parsable --job-name ") for line in lines)
    asked = {line.partition("--comment ")[2].partition(" --wrap")[0] for line in lines}
    assert asked == {
        f"rule_train_wildcards_{name} -A default -p gpu -t 30 --mem 1500 --requeue --cpus-per-task=1 "
        f"--signal=USR1@120 -D {undisturbed.cluster.checkout.path} --gpus=1"
        for name in undisturbed.contents()
    }
    assert len(lines) == RUNS


def trains(study: Study, profile: str) -> bool:
    """Whether a dry run would train."""
    command = (
        "snakemake",
        "runs",
        "-n",
        "--profile",
        profile,
        "--configfile",
        f"config/studies/{study.name}.yaml",
    )
    return "rule train:" in study.cluster.checkout.run(*command)


def test_leaving_the_image_or_building_it_again_repeats_nothing_and_other_packages_do(undisturbed: Study) -> None:
    assert not trains(undisturbed, "slurm")
    assert not trains(undisturbed, "workflow/profiles/local")
    checkout = undisturbed.cluster.checkout
    image = yaml.safe_load((checkout.path / "containers/digests.yaml").read_text())["images"]["train"]
    with checkout.edited("containers/digests.yaml", image["sif"], "f" * 64):
        assert not trains(undisturbed, "slurm")
    with checkout.edited("containers/digests.yaml", "torch: 2.13.0", "torch: 2.13.1"):
        assert trains(undisturbed, "slurm")


def test_the_largest_published_study_is_planned_within_seconds(cluster: Cluster) -> None:
    study = "config/studies/ptsl-mtrl10-200k.yaml"
    command = ("snakemake", "--profile", "slurm", "all", "-n", "--quiet", "--configfile", study)
    begun, used = time.monotonic(), os.times()
    cluster.checkout.run(*command)
    seconds, processor = time.monotonic() - begun, os.times().children_user - used.children_user
    TOLD.append(f"planned {study} in {seconds:.1f} s, {processor:.1f} s of the processor")  # the machine may be busy


def test_meta_world_in_the_image_gives_the_bits_of_meta_world_outside(cluster: Cluster) -> None:
    inside, outside = cluster.study(200, benchmark="closing", gpu=0), cluster.study(200, benchmark="closing", gpu=0)
    inside.head().ends()  # there is one head a checkout
    file = f"config/studies/{outside.name}.yaml"
    clean = ("env", *(word for name in kernels.VARIABLES for word in ("--unset", name)))  # as in the image
    cluster.checkout.run(*clean, "snakemake", "runs", "--profile", "workflow/profiles/local", "--configfile", file)
    assert [record["provenance"]["container"] is None for record in inside.records() + outside.records()] == [
        False,
        True,
    ]
    assert len(inside.contents()) == 1
    if Path("/etc/debian_version").read_text().startswith("12."):  # the image's own: another C library rounds otherwise
        assert inside.contents() == outside.contents()
