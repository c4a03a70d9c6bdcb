"""Which runs of a study are shown in pictures, as the rules see it; read from files, without torch.

A run of a method with pictures leaves `weights.pt` when it is trained. From these its film is played, from the film the
pictures are drawn. Nothing is trained for a picture's sake: a finished run without weights has none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mtrepro.film import FILM, LARGEST, played_weights
from mtrepro.lineage import has_pictures, read_record
from mtrepro.paths import root

if TYPE_CHECKING:
    from mtrepro.study import ResolvedStudy
    from mtrepro.workflow import Study

KINDS = ["episode", "open_loop"]
IN_REPORT = 40_000_000  # bytes of all pictures of a study: its report holds every one


class Pictures:
    """The pictures of a study. Those of a run begin with `ARM-sSEED`."""

    def __init__(self, study: Study, resolved: ResolvedStudy) -> None:
        self._study = study
        self._shown = {(run.arm, run.seed): run.name for run in resolved.runs if has_pictures(run.specification.method)}

    @property
    def runs(self) -> list[str]:
        """The runs, by name, that have pictures once they were trained: those of arms and of sources."""
        return list(self._shown.values())

    @property
    def largest(self) -> int:
        """Bytes of one picture at most."""
        return min(LARGEST, IN_REPORT // max(1, len(KINDS) * len(self._shown)))

    @property
    def arms(self) -> str:
        """A regular expression of their arms and sources."""
        return "|".join(dict.fromkeys(re.escape(arm) for arm, _ in self._shown))

    @property
    def names(self) -> list[str]:
        """What the pictures begin with that a study has when all of it is done."""
        return [f"{arm}-s{seed}" for (arm, seed), run in self._shown.items() if not self._study.goes_without(run)]

    @property
    def filmed(self) -> list[str]:
        """What the pictures begin with whose film is there now, of the weights that the run's record names."""
        return [f"{arm}-s{seed}" for arm, seed in self._shown if self._is_current(self._file(arm, seed))]

    def film(self, arm: str, seed: str) -> str:
        """The film of a run."""
        return f"{self._study.results}/{self._shown[arm, int(seed)]}/{FILM}"

    def stamp(self, arm: str, seed: str) -> str:
        """Changes when the film that is there does; a digest would read all of it, in every job."""
        try:
            found = self._file(arm, int(seed)).stat()
        except OSError:  # being made again; its rule says what is missing
            return "none"
        return f"{found.st_size} {found.st_mtime_ns}"

    @staticmethod
    def _is_current(path: Path) -> bool:
        """Whether there is a film, and of what its run left last: another is of before the run was repeated."""
        return path.is_file() and played_weights(path) == read_record(path.parent).get("weights", "")

    def _file(self, arm: str, seed: int) -> Path:
        return root() / self.film(arm, str(seed))
