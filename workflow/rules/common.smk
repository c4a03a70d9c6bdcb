# The study that was chosen, and what the rules ask of it; the answers are computed in src/mtrepro/workflow.py.
import signal
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from mtrepro.errors import MtreproError
from mtrepro.head import clear_dead_heads_lock, note_head, submit_through_ours
from mtrepro.images import (
    image,
    image_packages,
    need_apptainer,
    need_images,
    need_packages,
    pass_variables,
    shield_mounts,
)
from mtrepro.showing import KINDS
from mtrepro.workflow import RUN, Study, chosen_study, module_digest

# Slurm sends USR1 to every process of a job before its time is up. It is meant for the trainer alone: what stands
# between must not die of it, and hands its deafness down to the shells that it starts.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# Jobs in an image see a few variables of the machine and no others.
pass_variables()

# The head submits through our own sbatch, which finds the jobs of a head that was killed instead of doubling them.
if workflow.is_main_process:
    submit_through_ours()

# A head that was killed left its lock behind; the same command starts again.
if workflow.is_main_process and clear_dead_heads_lock():  # a job is no head
    print("The head process before this one is dead; its lock was cleared.", file=sys.stderr)

try:
    # Ours first, because it names the nearest valid key; then the exported schema, which editors read too.
    DEPLOYMENT = workflow.deployment_settings.deployment_method
    STUDY = Study.load(chosen_study(workflow.configfiles, config), image_packages("train", DEPLOYMENT))
    need_apptainer(DEPLOYMENT, STUDY.path)
    need_packages(DEPLOYMENT, STUDY.path, STUDY.packages)
    shield_mounts(DEPLOYMENT)  # they keep their image when a signal comes
except MtreproError as error:
    raise WorkflowError(str(error)) from None
validate(config, "../../config/schemas/study.schema.json", set_default=False)

# What the pictures of those runs begin with that have any; asked once, because it reads the files of every run.
SHOWN = STUDY.pictures.names

# Used under `--sdm apptainer` alone.
IMAGES = {name: image(name) for name in ("train", "analysis")}

# What `mtrepro aggregate` writes, what of it `mtrepro figures` reads, and what that draws. dvc.yaml says the same.
NUMBERS = [
    "summary.csv",
    "per_task.csv",
    "curves.csv",
    "learning_curves.csv",
    "runs.csv",
    "published.csv",
    "metrics.json",
    "study.json",
]
DRAWN = ["summary.csv", "curves.csv", "study.json"]
FIGURES = ["learning_curves", "final", "task_success", "task_return"]


wildcard_constraints:
    run=RUN,
    folder=rf"{STUDY.folder}(/partial)?",


def specification_digest(wildcards):
    return STUDY.specification_digest(wildcards.run)


def source_digest(wildcards):
    return STUDY.source_digest(wildcards.run)


def run_label(wildcards):
    return STUDY.label(wildcards.run)


def what_run_keeps(wildcards):
    return STUDY.keep(wildcards.run)


def weights_for_run(wildcards):
    return STUDY.weights_for(wildcards.run)


def film_of_picture(wildcards):
    return STUDY.pictures.film(wildcards.arm, wildcards.seed)


def film_stamp(wildcards):
    return STUDY.pictures.stamp(wildcards.arm, wildcards.seed)


def traced_sources(wildcards):
    """Ancient while the run learnt from what its sources are: a source made again to the same bits repeats nothing."""
    files = STUDY.traced(wildcards.run)
    return files if STUDY.must_learn_again(wildcards.run) else ancient(files)
