"""Room on the disk: the estimate beside real checkpoints, and the refusal."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mtrepro.engine import checkpoint
from mtrepro.engine.clock import Part
from mtrepro.engine.record_files import Files
from mtrepro.engine.replay import Replay
from mtrepro.engine.sequence_replay import SequenceReplay
from mtrepro.engine.signals import StopRequest
from mtrepro.errors import OutputError
from mtrepro.options import Options
from mtrepro.process import train
from mtrepro.room import AT_ONCE, growth, need_room, state_bytes
from mtrepro.specification import Specification
from mtrepro.training import Trainer
from tests.conftest import call, toy_specification, write_run

CPU = torch.device("cpu")


class Silent:
    """Looks on and does nothing."""

    def enter(self, part: Part) -> None: ...
    def beat(self, trainer: Trainer) -> None: ...
    def beat_within_evaluation(self) -> None: ...


def specification(**changed: Any) -> Specification:
    """Long enough for the replay to outweigh the rest."""
    benchmark = {"evaluation": {"every": 3000, "episodes": 1}, "metrics_every": 3000}
    return toy_specification(budget=3000, **benchmark, settings={"updates_per_step": 0, **changed})


@pytest.mark.parametrize("capacity", [900, 1_000_000], ids=["a replay that fills up", "the budget ends before it"])
def test_the_estimate_at_the_start_is_the_size_of_the_last_checkpoint(tmp_path: Path, capacity: int) -> None:
    trainer = Trainer(specification(replay_transitions=capacity), CPU)
    estimate = state_bytes(trainer.state()) + growth(trainer.method, 3000)
    trainer.run(Silent())
    real = checkpoint.save(tmp_path, trainer.step, {"trainer": trainer.state()}).stat().st_size
    assert growth(trainer.method, 0) == 0
    assert abs(real - estimate) < max(0.1 * real, 50_000), (real, estimate)


def replay(capacity: int) -> Replay:
    generator = np.random.default_rng(0)
    return Replay(capacity, 2, (3,), 1, "uniform", generator, CPU)


def test_every_replay_of_a_method_counts_wherever_it_keeps_it() -> None:
    row = 2 * (3 + 3 + 1 + 1 + 1) * 4  # two tasks: two observations of 3, action, reward, termination; 4 bytes each
    assert growth(SimpleNamespace(replay=replay(20)), 100) == 10 * row
    assert growth(SimpleNamespace(replays=[replay(20), replay(2)], by_name={"a": replay(20)}), 100) == 21 * row
    assert growth(SimpleNamespace(replay=replay(20)), 4) == 4 * row
    filled = replay(20)
    filled.added = 7
    assert growth(SimpleNamespace(replay=filled), 100) == 3 * row
    filled.added = 70
    assert growth(SimpleNamespace(replay=filled), 100) == 0
    assert growth(SimpleNamespace(), 100) == 0


def test_checkpoints_that_are_there_count_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 2_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    state, folder = {"network": torch.zeros(250_000)}, tmp_path / "state" / "source-0"  # 1 MB
    with pytest.raises(OutputError) as caught:
        need_room(folder, state, SimpleNamespace(), 10)
    assert caught.value.status == 74
    assert str(caught.value) == (
        f"{folder}: the disk has too little room for this run's checkpoints\n"
        "  needed: 3.0 MB (3 checkpoints of up to 1.0 MB, less 0 bytes that is there), free: 2.0 MB\n"
        "  free some space (`mtrepro clean STUDY` drops what runs left behind) or put the results on a larger disk,\n"
        "  then start the same command again"
    )
    folder.mkdir(parents=True)
    (folder / "000000000005-0.pt").write_bytes(b"0" * 999_999)
    with pytest.raises(OutputError, match=r"needed: 2\.0 MB \(3 checkpoints of up to 1\.0 MB, less 1\.0 MB"):
        need_room(folder, state, SimpleNamespace(), 10)
    (folder / "000000000005-0.pt").write_bytes(b"0" * 1_000_000)
    need_room(folder, state, SimpleNamespace(), 10)
    assert AT_ONCE == 3


def test_a_run_that_will_not_fit_is_refused_before_it_trains_and_starts_when_there_is_room(full_disk: Path) -> None:
    path = write_run(full_disk, specification(replay_transitions=1_000_000))
    ballast = full_disk / "ballast"
    ballast.write_bytes(b"0" * (shutil.disk_usage(full_disk).free - 150_000))
    refused = call("train", path)
    assert refused.returncode == 74, refused.stderr
    assert "the disk has too little room for this run's checkpoints\n  needed: " in refused.stderr
    assert "Traceback" not in refused.stderr and not list(full_disk.rglob("*.pt"))
    assert not list(full_disk.rglob("lease.json")), "the lease is given back"
    ballast.unlink()
    with StopRequest() as stop:
        assert train(path, Options(), stop) == 0


def test_frames_in_files_count_once_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=800_000))
    pixels, stream = np.dtype(np.uint8), np.random.default_rng(0)
    frames = SequenceReplay(10_000, 1, (16, 16, 3), pixels, 2, stream, CPU, Files(tmp_path / "frames"))
    need_room(tmp_path, {}, SimpleNamespace(replay=frames), 1000)  # 782 bytes each
    with pytest.raises(OutputError, match=r"needed: 860 kB \(3 checkpoints of up to 0 bytes, 860 kB of frames,"):
        need_room(tmp_path, {}, SimpleNamespace(replay=frames), 1100)
