"""The curves in TensorBoard's own files, read back by TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrepro.analysis.tensorboard import write_events
from mtrepro.errors import MtreproError
from tests.unit.analysis_fixture import FakeArm, FakeStudy


def test_every_finished_run_is_there_with_the_means_of_its_evaluations(tmp_path: Path) -> None:
    study = FakeStudy(
        tmp_path, arms=[FakeArm(seeds=(0, 1), missing=(1,), score=lambda *given: float(given[1] + given[3]))]
    )
    study.write()
    for run in study.study_folder.parent.glob("mt_sac-s*"):
        (run / "training.csv").write_text("step,task,metric,value\n500,,critic_loss,2.5\n")
    write_events(study.study_folder, tmp_path / "events")
    assert [path.name for path in (tmp_path / "events" / "mt-sac").iterdir()] == ["seed-0"]
    events = EventAccumulator(str(tmp_path / "events" / "mt-sac" / "seed-0"))
    events.Reload()
    curve = [(point.step, point.value) for point in events.Scalars("evaluation/return/mean")]
    assert curve == [(step, step + 1.5) for step in (0, 500, 1000, 1500, 2000)]  # episodes 0 to 3
    assert [point.value for point in events.Scalars("training/critic_loss")] == [2.5]


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(MtreproError, match=r"manifest.json: there is no such file"):
        write_events(tmp_path, tmp_path / "events")
