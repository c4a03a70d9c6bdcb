"""The command line: every command calls one function. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mtrepro.errors import MtreproError

app = typer.Typer(
    help="Reproduce multi-task reinforcement-learning papers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StudyFile = Annotated[Path, typer.Argument(help="a study, such as config/studies/closing.yaml")]
StudyFolder = Annotated[Path, typer.Argument(help="a folder with a manifest.json, such as results/released/closing")]
Output = Annotated[Path, typer.Option("--output", "-o", help="where to write")]


def main() -> None:
    """Run a command; a user's slip ends with its message and its own exit status, without a traceback."""
    try:
        sys.exit(_run())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the terminal went away; Python would call that a failure of the command
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run() -> int:
    try:
        status = app(standalone_mode=False)
    except MtreproError as error:
        print(f"mtrepro: {error}", file=sys.stderr)
        return error.status
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        if error.__class__.__module__.startswith(("click", "typer")) and hasattr(error, "show"):
            error.show()
            return int(getattr(error, "exit_code", 2))
        raise
    return status if isinstance(status, int) else 0


@app.command()
def plan(study: StudyFile) -> None:
    """List the runs of a study and check all of it; starts nothing and needs no Snakemake."""
    from mtrepro.planning import print_plan

    print_plan(study)


@app.command()
def specify(study: StudyFile, run: str, output: Output) -> None:
    """Write the specification.yaml of one run of a study."""
    from mtrepro.engine.files import write_atomically
    from mtrepro.study import load_study

    write_atomically(output, load_study(study).run(run).specification.to_yaml())


@app.command()
def train(
    specification: Annotated[
        list[Path], typer.Argument(help="a run's specification.yaml, or those of several seeds; results appear beside")
    ],
    threads: Annotated[int, typer.Option(min=1, help="torch threads; they belong to the run")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes that step beside the trainer; same bits")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "auto",
    log: Annotated[
        Path | None, typer.Option(help="file that gets a copy of what is printed; of several runs a folder")
    ] = None,
    label: Annotated[str | None, typer.Option(help="what progress lines call the run")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="between checkpoints, at least")] = 60.0,
    wait: Annotated[bool, typer.Option(help="where another process trains this run, wait for it")] = False,
    other_machine: Annotated[bool, typer.Option(help="resume with other threads, processor or device")] = False,
    keep: Annotated[
        str,
        typer.Option(help="results; weights: those too, for runs that learn from it; pictures: those, for its film"),
    ] = "results",
    simulator: Annotated[
        str,
        typer.Option(envvar="MTREPRO_SIMULATOR", help="fast, or stock: the packages' own code; same bits either way"),
    ] = "fast",
) -> int:
    """Train a run to its end, from its checkpoint where there is one; several seeds of one arm at once.

    Exit statuses: docs/exit-statuses.md.
    """
    begun = time.monotonic()
    from mtrepro.engine.signals import StopRequest

    with StopRequest() as stop:  # from here on a signal saves and ends with its own status; torch takes seconds to load
        from mtrepro.options import Options
        from mtrepro.process import train as train_runs

        options = Options(
            threads, workers, device, checkpoint_seconds, log, label, wait, other_machine, keep, simulator
        )
        return train_runs(specification, options, stop, begun)


@app.command()
def trace(specification: Annotated[Path, typer.Argument(help="a run's specification.yaml")], output: Output) -> None:
    """Write what a run is to learn from: name and weights' digest of each of its sources."""
    from mtrepro.lineage import trace as trace_sources

    trace_sources(specification, output)


@app.command()
def film(
    run_folder: Annotated[Path, typer.Argument(help="the folder of a finished run that left its weights")],
    output: Output,
) -> None:
    """Play an episode of every task and predict it with the run's world model: film.npz, the same bytes each time."""
    from mtrepro.filming import film as film_run

    film_run(run_folder, output)


@app.command()
def pictures(
    films: Annotated[list[Path], typer.Argument(help="what `mtrepro film` wrote")],
    output: Output,
    name: Annotated[
        str | None, typer.Option(help="what the files of a single film begin with; else the run's name")
    ] = None,
    largest: Annotated[
        int | None, typer.Option(min=1, help="bytes of a file; larger ones are drawn smaller; else 800,000")
    ] = None,
) -> None:
    """Draw NAME-episode.gif and NAME-open_loop.gif of each film; the same bytes each time."""
    from mtrepro.analysis.pictures import write_pictures
    from mtrepro.film import LARGEST

    write_pictures(films, output, name, largest or LARGEST)


