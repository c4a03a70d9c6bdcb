"""Each job of a machine without a scheduler has a GPU of its own; the driver's `nvidia-smi` is played by a script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtrepro import gpus
from mtrepro.errors import LeaseError, OutputError

HOLD = """
import os, sys
from mtrepro import gpus
with gpus.one_of_them(1, print):
    print(os.environ["CUDA_VISIBLE_DEVICES"], sorted(os.sched_getaffinity(0)), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the GPUs A and B, and locks of its own."""
    answer = tmp_path / "nvidia-smi"
    answer.write_text("#!/bin/sh\necho GPU-A\necho GPU-B\n")
    answer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@contextmanager
def other_job(says: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a GPU and a share of the cores."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == says
        yield process
        process.kill()


def held() -> str | None:
    with gpus.one_of_them(1, print):
        return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_two_jobs_have_two_gpus_and_share_the_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    with other_job(f"GPU-A {cores[:half] or cores}"), gpus.one_of_them(1, print):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-B"
        assert sorted(os.sched_getaffinity(0)) == cores[half:]
    assert sorted(os.sched_getaffinity(0)) == cores
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_third_is_refused_or_waits_until_one_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    with other_job(f"GPU-A {cores[:half] or cores}") as first, other_job(f"GPU-B {cores[half:]}"):
        with pytest.raises(LeaseError) as refused, gpus.one_of_them(1, print):
            pass
        assert str(refused.value) == (
            "other runs hold every GPU here (2)\n  wait for one of them, end one, or train with --device cpu"
        )

        def patience() -> bool:
            first.kill()  # a job that is killed lets its GPU go
            first.wait()
            return True

        with gpus.one_of_them(1, print, patience):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-A"
    assert capsys.readouterr().out == "other runs hold every GPU here (2): waiting until one is free\n"


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1", ["GPU-B"]), ("GPU-B,0", ["GPU-B", "GPU-A"]), ("0,7,1", ["GPU-A"]), ("", []), ("-1", [])],
)
def test_visible_devices_narrow_the_choice(monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.usable() == names


def test_more_threads_than_the_share_of_the_cores_are_not_squeezed_into_it() -> None:
    cores = os.sched_getaffinity(0)
    with gpus.one_of_them(len(cores), print):
        assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize(("given", "seen"), [("1", "1"), ("0,1", "GPU-A")])
def test_the_gpu_that_slurm_gave_stays_and_of_several_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, given: str, seen: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert held() == seen


def test_where_nothing_can_be_locked_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"a GPU cannot be locked there: .*\n  set TMPDIR to a folder of yours"):
        held()


def test_without_a_driver_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert gpus.found() == []
    assert held() is None
