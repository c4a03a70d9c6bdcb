"""Measuring a policy: a function of the policy alone, whenever and however often it is asked.

Where tasks are held out of training the method adapts to every task as well, and is measured once more:

    play the policy                      -> return, success
    gather some episodes, adapt to them  -> adapted_return, adapted_success, and what the method judges of the model

What it judges are episodes of random actions, which depend on seed and task alone: the same for every method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mtrepro.benchmarks import Benchmark
from mtrepro.benchmarks.held_out import held_out_tasks
from mtrepro.benchmarks.vector import VectorEnvironment
from mtrepro.engine import streams
from mtrepro.methods import Adaptive, Array, Episode, Method

ADAPTATION = 1_000_000  # the protocol's starts from here on are adapted to: none that is measured is among them

Act = Callable[[Array, Array, int, dict[str, Any]], Array]  # observation, task, moment, memory -> actions
Watch = Callable[[], None]


class Evaluation(NamedTuple):
    """What the policy earned at one moment."""

    step: int
    returns: NDArray[np.float64]  # (tasks, episodes), sums of raw rewards
    success: NDArray[np.bool_]  # (tasks, episodes), true at any time in the episode
    more: dict[str, NDArray[np.float64]]  # (tasks, episodes) by name: after adaptation, where tasks are held out


class _Played(NamedTuple):
    """One episode of every task."""

    returns: NDArray[np.float64]  # (tasks,)
    success: NDArray[np.bool_]  # (tasks,)
    episodes: list[Episode]  # empty where nobody asked for them


class Evaluator:
    """The evaluation environments of a run, and what is played in them."""

    def __init__(self, benchmark: Benchmark, method: Method, seed: int, episodes: int, workers: int) -> None:
        self.benchmark, self.method, self.seed, self.episodes = benchmark, method, seed, episodes
        self.tasks = np.arange(len(benchmark.tasks))
        self.adapts = bool(held_out_tasks(benchmark))
        self.environments = VectorEnvironment(benchmark, "evaluation", workers, autoreset=False)
        self.untouched: Any = self.environments.state()  # before their first episode

    def evaluate(self, step: int, watch: Watch) -> Evaluation:
        """Measure the policy without noise; `watch` is called at each step."""
        self.environments.load_state(self.untouched)
        played = list(self._play(self._policy(self.method.act), range(self.episodes), watch))
        more = self._adapted(cast(Adaptive, self.method), watch) if self.adapts else {}
        return Evaluation(step, *_together(played), more)

    def _adapted(self, method: Adaptive, watch: Watch) -> dict[str, NDArray[np.float64]]:
        starts = range(ADAPTATION, ADAPTATION + method.adaptation_episodes)
        gathered = [played.episodes for played in self._play(method.gather, starts, watch, record=True)]
        adapted = method.adapt(list(zip(*gathered, strict=True)))
        watch()
        returns, success = _together(list(self._play(self._policy(adapted.act), range(self.episodes), watch)))
        more = {"adapted_return": returns, "adapted_success": success.astype(np.float64)}
        for number, played in enumerate(self._play(self._random, range(self.episodes), watch, record=True)):
            for task, episode in enumerate(played.episodes):
                for name, value in adapted.judge(task, episode).items():
                    more.setdefault(name, np.zeros_like(returns))[task, number] = value
                watch()
        return more

    def _play(self, act: Act, starts: Iterable[int], watch: Watch, record: bool = False) -> Iterator[_Played]:
        """An episode of every task from each of the protocol's `starts`."""
        for start in starts:
            observation = self.environments.reset(start)
            running, memory = np.ones(len(self.tasks), np.bool_), dict[str, Any]()
            returns, success = np.zeros(len(self.tasks)), np.zeros(len(self.tasks), np.bool_)
            seen, done = [observation], list[tuple[Array, Array, Array, Array]]()
            for moment in itertools.count(start * self.benchmark.horizon):
                # A broken policy stands still here. That the run has diverged is training's to find: else it would
                # depend on when it is evaluated.
                actions = np.nan_to_num(act(observation, self.tasks, moment, memory))
                moved = self.environments.step(actions)
                if record:
                    seen.append(moved.next_observation)
                    done.append((actions, moved.reward.astype(np.float32), moved.terminated, running.copy()))
                returns += np.where(running, moved.raw_reward, 0.0)
                success |= running & moved.success
                running &= ~(moved.terminated | moved.truncated)
                observation = moved.observation
                watch()
                if not running.any():
                    break
            yield _Played(returns, success, _episodes(seen, done) if record else [])

    @staticmethod
    def _policy(act: Callable[..., Array]) -> Act:
        return lambda observation, task, moment, memory: act(
            observation, task, explore=False, moment=moment, memory=memory
        )

    def _random(self, observation: Array, task: Array, moment: int, memory: dict[str, Any]) -> Array:
        noise = streams.numpy_stream(self.seed, "judged actions", moment)
        return noise.uniform(-1, 1, (len(task), self.benchmark.action_size)).astype(np.float32)

    def close(self) -> None:
        """End the environments and their workers."""
        self.environments.close()


def _together(played: list[_Played]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns and success of several episodes, each (tasks, episodes)."""
    return np.stack([each.returns for each in played], axis=1), np.stack([each.success for each in played], axis=1)


def _episodes(seen: list[Array], done: list[tuple[Array, Array, Array, Array]]) -> list[Episode]:
    """Each task's own episode, cut where it ended: (tasks,) of what all of them did side by side."""
    observation = np.stack(seen)
    action, reward, terminated, running = (np.stack(column) for column in zip(*done, strict=True))
    lengths = running.sum(0).tolist()
    return [
        Episode(observation[: n + 1, task], action[:n, task], reward[:n, task], bool(terminated[n - 1, task]))
        for task, n in enumerate(lengths)
    ]
