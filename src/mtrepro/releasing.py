"""The only way into results/released/: a finished study, copied whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from mtrepro.engine.files import write_atomically
from mtrepro.errors import OutputError
from mtrepro.manifest import manifest_text
from mtrepro.paths import root, shown
from mtrepro.results import RESULT_FILES
from mtrepro.study import ResolvedStudy, load_study
from mtrepro.workflow import list_released


def release(study: Path) -> Path:
    """Copy a study's runs to results/released/<study>/ and make its tables and figures there; returns the folder.

    Raises:
        OutputError: a run is missing. Nothing was copied.
    """
    from mtrepro.analysis.aggregate import aggregate
    from mtrepro.analysis.figures import write_figures
    from mtrepro.analysis.tables import write_tables

    resolved = load_study(study)
    _refuse_holes(resolved)
    target = root() / "results" / "released" / resolved.study.study
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for run in resolved.runs:
        (partial / "runs" / run.name).mkdir(parents=True)
        for name in ("specification.yaml", *RESULT_FILES):
            shutil.copyfile(root() / resolved.results / run.name / name, partial / "runs" / run.name / name)
    write_atomically(partial / "manifest.json", manifest_text(resolved, runs_folder="runs"))
    aggregate(partial, partial / "tables")
    write_tables(partial / "tables", partial / "tables")
    write_figures(partial / "tables", partial / "figures")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    list_released()
    print(f"released {len(resolved.runs)} runs to {shown(target)}; now `dvc commit -f` and commit both")
    return target


def _refuse_holes(resolved: ResolvedStudy) -> None:
    missing = [run.name for run in resolved.runs if not (root() / resolved.results / run.name / "run.json").exists()]
    if missing:
        study = shown(resolved.path)
        raise OutputError(
            f"{study}: {len(missing)} of {len(resolved.runs)} runs are missing, the first is {missing[0]}\n"
            f"  a release is whole: run `snakemake runs --configfile {study}` first"
        )
