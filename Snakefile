# Table of contents. `snakemake all` runs the demo; `--configfile config/studies/NAME.yaml` chooses a study.
# How data flows, and which file owns what: docs/workflow.md.
from snakemake.utils import min_version

min_version("9.19")  # the first that reads profile.yaml


# ---- Configuration: one study, checked before anything is planned ----------------------------------------------------
# Snakemake merges configuration files, so the demo is loaded only where no study was chosen.
if not workflow.configfiles:

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"


pathvars:
    runs=STUDY.results,  # a folder for each run, shared by studies
    study=STUDY.folder,  # what is made of them


report: "workflow/report/study.rst"


# ---- Rules -----------------------------------------------------------------------------------------------------------
include: "workflow/rules/train.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/pictures.smk"


# ---- Targets ---------------------------------------------------------------------------------------------------------
rule all:
    default_target: True
    input:
        collect("<runs>/{run}/run.json", run=STUDY.runs),
        collect("<runs>/{run}/weights.pt", run=STUDY.sources),
        "<study>/tables/result_table.md",
        "<study>/figures/learning_curves.svg",
        collect("<study>/pictures/{name}-{kind}.gif", name=SHOWN, kind=KINDS),


rule runs:
    input:
        collect("<runs>/{run}/run.json", run=STUDY.runs),
        collect("<runs>/{run}/weights.pt", run=STUDY.sources),


rule tables:
    input:
        "<study>/tables/result_table.md",


rule figures:
    input:
        "<study>/figures/learning_curves.svg",


rule pictures:
    input:
        collect("<study>/pictures/{name}-{kind}.gif", name=SHOWN, kind=KINDS),


rule report:  # the profiles write report.html once these are there
    input:
        "<study>/tables/result_table.md",
        "<study>/figures/learning_curves.svg",
        collect("<study>/pictures/{name}-{kind}.gif", name=SHOWN, kind=KINDS),


rule partial:  # whatever runs there are; trains nothing
    input:
        "<study>/partial/tables/result_table.md",
        "<study>/partial/figures/learning_curves.svg",
        collect("<study>/partial/pictures/{name}-{kind}.gif", name=STUDY.pictures.filmed, kind=KINDS),


# What takes seconds stays on the machine where Snakemake runs.
localrules:
    specify,
    trace,
    manifest,
    aggregate,
    aggregate_present,
    draw_tables,
    draw_figures,
    all,
    runs,
    tables,
    figures,
    pictures,
    report,
    partial,


onstart:
    note_head()
    need_images(DEPLOYMENT)


onerror:
    print(
        f"Some jobs failed. The others are done; what there is, with its holes: snakemake partial --configfile {STUDY.path}"
    )