@app.command()
def status(
    study: StudyFile,
    watch: Annotated[
        bool, typer.Option("--watch", help="look again every few seconds, until all runs are over")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for other programs")] = False,
) -> None:
    """Show how every run of a study stands, from the files alone; works while others train, from any machine."""
    from mtrepro.status_table import print_status

    print_status(study, watch, as_json)


@app.command()
def profile(
    run: Annotated[str, typer.Argument(help="a run's folder, or its name as `mtrepro status` shows it")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for other programs")] = False,
) -> None:
    """Say where a run's time went: environment, policy, update, evaluation, checkpoint, waiting and the rest."""
    from mtrepro.profiling import print_profile

    print_profile(run, as_json)


@app.command()
def clean(
    study: StudyFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="free nothing; say what would be freed")] = False,
) -> None:
    """Free the checkpoints of a study's finished runs and those that edited code left behind; says how much."""
    from mtrepro.cleaning import print_cleaned

    print_cleaned(study, dry_run)


@app.command()
def manifest(study: StudyFile, output: Output) -> None:
    """Write the manifest of a study: every run that its tables expect."""
    from mtrepro.manifest import write_manifest

    write_manifest(study, output)


@app.command()
def aggregate(study_folder: StudyFolder, output: Annotated[Path | None, typer.Option("--output", "-o")] = None) -> None:
    """Turn the runs that are there into tables of statistics; what is missing is shown as a hole and counted."""
    from mtrepro.analysis.aggregate import aggregate as aggregate_runs

    aggregate_runs(study_folder, output or study_folder / "tables")


@app.command()
def tables(tables_folder: Path, output: Annotated[Path | None, typer.Option("--output", "-o")] = None) -> None:
    """Write the tables as Markdown and LaTeX."""
    from mtrepro.analysis.tables import write_tables

    write_tables(tables_folder, output or tables_folder)


@app.command()
def figures(tables_folder: Path, output: Output) -> None:
    """Draw the figures as SVG, PDF and PNG; the same bytes each time."""
    from mtrepro.analysis.figures import write_figures

    write_figures(tables_folder, output)


@app.command()
def show(study_folder: StudyFolder) -> None:
    """Print the result table of a study and where its report lies."""
    from mtrepro.planning import print_results

    print_results(study_folder)


@app.command()
def release(study: StudyFile) -> None:
    """Copy a finished study's runs, tables, figures and pictures into results/released/, which git and DVC track."""
    from mtrepro.releasing import release as release_study

    release_study(study)


@app.command()
def accept(study: StudyFile, reason: Annotated[str, typer.Option(help="why the edit changes no result")]) -> None:
    """Record that the code's edits since the runs of a study were made change none of their results."""
    from mtrepro.accepting import accept_study

    accept_study(study, reason)


@app.command()
def tensorboard(study_folder: StudyFolder, output: Output) -> None:
    """Write the curves of a study's runs as TensorBoard event files."""
    from mtrepro.analysis.tensorboard import write_events

    write_events(study_folder, output)


@app.command()
def embed(
    model: Annotated[str | None, typer.Option(help="text model, run over the descriptions")] = None,
    file: Annotated[Path | None, typer.Option("--import", help="JSON of task names and vectors, as mtrl's")] = None,
    name: Annotated[str | None, typer.Option(help="what to call it; else as the model or the file")] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail where the file there is another")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="replace a file that holds something else; not with --check")
    ] = False,
) -> None:
    """Make a task embedding in config/embeddings/, from a text model or from a file; see docs/embeddings.md."""
    from mtrepro.embed import embed as make_embedding

    make_embedding(model, file, name, check, force)


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="replay a tenth of the golden trajectories")] = False,
    lock: Annotated[
        Path | None, typer.Option(help="lock to compare with; else MTREPRO_LOCK, else requirements.lock")
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="FAMILY", help="check nothing; record this family's golden trajectories")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="with --record: replace trajectories that changed")] = False,
) -> int:
    """Say what this machine has and whether each simulator still gives what it gave; see docs/doctor.md."""
    from mtrepro.doctor import examine, record_family

    if record is None:
        return examine(lock, quick)
    record_family(record, force)
    return 0


@app.command()
def docs(check: Annotated[bool, typer.Option(help="change nothing; fail where a file is not current")] = False) -> None:
    """Write the JSON Schemas in config/schemas/ and the parameter tables in docs/ from the types that validate."""
    from mtrepro.documenting import write_documents

    write_documents(check)


if __name__ == "__main__":
    main()
