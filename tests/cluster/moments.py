"""At which moments of their training runs are disturbed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .slurm import Study, wait_for

MOMENTS = int(os.environ.get("MTREPRO_MOMENTS", "1"))  # of each kind of disturbance
SEED = int(os.environ.get("MTREPRO_SEED") or random.SystemRandom().randrange(1, 10**6))
RUNS = min(4, MOMENTS)  # of a study, which share the moments: each try costs more than its training
BUDGET = 6_000  # steps: some seconds of training
TIMES = [len(range(seed, MOMENTS, RUNS)) for seed in range(RUNS)]  # how often each run is disturbed
TOLD: list[str] = []  # what the run of the tests says at its end


def disturb(study: Study, seconds: float, do: Callable[[int], object], ends: bool = False) -> None:
    """Do something to each run of a study, told by its seed, at random moments.

    `seconds` is how long a run trains. `ends`: the trainer ends of it, and the next moment is one of its successor's.
    """

    def one(seed: int) -> None:
        stream = random.Random(f"{SEED} {do.__name__} {seed}")  # the same moments for the same MTREPRO_SEED
        for _ in range(TIMES[seed]):
            study.wait_until(stream.uniform(0.05, 0.6 / TIMES[seed]) * seconds, seed)
            process = study.trainer(seed)
            do(seed)
            if ends:
                wait_for(lambda process=process: not Path(f"/proc/{process}").exists(), "the trainer's end")

    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(one, range(RUNS)))
