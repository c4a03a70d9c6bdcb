"""Runs whose environments are stepped in other ways: the same files, and a run whose worker died stops cleanly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mtrepro.benchmarks.metaworld import Settings
from tests.conftest import call, contents, write_run
from tests.contract.processes import Undisturbed, longer, run_record, start


def test_the_stock_simulator_gives_the_same_files_and_the_record_says_which(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    values = {"tasks": ["door-close-v3", "push-v3"], "protocol": "2020", "horizon": 40}
    settings = Settings.model_validate(values).model_dump(mode="json")
    specification = longer(300, benchmark={"family": "metaworld", **settings})
    path = write_run(tmp_path, specification)
    done = call("train", path, "--workers", "1", MTREPRO_SIMULATOR="stock")
    assert done.returncode == 0, done.stderr
    assert run_record(path)["simulator"] == "stock"
    assert contents(path.parent) == undisturbed(specification)


def test_an_unknown_simulator_is_refused(tmp_path: Path) -> None:
    done = call("train", write_run(tmp_path, longer()), "--simulator", "quick")
    assert done.returncode == 2
    assert "--simulator quick: unknown simulator\n  known: fast, stock" in done.stderr


def test_a_killed_worker_is_named_and_the_run_goes_on_from_its_checkpoint(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    specification = longer()
    path = write_run(tmp_path, specification)
    process = start(path, "--workers", "1")
    process.send_signal(signal.SIGSTOP)  # so that it is not over before its worker is found
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) >= 1, "the run was over before its worker could be killed: make it longer"
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 71, said
    assert "mtrepro: worker process 0 (tasks toy-" in said and "was killed by signal SIGKILL" in said
    assert "Traceback" not in said and "the same command continues there" in said
    again = call("train", path)
    assert again.returncode == 0 and "continuing at step" in again.stderr
    assert contents(path.parent) == undisturbed(specification)
