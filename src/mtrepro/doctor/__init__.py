"""`mtrepro doctor`: says what it finds on this machine, whether it is well, and for each problem what to do.

A check is a function that gives findings. installation.py looks at what is installed, machine.py at the machine,
graphics.py at GPU and GL, simulators.py replays the golden trajectories. No run imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtrepro.errors import PROBLEMS_FOUND, MtreproError

State = Literal["ok", "note", "problem"]
COLOUR: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do, one line for each step."""

    check: str
    state: State
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]


def examine(lock: Path | None, quick: bool) -> int:
    """Run every check and print its findings as they come; returns the exit status.

    Args:
        lock: the lock file that installed versions are compared with; None for the environment's or the checkout's.
        quick: replay a tenth of the golden trajectories.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    counts: dict[State, int] = {"ok": 0, "note": 0, "problem": 0}
    for name, check in _checks(lock, quick).items():
        for finding in _findings(name, check):
            counts[finding.state] += 1
            line = Text(f"{finding.state:<8}", style=COLOUR[finding.state])
            first, *rest = [*finding.found.splitlines(), *(f"-> {line}" for line in finding.advice.splitlines())]
            line.append(f"{finding.check:<17}{first}", style="default")
            console.print(line)
            for more in rest:
                console.print(Text(f"{'':<25}{more}"))
    console.print(Text(f"{counts['ok']} ok, {counts['note']} notes, {counts['problem']} problems"))
    return PROBLEMS_FOUND if counts["problem"] else 0


def record_family(family: str, force: bool) -> None:
    """Record the golden trajectories of a family and say what was done.

    Raises:
        MtreproError: unknown family, or stored trajectories changed and `force` is not given. Nothing was written.
    """
    from mtrepro.doctor.machine import usable_cores
    from mtrepro.golden.stored import record

    print(record(family, force, usable_cores()))


def _checks(lock: Path | None, quick: bool) -> dict[str, Check]:
    """The checks by name, in the order in which they are told; the slow one last."""
    from mtrepro.doctor import graphics, installation, machine, simulators

    return {
        "Python": installation.python,
        "packages": lambda: installation.packages(lock),
        "torch, GPU": graphics.torch_and_gpu,
        "GL": graphics.gl,
        "CPU": machine.cores,
        "memory": machine.memory,
        "disk": machine.disk,
        "locks": machine.locks,
        "tools": machine.tools,
        "golden": lambda: simulators.golden(quick),
    }


def _findings(name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check; one that fails is a finding, and the checks after it are still made."""
    try:
        yield from check()
    except MtreproError as error:
        first, _, rest = str(error).partition("\n")
        yield Finding(name, "problem", first, "\n".join(line.strip() for line in rest.splitlines()))
    except Exception as error:
        advice = "a fault of ours: please report it with this line"
        yield Finding(name, "problem", f"the check itself failed: {type(error).__name__}: {error}", advice)
