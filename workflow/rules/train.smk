# From a study to its runs: one specification and one training job for each arm and seed, and for each run that these
# learn from.


rule specify:
    # Ancient: of the study only this run's digest counts, and it stands in the run's name.
    input:
        study=ancient(STUDY.path),
    output:
        specification="<runs>/{run}/specification.yaml",
    log:
        "<runs>/logs/specify/{run}.log",
    container:
        IMAGES["analysis"]
    params:
        specification=specification_digest,
    shell:
        "mtrepro specify {input.study} {wildcards.run} --output {output.specification} 2> {log}"


# What a run is to learn from. Small, and made again whenever a source is: Snakemake then compares its content.
rule trace:
    input:
        specification=ancient("<runs>/{run}/specification.yaml"),
        weights=weights_for_run,
    output:
        sources="<runs>/{run}/sources.json",
    log:
        "<runs>/logs/trace/{run}.log",
    container:
        IMAGES["analysis"]
    shell:
        "mtrepro trace {input.specification} --output {output.sources} 2> {log}"


rule train:
    # Ancient: file times mean nothing on a fresh clone. What counts is in params: the two digests.
    # Checkpoints are not declared, or Snakemake would delete them before each try; the trainer keeps that house itself.
    input:
        specification=ancient("<runs>/{run}/specification.yaml"),
        sources=traced_sources,  # of a run that learns from others
    output:
        evaluation="<runs>/{run}/evaluation.csv",
        training="<runs>/{run}/training.csv",
        timing="<runs>/{run}/timing.csv",
        provenance="<runs>/{run}/run.json",
    log:
        "<runs>/logs/train/{run}.log",
    benchmark:
        "<runs>/benchmarks/train/{run}.jsonl"
    wildcard_constraints:
        run=STUDY.single,
    # Each try continues from the checkpoint of the one before. The head alone counts: the Snakemake inside a Slurm job
    # would try again at once, in the two minutes that were left for saving.
    retries: STUDY.retries if workflow.is_main_process else 0
    container:
        IMAGES["train"]
    threads: STUDY.cores
    resources:
        gpu=STUDY.gpu,
        mem_mb=STUDY.mem_mb,
        runtime=STUDY.runtime,
        # Options of the trainer that change no result. Here, because a changed param would make finished runs stale; and
        # not {threads}, which Snakemake lowers to the cores there are, while a run's threads are its own.
        torch_threads=STUDY.threads,
        workers=STUDY.workers,
        device=STUDY.device,
        label=run_label,
        keep=what_run_keeps,
    params:
        specification=specification_digest,
        source=source_digest,  # edits to the code that this run imports rerun it; edits elsewhere do not
    shell:
        "mtrepro train {input.specification} --threads {resources.torch_threads} --workers {resources.workers}"
        " --device {resources.device} --label '{resources.label}' --keep {resources.keep} --log {log} --wait"


if STUDY.leaving:

    # The same job for a run that leaves its weights too: others learn from it, or it is shown in pictures.
    use rule train as train_leaving with:
        output:
            evaluation="<runs>/{run}/evaluation.csv",
            training="<runs>/{run}/training.csv",
            timing="<runs>/{run}/timing.csv",
            weights="<runs>/{run}/weights.pt",
            provenance="<runs>/{run}/run.json",
        wildcard_constraints:
            run="|".join(STUDY.leaving),

    ruleorder: train_leaving > train


# The same for several seeds of an arm in one process (`seeds_per_job`). Which they are no wildcard can say.
for GROUP in STUDY.groups:

    rule:
        name:
            GROUP.rule
        input:
            specifications=ancient(collect("<runs>/{run}/specification.yaml", run=GROUP.runs)),
        output:
            # Updated: Snakemake would delete the results of all where those of one are missing. The trainer leaves alone
            # what is done.
            update(collect("<runs>/{run}/evaluation.csv", run=GROUP.runs)),
            update(collect("<runs>/{run}/training.csv", run=GROUP.runs)),
            update(collect("<runs>/{run}/timing.csv", run=GROUP.runs)),
            update(collect("<runs>/{run}/run.json", run=GROUP.runs)),
            update(collect("<runs>/{run}/weights.pt", run=GROUP.leaving)),
        log:
            collect("<runs>/logs/train/{run}.log", run=GROUP.runs),
        benchmark:
            f"<runs>/benchmarks/train/{GROUP.rule}.jsonl"
        retries: GROUP.retries if workflow.is_main_process else 0
        container:
            IMAGES["train"]
        threads: STUDY.cores
        resources:
            gpu=STUDY.gpu,
            mem_mb=GROUP.mem_mb,
            runtime=STUDY.runtime,
            torch_threads=STUDY.threads,
            workers=STUDY.workers,
            device=STUDY.device,
            label=GROUP.label,
            logs=GROUP.logs,
            keep=GROUP.keep,
        params:
            specification=GROUP.specification_digests,
            source=GROUP.source_digests,
        shell:
            "mtrepro train {input.specifications} --threads {resources.torch_threads} --workers {resources.workers}"
            " --device {resources.device} --label '{resources.label}' --keep {resources.keep} --log {resources.logs} --wait"
