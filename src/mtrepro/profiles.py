"""What the profiles read from Snakemake's command line: a profile is a constant, and these values are not.

Importing this module must not import torch, pandas or matplotlib: every job of a cluster asks again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mtrepro.errors import MtreproError
from mtrepro.paths import root
from mtrepro.study import load_study
from mtrepro.workflow import DEMO


def report_file(arguments: Sequence[str] | None = None) -> str | None:
    """Where Snakemake shall write its report after this command, or None for no report; the profiles ask this.

    A profile is a constant and the report belongs to a study, so this reads the command line: `--configfile` says which
    study, a dry run makes no report, nor do targets that are only a part of one.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if _has(words, "--dry-run", "--dryrun", "-n") or {"runs", "specifications"} & set(words):
        return None
    try:
        study = load_study(Path(_value(words, "--configfile", "--configfiles") or root() / DEMO))
    except MtreproError:
        return None  # the Snakefile says what is wrong
    folder = study.folder / "partial" if "partial" in words else study.folder
    (root() / folder).mkdir(parents=True, exist_ok=True)
    return (folder / "report.html").as_posix()


def default_cores(arguments: Sequence[str] | None = None) -> str | None:
    """All cores where the command line chooses no profile, so that plain `snakemake all` works; else None.

    A cluster must not get it: Snakemake would cut every job's threads down to the cores of the machine it starts from.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _has(words, "--profile", "--executor", "-e", "--jobs", "-j") or "SNAKEMAKE_PROFILE" in os.environ
    return None if chosen else "all"


def _has(words: Sequence[str], *options: str) -> bool:
    return any(word.split("=", 1)[0] in options for word in words)


def _value(words: Sequence[str], *options: str) -> str | None:
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in options:
            return value if equals else next(iter(words[index + 1 : index + 2]), None)
    return None
