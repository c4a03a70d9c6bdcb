"""What a run refuses to continue, and how it ends: each with its message and its status."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mtrepro import paths
from mtrepro.engine import checkpoint
from mtrepro.errors import SpecificationError
from mtrepro.specification import load_specification
from tests.conftest import SAME_FILES, call, command, write_run
from tests.contract.processes import OFTEN, longer, run_record, start, state_folder

# What is never resumed


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its configuration that can be edited."""
    for name in ("src", "config"):
        shutil.copytree(paths.root() / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("old", "new", "resumes"),
    [
        ("# eq. 7", "# equation seven: only a comment", True),
        ("log_probability - least", "log_probability - 0.5 * least", False),
    ],
    ids=["a comment", "an equation"],
)
def test_edited_code_starts_fresh_and_says_so_and_an_edited_comment_resumes(
    tmp_path: Path, copy: Path, old: str, new: str, resumes: bool
) -> None:
    path = write_run(tmp_path, longer())
    environment = {"PYTHONPATH": str(copy / "src"), "MTREPRO_ROOT": str(copy)}
    process = subprocess.Popen(command("train", path, *OFTEN), env=os.environ | environment, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".state/*/source-*/*.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    method = copy / "src" / "mtrepro" / "soft_actor_critic" / "agent.py"
    assert old in method.read_text()
    method.write_text(method.read_text().replace(old, new))
    said = call("train", path, **environment).stderr
    assert ("continuing at step" in said) == resumes
    assert (
        "the code changed since step" in said and "(mtrepro.soft_actor_critic.agent): starting afresh" in said
    ) != resumes


def test_a_checkpoint_of_another_specification_is_refused(tmp_path: Path) -> None:
    path, other = (write_run(tmp_path, longer(seed=seed)) for seed in (0, 1))
    for each in (path, other):
        start(each).kill()
    time.sleep(0.2)
    for file in state_folder(path).glob("*.pt"):
        file.unlink()
    for file in state_folder(other).glob("*.pt"):
        shutil.copy(file, state_folder(path))
    refused = call("train", path)
    assert refused.returncode == 3
    assert "the checkpoint is of another specification\n  found:    " in refused.stderr
    assert "remove the folder to start this run afresh" in refused.stderr and "Traceback" not in refused.stderr


def test_other_threads_are_refused_or_marked_as_not_exact(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    start(path).kill()
    time.sleep(0.2)
    refused = call("train", path, "--threads", "2")
    assert refused.returncode == 3
    assert "begun with other settings of the machine: threads 1 -> 2" in refused.stderr
    assert call("train", path, "--threads", "2", "--other-machine").returncode == 0
    assert run_record(path)["exact"] is False and run_record(path)["threads"] == 2


def test_other_kernels_of_a_numerical_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path, longer())
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    start(path).kill()
    time.sleep(0.2)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    refused = call("train", path)
    assert refused.returncode == 3
    assert "begun with other settings of the machine: kernels none -> OPENBLAS_CORETYPE=Nehalem" in refused.stderr


def test_a_second_trainer_leaves_and_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    process = start(path)
    process.send_signal(signal.SIGSTOP)  # it lives and does not get to the end while the second one starts
    second = call("train", path)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 73 and "is training this run" in second.stderr
    assert process.wait(120) == 0
    before = (path.parent / "run.json").stat().st_mtime_ns
    third = call("train", path)
    assert third.returncode == 0 and "already done" in third.stderr
    assert (path.parent / "run.json").stat().st_mtime_ns == before


# Outcomes


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(settings={"critic_loss_limit": 1e-6}))
    finished = call("train", path)
    assert finished.returncode == 0, finished.stderr
    record = run_record(path)
    assert record["status"] == "diverged" and record["reason"].startswith("the critic loss reached ")
    assert record["step"] == 100 and "diverged at step 100: the critic loss reached" in finished.stderr
    assert all((path.parent / name).exists() for name in SAME_FILES)


def test_a_bad_specification_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    path.write_text(path.read_text().replace("width: 16", "widht: 16"))
    refused = call("train", path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("mtrepro: ") and "unknown key 'widht'" in refused.stderr
    assert "(nearest: width)" in refused.stderr and "Traceback" not in refused.stderr
    assert sorted(file.name for file in tmp_path.rglob("*")) == [path.parent.name, "specification.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: mt_sac", "method: mtsac", "method: unknown method 'mtsac'\n  known: "),
        ("random_steps: 40", "random_steps: 9999", "settings.random_steps: 9999 random steps leave nothing to learn"),
        ("  horizon: 20\n", "", "benchmark.horizon: not resolved, expected 20"),
        ("discount: 0.99", "discount: .inf", "settings.discount: input should be a finite number"),
        ("width: 16", "width: '16'", "settings.width: input should be a valid integer, found '16'"),
    ],
)
def test_a_specification_is_checked_like_a_study(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_run(tmp_path, longer())
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpecificationError, match=re.escape(message)):
        load_specification(path)


def test_a_run_has_one_state_folder_from_wherever_it_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(budget=60))
    assert (
        subprocess.run(command("train", path.name), cwd=path.parent, capture_output=True, check=False).returncode == 0
    )
    assert (tmp_path / ".state" / path.parent.name / "lease.lock").exists()
    assert not (path.parent / ".state").exists()


def test_a_terminal_that_went_away_ends_no_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer(budget=60))
    log = tmp_path / "run.log"
    with open("/dev/full", "w") as full:
        words = command("train", path, "--log", log)
        assert subprocess.run(words, stderr=full, stdout=full, check=False).returncode == 0
    first, *_, last = log.read_text().splitlines()
    assert first == f"$ mtrepro train {path} --log {log}", "the command that can be pasted"
    assert "done; results in" in last


def test_an_unknown_device_is_named(tmp_path: Path) -> None:
    refused = call("train", write_run(tmp_path, longer()), "--device", "gpu")
    assert refused.returncode == 2
    assert refused.stderr == "mtrepro: --device gpu: unknown device\n  known: auto, cpu, cuda\n"


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    (tmp_path / ".state").write_text("a file in the way")
    refused = call("train", path)
    assert refused.returncode == 74
    assert f"{tmp_path}/.state/{path.parent.name}: cannot be written: Not a directory" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_checkpoint_holds_data_alone(tmp_path: Path) -> None:
    path = write_run(tmp_path, longer())
    start(path).kill()
    time.sleep(0.2)
    state = checkpoint.load(state_folder(path), print)
    assert state is not None and torch.load(max(state_folder(path).glob("*.pt")), weights_only=True)
