"""Tasks that are held out: evaluated, never trained on. They stand behind all others in a benchmark's tasks."""

from __future__ import annotations

from mtrepro.benchmarks import Benchmark, Environment, Purpose
from mtrepro.benchmarks.shares import costs_of


def held_out_tasks(benchmark: Benchmark) -> tuple[str, ...]:
    """The names of the held-out tasks; of most benchmarks there are none.

    Raises:
        ValueError: they are not the last tasks, or there is no other; a family's file is wrong.
    """
    names = tuple(getattr(benchmark, "held_out", ()))
    if names and (benchmark.tasks[-len(names) :] != names or len(names) == len(benchmark.tasks)):
        raise ValueError(f"held-out tasks {names} must be the last of {benchmark.tasks}, and not all of them")
    return names


def training_part(benchmark: Benchmark) -> Benchmark:
    """The benchmark without its held-out tasks; itself where there are none."""
    names = held_out_tasks(benchmark)
    return FirstTasks(benchmark, len(benchmark.tasks) - len(names)) if names else benchmark


class FirstTasks:
    """The first `count` tasks of a benchmark, as a benchmark; what each task does is the same in both."""

    def __init__(self, whole: Benchmark, count: int) -> None:
        self.whole, self.tasks, self.stock = whole, whole.tasks[:count], whole.stock
        self.observation_shape, self.observation_dtype = whole.observation_shape, whole.observation_dtype
        self.action_size, self.action_mask = whole.action_size, whole.action_mask[:count]
        self.horizon, self.evaluation_episodes = whole.horizon, whole.evaluation_episodes
        self.costs = costs_of(whole)[:count]

    def check(self) -> None:
        """The whole benchmark's."""
        self.whole.check()

    def make(self, task: int, purpose: Purpose) -> Environment:
        """The whole benchmark's."""
        return self.whole.make(task, purpose)
