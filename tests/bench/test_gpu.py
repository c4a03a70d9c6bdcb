"""The GPU's benchmark, as far as a CPU can go: its own code, small, with a recorder that needs no GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mtrepro.engine.execution import Execution
from mtrepro.methods.multi_task_dreamer import MultiTaskDreamer
from tests.bench.agreement import distance, distance_of_seeds
from tests.bench.dreamer import CPU, make_arm, make_dreamer
from tests.bench.gpu import NO_GPU, main, measure_care, measure_training, measure_updates
from tests.bench.measuring import record, write
from tests.bench.showing import cells
from tests.bench.test_bench import LEAST
from tests.bench.update import make_method
from tests.contract.executions import Forgetful, Refusing, Rerun


def test_updates_are_measured_eager_and_recorded_for_one_seed_and_eight(tmp_path: Path) -> None:
    content = record("gpu", LEAST, lambda effort: measure_updates(effort, CPU, Rerun, ["MT-SAC"], width=16, batch=40))
    rows = json.loads(write(content, tmp_path).read_text())["rows"]
    assert [row["name"] for row in rows] == [
        f"MT-SAC: {mode}, {seeds}" for mode in ("eager", "graph") for seeds in ("1 seed", "8 seeds in turn")
    ]
    assert all(row["median"] > 0 for row in rows)
    assert rows[2]["beside"]["apart, %"]["median"] == 0, "on the CPU a recording has the eager bits"
    assert len(cells(content)[1]) == len(rows)


def test_end_to_end_and_a_whole_run_are_measured() -> None:
    least = replace(LEAST, limit=0.2)
    rows = measure_training(least, CPU, workers=[0]).rows
    assert [row.name for row in rows] == ["serial, 0 workers", "stale policy, 0 workers"]
    topic = measure_care(least, CPU, steps=5, evaluations=1)
    assert topic.rows[0].name == "CARE, 5 vector steps, eager"


def test_the_distance_is_none_for_a_true_recording_and_there_is_none_for_a_failed_one() -> None:
    def make(execution):  # type: ignore[no-untyped-def]
        return make_method("mt_sac", 500, execution=execution, batch=40, width=16)

    assert distance(make, Rerun(), 3) == 0
    for recorder in (Refusing(), Forgetful()):
        with pytest.raises(RuntimeError, match="not recorded: "):
            distance(make, recorder, 3)


def test_the_distance_of_seeds_is_none_for_a_true_recording_and_small_beside_each_alone() -> None:
    def make(execution, seed):  # type: ignore[no-untyped-def]
        return make_method("mt_sac", 500, execution=execution, seed=seed, batch=40, width=16)

    assert distance_of_seeds(make, [Rerun() for _ in range(3)], 6) == 0
    assert 0 < distance_of_seeds(make, [None] * 3, 4, mapped=False) < 0.01
    with pytest.raises(RuntimeError, match="not recorded: "):
        distance_of_seeds(make, [Forgetful() for _ in range(3)], 4)


def test_dreamers_are_compared_in_the_same_way() -> None:
    def make(execution, seed=0):  # type: ignore[no-untyped-def]
        small = {"picture_channels": 2, "width": 8, "recurrent_size": 8, "hidden_size": 8, "latent_size": 4}
        return make_dreamer("dreamer", CPU, execution, seed, sequences=2, length=5, **small)

    assert distance(make, Rerun(), 2) == 0
    assert distance_of_seeds(make, [Rerun() for _ in range(3)], 4) == 0
    assert 0 < distance_of_seeds(make, [None] * 3, 4, mapped=False) < 0.05
    assert isinstance(make_arm("small, two tasks apart, 8 x 25", CPU, Execution(), 1), MultiTaskDreamer)


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == NO_GPU
    assert "torch finds no GPU here" in capsys.readouterr().out
