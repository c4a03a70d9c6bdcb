"""Goals and settled starts that earlier processes kept on disk: the same bits, and never a reason to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrepro.benchmarks import metaworld, metaworld_starts
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.metaworld_starts import FOLDER, Starts, conditions

TASK = "door-open-v3"  # another start for each goal
COUNT = 12
SETTINGS = {"tasks": [TASK], "protocol": "v3", "goal_count": COUNT, "evaluation_episodes": COUNT}
# A digest of everything that all starts and a step from each give, and how many starts were settled by physics.
PROGRAM = """
import hashlib, json, sys
import numpy as np
from mtrepro.benchmarks import metaworld_settling
from mtrepro.benchmarks.loading import load_benchmark
settled, plain = [], metaworld_settling.Settling.take_learned
metaworld_settling.Settling.take_learned = lambda self: settled.append(plain(self)) or settled[-1]
made = load_benchmark("metaworld", json.loads(sys.argv[1]), 5)
environment, digest = made.make(0, "evaluation"), hashlib.sha256(made.goals(0).tobytes())
for episode in range(made.evaluation_episodes):
    digest.update(environment.reset(episode).tobytes())
    digest.update(repr(environment.step(np.ones(4, np.float32))).encode())
    digest.update(repr(environment.state()).encode())
environment.close()
print(json.dumps([digest.hexdigest(), sum(map(len, settled))]))
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout where nothing is kept."""
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    return tmp_path


def start(folder: Path) -> tuple[str, int, str]:
    """What another process finds there: the digest, starts that physics settled, and what it said."""
    environment = os.environ | {"MTREPRO_ROOT": str(folder)}
    command = [sys.executable, "-c", PROGRAM, json.dumps(SETTINGS)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    digest, settled = json.loads(done.stdout)
    return digest, settled, done.stderr


def files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).rglob("*.npz"))


def test_a_second_process_settles_nothing_and_has_the_same_bits(fresh: Path) -> None:
    digest, settled, said = start(fresh)
    assert settled == COUNT and not said
    assert start(fresh) == (digest, 0, "")
    (file,) = files(fresh)
    assert file.name == f"{TASK}-goals{COUNT}-seed5.npz"
    names = json.loads((file.parent / "conditions.json").read_text())
    assert names.keys() >= {"metaworld", "mujoco", "numpy", "C library", "processor", "code"}
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert start(fresh) == (digest, COUNT, f"{file.relative_to(fresh)}: damaged; its starts are computed again\n")
    assert start(fresh) == (digest, 0, "")


def test_where_nothing_can_be_kept_all_is_computed(fresh: Path) -> None:
    (fresh / ".cache").write_text("a file, where a folder should be")
    digest, settled, said = start(fresh)
    assert settled == COUNT and not said
    assert start(fresh) == (digest, COUNT, "")


def test_goals_are_drawn_once_and_stocks_are_always_its_own(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**options: Any) -> Any:
        return load_benchmark("metaworld", SETTINGS, 5, **options)

    drawn = made().goals(0)
    with monkeypatch.context() as patched:
        patched.setattr(metaworld, "draw_goals", None)
        np.testing.assert_array_equal(made().goals(0), drawn)
    (file,) = files(fresh)
    file.unlink()
    environment = made(stock=True).make(0, "evaluation")
    for episode in range(COUNT):
        environment.reset(episode)
    environment.close()
    assert not files(fresh)


def test_processes_that_keep_at_the_same_time_lose_nothing_of_each_other() -> None:
    one, two = Starts(0, TASK, 3), Starts(0, TASK, 3)
    one.save(settled={b"1" * 32: np.ones(5)})
    two.save(goals=np.zeros((3, 6)))
    two.save(settled={b"2" * 32: np.zeros(5)})
    found = Starts(0, TASK, 3)
    assert {key: state.tolist() for key, state in found.settled.items()} == {b"1" * 32: [1.0] * 5, b"2" * 32: [0.0] * 5}
    assert found.goals is not None and found.goals.shape == (3, 6)
    assert not Starts(1, TASK, 3).settled and not Starts(0, "push-v3", 3).settled and Starts(0, TASK, 4).goals is None


def test_a_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaworld_starts, "LIMIT", 3)
    writers = [Starts(0, TASK, 3) for _ in range(3)]  # at the same time
    for first, starts in zip((0, 2, 4), writers, strict=True):
        starts.save(settled={bytes([first + place]) * 32: np.ones(2) for place in range(2)})
    assert sorted(key[0] for key in Starts(0, TASK, 3).settled) == [0, 1, 2]


@pytest.mark.parametrize("what", ["processor", "C library", "mujoco", "told", "code"])
def test_whatever_bits_depend_on_names_the_folder(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def name() -> str:
        conditions.cache_clear()
        return conditions()[0]

    before = name()
    assert name() == before
    with monkeypatch.context() as patched:
        if what == "processor":
            patched.setattr(metaworld_starts, "_processor", lambda: "another")
        elif what == "C library":
            patched.setattr(metaworld_starts, "_c_library", lambda: "musl")
        elif what == "told":
            patched.setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-FMA")
        elif what == "code":
            (tmp_path / "one.py").write_text("1")
            patched.setattr(metaworld_starts, "_code", lambda: [tmp_path / "one.py"])
        else:
            version = metaworld_starts.importlib.metadata.version
            patched.setattr(
                metaworld_starts.importlib.metadata, "version", lambda name: version(name) + "1" * (name == what)
            )
        after = name()
    conditions.cache_clear()
    assert after != before
    assert {"metaworld_settling.py", "metaworld_fast.py", "streams.py"} <= {
        file.name for file in metaworld_starts._code()
    }
