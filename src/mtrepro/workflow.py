"""What the Snakefile and the profiles ask of mtrepro: cheap answers, because every job of a cluster asks again.

Importing this module must not import torch, pandas or matplotlib: a dry run of hundreds of runs takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrepro import validation
from mtrepro.accepting import is_finished, recorded_source, same_results
from mtrepro.engine.files import write_atomically
from mtrepro.errors import SpecificationError
from mtrepro.lineage import WEIGHTS, changed_sources, has_pictures, weights_digest
from mtrepro.manifest import manifest_text
from mtrepro.paths import root, shown
from mtrepro.showing import Pictures
from mtrepro.source import module_digest, run_source
from mtrepro.study import ResolvedStudy, Run, load_study

__all__ = ["DEMO", "RUN", "Group", "Study", "chosen_study", "list_released", "module_digest"]

DEMO = "config/demo.yaml"
RUN = r"[a-z0-9_]+-s\d+-[0-9a-f]{12}"  # a run's name
RELEASED_HEAD = """\
# The released studies; dvc.yaml makes one set of stages for each. `mtrepro release` writes this.
"""


class Study:
    """A study as the rules see it. `run` is always a run's name, which is also the name of its folder."""

    def __init__(self, resolved: ResolvedStudy, packages: Mapping[str, str] | None = None) -> None:
        self._resolved = resolved
        self._packages = packages
        self._runs: dict[str, Run] = {run.name: run for run in resolved.runs}
        self._resources = resolved.study.resources
        self.name: str = resolved.study.study
        self.path: str = shown(resolved.path)
        self.results: str = resolved.results.as_posix()
        self.folder: str = resolved.folder.as_posix()
        self.pictures = Pictures(self, resolved)

    @classmethod
    def load(cls, path: str, packages: Mapping[str, str] | None = None) -> Study:
        """Read, check and resolve a study; `packages` are those of the image that it trains in, None for none.

        Raises:
            MtreproError: anything in it cannot be meant as written.
        """
        return cls(load_study(Path(path)), packages)

    @property
    def runs(self) -> list[str]:
        """The names of the arms' runs, in the order of the study."""
        return [run.name for run in self._resolved.arm_runs]

    @property
    def packages(self) -> dict[str, str]:
        """The packages that the runs' results come from, each with the benchmark family that needs it."""
        found: dict[str, str] = {}
        for run in self._runs.values():
            family = run.specification.benchmark["family"]
            found |= dict.fromkeys(run_source(run.specification.method, family).packages, family)
        return found

    @property
    def sources(self) -> list[str]:
        """The names of the runs that others learn from."""
        return [run for run in self._runs if run in self._resolved.sources]

    def keep(self, run: str) -> str:
        """What the run leaves: its results, or its weights too, for others or for its pictures."""
        if run in self._resolved.sources:
            return "weights"
        return "pictures" if has_pictures(self._runs[run].specification.method) else "results"

    @property
    def leaving(self) -> list[str]:
        """The names of the runs with a job of their own that leave their weights."""
        grouped = {run for group in self.groups for run in group.runs}
        return [run for run in self._runs if self.keep(run) != "results" and run not in grouped]

    def goes_without(self, run: str) -> bool:
        """Whether the run is finished and left no weights, or they were deleted: it is not trained again for them."""
        folder, specification = root() / self.results / run, self._runs[run].specification
        done = is_finished(folder, specification.digest(), self._today(run)) and not self.must_learn_again(run)
        return done and weights_digest(folder) is None and run not in self._resolved.sources

    def weights_for(self, run: str) -> list[str]:
        """The files that the run learns from."""
        return [f"{self.results}/{source}/{WEIGHTS}" for source in self._sources_of(run)]

    def traced(self, run: str) -> list[str]:
        """The file that says what the run is to learn from; of a run that learns from no other, none."""
        return [f"{self.results}/{run}/sources.json"] if self._sources_of(run) else []

    def must_learn_again(self, run: str) -> bool:
        """Whether a finished run learnt from what its sources are no longer, or will not be once they are trained.

        A source whose files were lost is trained again, which by itself is no reason: its weights are compared then.
        """
        if changed_sources(root() / self.results / run):
            return True
        return any(self._edited(source) or self.must_learn_again(source) for source in self._sources_of(run))

    def _sources_of(self, run: str) -> list[str]:
        return list(dict.fromkeys(source.run for source in self._runs[run].specification.sources.values()))

    def _edited(self, run: str) -> bool:
        """Whether a finished run was made by code that counts as other than today's."""
        then = recorded_source(root() / self.results / run)
        return then is not None and self.source_digest(run) != then

    @property
    def groups(self) -> list[Group]:
        """The training jobs of several seeds; every other run has a job of its own."""
        return [Group(self, [run.name for run in job], job[0].arm) for job in self._resolved.jobs if len(job) > 1]

    @property
    def single(self) -> str:
        """A regular expression of the runs that have a job of their own."""
        grouped = "|".join(run for group in self.groups for run in group.runs)
        return rf"(?!(?:{grouped})(?:/|\.))" + RUN if grouped else RUN

    @property
    def threads(self) -> int:
        """Torch threads of one training job. They belong to the run: other threads, other bits."""
        return self._resources.threads

    @property
    def workers(self) -> int:
        """Processes of one training job that step environments beside the trainer, which steps a share itself."""
        return self._resources.workers

    @property
    def cores(self) -> int:
        """Cores of one training job: learning and stepping take turns, and the trainer steps beside its workers."""
        return max(self.threads, self.workers + 1)

    @property
    def device(self) -> str:
        """Where training computes; a study that asks for no GPU uses none where there is one, for the same bits."""
        return "auto" if self.gpu else "cpu"

    @property
    def retries(self) -> int:
        """Tries of one training job after its first; each continues from the checkpoint of the one before."""
        return self._resources.tries - 1

    @property
    def gpu(self) -> int:
        """GPUs of one training job."""
        return self._resources.gpu

    @property
    def mem_mb(self) -> int:
        """Main memory of one training job."""
        return self._resources.mem_mb

    @property
    def runtime(self) -> int:
        """Minutes that one try of a training job may take."""
        return self._resources.runtime

    def specification_digest(self, run: str) -> str:
        """What the run is: the digest of its resolved specification."""
        return self._runs[run].specification.digest()

    def source_digest(self, run: str) -> str:
        """The code that the run depends on; an edit that `mtrepro accept` called harmless does not change it.

        A finished run answers with the digest that it really had, as long as that counts as today's code: the job's
        param is then what it was when the job ran. The packages in it are those of the image where there is one, so
        that other versions repeat a run, and the same versions inside or outside of an image do not.
        """
        today, then = self._today(run), recorded_source(root() / self.results / run)
        return then if then is not None and same_results(today, then) else today

    def _today(self, run: str) -> str:
        specification = self._runs[run].specification
        source = run_source(specification.method, specification.benchmark["family"])
        return (source if self._packages is None else source.installed(self._packages)).digest()

    def label(self, run: str) -> str:
        """What progress lines call the run: its arm and seed."""
        return f"{self._runs[run].arm} s{self._runs[run].seed}"

    @property
    def manifest_digest(self) -> str:
        """Changes when the runs of the study, or what a table says of them, change."""
        return _digest(manifest_text(self._resolved, runs_folder="..").encode())

    def present(self) -> list[str]:
        """The runs that have a result, diverged ones included, each with a digest of what it is."""
        files = {run: root() / self.results / run / "run.json" for run in self.runs}
        return [f"{run}:{_digest(file.read_bytes())}" for run, file in files.items() if file.is_file()]


