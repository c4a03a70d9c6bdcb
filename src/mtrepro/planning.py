"""What a study will do and what it has given, on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtrepro.errors import MtreproError
from mtrepro.paths import root, shown
from mtrepro.study import load_study


def print_plan(path: Path) -> None:
    """List every run of a study with its budget."""
    resolved = load_study(path)
    jobs = {run.name: job for job in resolved.jobs for run in job}
    together = any(len(job) > 1 for job in jobs.values())
    table = Table(title=f"{resolved.study.title}: {len(resolved.runs)} runs", title_justify="left")
    for column in ("arm", "seed", "run", "vector steps", "transitions", "state", *(["job"] if together else [])):
        table.add_column(column, justify="right" if column in ("seed", "vector steps", "transitions") else "left")
    for run in resolved.runs:
        budget = run.specification.budget
        finished = (root() / resolved.results / run.name / "run.json").exists()
        transitions = budget * len(run.tasks)
        state = "finished" if finished else "to train"
        seeds = " ".join(str(each.seed) for each in jobs[run.name])
        job = [f"seeds {seeds}" if len(jobs[run.name]) > 1 else "alone"] if together else []
        table.add_row(run.arm, str(run.seed), run.name, f"{budget:,}", f"{transitions:,}", state, *job)
    Console(width=140).print(table)


def print_results(study_folder: Path) -> None:
    """Print the result table of a study, its verdicts counted, and where its report and figures lie."""
    from mtrepro.analysis.published_table import verdict_line
    from mtrepro.analysis.tables import result_table

    if not (study_folder / "tables").is_dir():
        raise MtreproError(f"{shown(study_folder)}: no tables yet; run `snakemake all`, or `partial` for what is there")
    print(result_table(study_folder))
    if line := verdict_line(study_folder / "tables"):
        print(line)
    for name in ("report.html", "figures", "pictures"):
        if (study_folder / name).exists():
            print(f"{name.partition('.')[0]}: {shown(study_folder / name)}")
