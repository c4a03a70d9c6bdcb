"""The only way into results/released/: a finished study, copied whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.film import FILM, read_film
from mtrepro.lineage import read_record
from mtrepro.manifest import manifest_text
from mtrepro.paths import root, shown
from mtrepro.results import RESULT_FILES
from mtrepro.study import ResolvedStudy, load_study
from mtrepro.workflow import list_released


def release(study: Path) -> Path:
    """Copy a study's runs to results/released/<study>/, make tables, figures and pictures there; returns the folder.

    Raises:
        MtreproError: a run, or a file of one, is missing. Nothing was copied.
    """
    resolved = load_study(study)
    _refuse_holes(resolved)
    target = root() / "results" / "released" / resolved.study.study
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(partial, resolved)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    list_released()
    print(f"released {len(resolved.runs)} runs to {shown(target)}; now `dvc commit -f` and commit both")
    return target


def _fill(folder: Path, resolved: ResolvedStudy) -> None:
    """Copy the runs and make manifest, numbers, tables, figures and pictures."""
    from mtrepro.analysis.aggregate import aggregate
    from mtrepro.analysis.figures import write_figures
    from mtrepro.analysis.tables import write_tables

    for run in resolved.runs:
        (folder / "runs" / run.name).mkdir(parents=True)
        for name in ("specification.yaml", *RESULT_FILES):
            shutil.copyfile(root() / resolved.results / run.name / name, folder / "runs" / run.name / name)
    write_atomically(folder / "manifest.json", manifest_text(resolved, runs_folder="runs"))
    aggregate(folder, folder / "tables")
    write_tables(folder / "tables", folder / "tables")
    write_figures(folder / "tables", folder / "figures")
    _draw_pictures(folder / "pictures", resolved)


def _draw_pictures(folder: Path, resolved: ResolvedStudy) -> None:
    """Draw the runs with the first seed whose films are there and are of the weights that the run left.

    One seed of each arm: git keeps what it once had, and every GIF may have some hundred kilobytes.
    """
    from mtrepro.analysis.pictures import write_pictures

    for run in (run for run in resolved.arm_runs if run.seed == resolved.study.seeds[0]):
        path = root() / resolved.results / run.name / FILM
        if path.is_file() and read_film(path).weights == read_record(path.parent).get("weights"):
            write_pictures([path], folder, f"{run.arm}-s{run.seed}")


def _refuse_holes(resolved: ResolvedStudy) -> None:
    folder = root() / resolved.results
    needed = ("specification.yaml", *RESULT_FILES)
    missing = [run.name for run in resolved.runs if not all((folder / run.name / name).exists() for name in needed)]
    if missing:
        study = shown(resolved.path)
        raise MtreproError(
            f"{study}: {len(missing)} of {len(resolved.runs)} runs are missing, the first is {missing[0]}\n"
            f"  a release is whole: run `snakemake runs --configfile {study}` first"
        )