class Group:
    """Seeds of one arm that one job trains."""

    def __init__(self, study: Study, runs: list[str], arm: str) -> None:
        self.runs, self.label, self._study = runs, arm, study
        self.rule = f"train_{len(runs)}_seeds_{_digest(' '.join(runs).encode())[:12]}"
        self.logs = f"{study.results}/logs/train"

    @property
    def mem_mb(self) -> int:
        """Main memory: every seed has a replay and environments of its own."""
        return len(self.runs) * self._study.mem_mb

    @property
    def retries(self) -> int:
        """As many as the seeds would have had time for one by one: together they may take as long."""
        return len(self.runs) * (self._study.retries + 1) - 1

    @property
    def keep(self) -> str:
        """What the runs leave."""
        return self._study.keep(self.runs[0])

    @property
    def leaving(self) -> list[str]:
        """Those that leave weights: not those that are done without any."""
        return [run for run in self.runs if self.keep != "results" and not self._study.goes_without(run)]

    @property
    def specification_digests(self) -> list[str]:
        """What the runs are."""
        return [self._study.specification_digest(run) for run in self.runs]

    @property
    def source_digests(self) -> list[str]:
        """The code that the runs depend on, or that finished ones really had."""
        return [self._study.source_digest(run) for run in self.runs]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def chosen_study(configfiles: Sequence[str | Path], config: Mapping[str, Any]) -> str:
    """The one study file that Snakemake was given, relative to the checkout.

    Args:
        configfiles: what `--configfile` named, or the demo.
        config: Snakemake's configuration, which must be that file and nothing else.

    Raises:
        SpecificationError: more than one file, or a value changed by `--config`: then the file that is written beside
            the results would not say what was run.
    """
    if len(configfiles) != 1:
        names = ", ".join(shown(Path(name)) for name in configfiles)
        raise SpecificationError(
            f"--configfile {names}: Snakemake would merge the files\n"
            "  choose one study: `snakemake all --configfile config/studies/NAME.yaml`"
        )
    path = Path(configfiles[0])
    content = validation.read_yaml(path)
    changed = sorted(key for key in config.keys() | content.keys() if config.get(key) != content.get(key))
    if changed:
        raise SpecificationError(
            f"--config {changed[0]}=…: a study is changed by editing its file, {shown(path)}\n"
            "  copy it to config/studies/, give it its own `study:` name, and choose it with --configfile"
        )
    return shown(path)


def list_released() -> Path:
    """Write results/released/studies.yaml, from which dvc.yaml makes its stages; returns the file."""
    folder = root() / "results" / "released"
    names = sorted(manifest.parent.name for manifest in folder.glob("[!.]*/manifest.json"))
    path = folder / "studies.yaml"
    write_atomically(path, f"{RELEASED_HEAD}schema_version: 1\nstudies: [{', '.join(names)}]\n")
    return path
