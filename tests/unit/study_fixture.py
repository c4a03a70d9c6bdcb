"""A study whose runs were really trained, saved, killed: what tests of its status and of cleaning start from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import accepting, options, paths, process
from mtrepro.engine.signals import StopRequest
from mtrepro.status import Row, read_rows
from mtrepro.study import load_study
from tests.conftest import command
from tests.contract.processes import OFTEN, comes
from tests.unit.test_specification import STUDY

LIVED: dict[str, Any] = STUDY | {
    "study": "lived",
    "seeds": [0],
    "arms": {
        "short": {"method": "mt_sac"},
        "exploding": {"method": "mt_sac", "settings": {"critic_loss_limit": 1e-6}},
        "long": {"method": "mt_sac", "budget": 1_000_000},
        "longer": {"method": "mt_sac", "budget": 2_000_000},
        "never": {"method": "mt_sac", "budget": 301},
    },
}


class LivedStudy:
    """A root of its own with the study LIVED; `arm` is always an arm's name, which has one run."""

    def __init__(self, root: Path) -> None:
        self.root, self.study = root, root / "config/studies/lived.yaml"
        self.results = root / "results/runs"
        self.in_training: Row | None = None  # long, before it was asked to stop

    def name(self, arm: str) -> str:
        """The run's name."""
        return next(run.name for run in load_study(self.study).runs if run.arm == arm)

    def folder(self, arm: str) -> Path:
        """Where its results are."""
        return self.results / self.name(arm)

    def state(self, arm: str) -> Path:
        """Where its lease and checkpoints are."""
        return self.results / ".state" / self.name(arm)

    def log(self, arm: str) -> Path:
        """Where the rule `train` lets it write its log."""
        return self.results / "logs/train" / f"{self.name(arm)}.log"

    def row(self, arm: str) -> Row:
        """How it stands."""
        return next(row for row in read_rows(load_study(self.study)) if row.arm == arm)

    def specify(self, arm: str) -> Path:
        """Its specification, written where its run belongs."""
        path = self.folder(arm) / "specification.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(load_study(self.study).run(self.name(arm)).specification.to_yaml())
        return path

    def finish(self, arm: str) -> None:
        """Train it to its end."""
        with StopRequest() as stop:
            assert process.train(self.specify(arm), options.Options(log=self.log(arm), label=f"{arm} s0"), stop) == 0

    def start(self, arm: str) -> subprocess.Popen[bytes]:
        """Train it in a process of its own, which saves as often as it may."""
        words = command("train", self.specify(arm), "--log", self.log(arm), "--label", f"{arm} s0", *OFTEN)
        return subprocess.Popen(words, env=os.environ | {"MTREPRO_ROOT": str(self.root)}, stderr=subprocess.DEVNULL)

    def trains(self, arm: str) -> bool:
        """Whether it has told its progress and saved a checkpoint."""
        try:
            told = json.loads((self.state(arm) / "progress.json").read_text())
        except FileNotFoundError:
            return False
        return told["step"] > 0 and any(self.state(arm).glob("source-*/*.pt"))


@pytest.fixture(scope="session")
def lived_once(tmp_path_factory: pytest.TempPathFactory) -> LivedStudy:
    """short is done, exploding has diverged, long is saved, longer was killed, never waits."""
    root = tmp_path_factory.mktemp("lived")
    shutil.copytree(paths.root() / "config", root / "config")
    (root / "config/studies/lived.yaml").write_text(yaml.safe_dump(LIVED, sort_keys=False))
    study = LivedStudy(root)
    for arm in ("short", "exploding"):
        study.finish(arm)
    processes = {arm: study.start(arm) for arm in ("long", "longer")}
    assert comes(lambda: all(study.trains(arm) for arm in processes), 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTREPRO_ROOT", str(root))
        study.in_training = study.row("long")
    for arm, number, status in (("long", signal.SIGTERM, 75), ("longer", signal.SIGKILL, -9)):
        processes[arm].send_signal(number)
        assert processes[arm].wait(120) == status
    return study


@pytest.fixture
def lived(lived_once: LivedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LivedStudy:
    """A copy of it that a test may change, with the file times of the original."""
    shutil.copytree(lived_once.root, tmp_path / "checkout")
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path / "checkout"))
    monkeypatch.chdir(tmp_path / "checkout")
    accepting._connected.cache_clear()
    study = LivedStudy(tmp_path / "checkout")
    study.in_training = lived_once.in_training
    return study
