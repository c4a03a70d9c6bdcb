# From the runs to numbers. A digest of the code that makes them is in params: an edit redoes what imports it.


rule manifest:
    input:
        study=ancient(STUDY.path),
    output:
        manifest="<study>/manifest.json",
    log:
        "<study>/logs/manifest.log",
    container:
        IMAGES["analysis"]
    params:
        manifest=STUDY.manifest_digest,
    shell:
        "mtrepro manifest {input.study} --output {output.manifest} 2> {log}"


rule aggregate:
    input:
        manifest="<study>/manifest.json",
        evaluation=collect("<runs>/{run}/evaluation.csv", run=STUDY.runs),
        provenance=collect("<runs>/{run}/run.json", run=STUDY.runs),
    output:
        report(
            collect("<study>/tables/{name}", name=NUMBERS),
            caption="../report/data.rst",
            category="Data",
        ),
    log:
        "<study>/logs/aggregate.log",
    container:
        IMAGES["analysis"]
    params:
        source=module_digest("mtrepro.analysis.aggregate"),
        study=subpath(input.manifest, parent=True),
        tables=subpath(output[0], parent=True),
    shell:
        "mtrepro aggregate {params.study} --output {params.tables} 2> {log}"


# Whatever runs there are, without planning any: runs are a param here, not an input that Snakemake would make.
use rule aggregate as aggregate_present with:
    input:
        manifest="<study>/manifest.json",
    output:
        report(
            collect("<study>/partial/tables/{name}", name=NUMBERS),
            caption="../report/data.rst",
            category="Data",
        ),
    log:
        "<study>/partial/logs/aggregate.log",
    params:
        source=module_digest("mtrepro.analysis.aggregate"),
        study=subpath(input.manifest, parent=True),
        tables=subpath(output[0], parent=True),
        present=STUDY.present(),
