# From the numbers to tables and figures. {folder} is the study's, or its partial/.


rule draw_tables:
    input:
        collect("{{folder}}/tables/{name}", name=NUMBERS),
    output:
        result=report(
            "{folder}/tables/result_table.md",
            caption="../report/result_table.rst",
            category="Tables",
            labels={"table": "result"},
        ),
        per_task=report(
            "{folder}/tables/per_task_table.md",
            caption="../report/per_task_table.rst",
            category="Tables",
            labels={"table": "per task"},
        ),
        published=report(
            "{folder}/tables/published_table.md",
            caption="../report/published_table.rst",
            category="Tables",
            labels={"table": "printed numbers"},
        ),
        latex=collect("{{folder}}/tables/{name}_table.tex", name=["result", "per_task", "published"]),
    log:
        "{folder}/logs/tables.log",
    container:
        IMAGES["analysis"]
    params:
        source=module_digest("mtrepro.analysis.tables"),
        tables=subpath(input[0], parent=True),
    shell:
        "mtrepro tables {params.tables} 2> {log}"


rule draw_figures:
    input:
        collect("{{folder}}/tables/{name}", name=DRAWN),
    output:
        learning_curves=report(
            "{folder}/figures/learning_curves.svg",
            caption="../report/learning_curves.rst",
            category="Figures",
            labels={"figure": "learning curves"},
        ),
        final=report(
            "{folder}/figures/final.svg",
            caption="../report/final.rst",
            category="Figures",
            labels={"figure": "last evaluation"},
        ),
        task_success=report(
            "{folder}/figures/task_success.svg",
            caption="../report/tasks.rst",
            category="Figures",
            labels={"figure": "success of each task"},
        ),
        task_return=report(
            "{folder}/figures/task_return.svg",
            caption="../report/tasks.rst",
            category="Figures",
            labels={"figure": "return of each task"},
        ),
        other=collect("{{folder}}/figures/{name}.{kind}", name=FIGURES, kind=["pdf", "png"]),
    log:
        "{folder}/logs/figures.log",
    container:
        IMAGES["analysis"]
    params:
        source=module_digest("mtrepro.analysis.figures"),
        tables=subpath(input[0], parent=True),
        figures=subpath(output[0], parent=True),
    shell:
        "mtrepro figures {params.tables} --output {params.figures} 2> {log}"
