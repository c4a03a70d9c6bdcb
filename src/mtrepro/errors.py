"""The errors a user can cause, and the exit status of each; docs/exit-statuses.md is their legend.

Anything else that is raised is our mistake and keeps its traceback.
"""

from __future__ import annotations


class MtreproError(Exception):
    """A slip that a message can mend: what was wrong, where, and what to do. Printed without a traceback."""

    status = 2


class SpecificationError(MtreproError):
    """A study, method, benchmark or specification that cannot be meant as written. Nothing was started."""

    status = 2


class FastSimulatorError(MtreproError):
    """What the environments rely on does not hold with what is installed here. Nothing was started."""

    status = 2


class MissingError(MtreproError):
    """A package or a library of this machine that a benchmark needs is not there. Nothing was started."""

    status = 2


class WorkerError(MtreproError):
    """A process that steps environments died: killed, or out of memory. The last checkpoint stands."""

    status = 71


class StateError(MtreproError):
    """Saved state that does not belong to this run, or that another machine setting made. Nothing was changed."""

    status = 3


class LeaseError(MtreproError):
    """Another trainer holds this run, or other runs every GPU."""

    status = 73


class OutputError(MtreproError):
    """The machine cannot take what we write: a full disk, a folder without permission. Nothing was lost."""

    status = 74


PROBLEMS_FOUND = 4  # `mtrepro doctor` has something to mend
SAVED_ON_TERMINATE = 75  # SIGTERM or SIGUSR1: saved; start the same command again
SAVED_ON_INTERRUPT = 76  # SIGINT: saved; start the same command again
