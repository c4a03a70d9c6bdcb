"""What the analysis refuses: files that are missing, malformed, newer than it, or not of the run that is expected."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mtrepro.analysis.aggregate import aggregate
from mtrepro.errors import MtreproError
from tests.unit.analysis_fixture import FakeArm, FakeStudy


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refusal(study: FakeStudy) -> str:
    with pytest.raises(MtreproError) as caught:
        aggregate(study.study_folder, study.folder / "tables")
    return str(caught.value)


def test_a_missing_manifest_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    manifest = tmp_path / "study-fake" / "manifest.json"
    assert refusal(study) == (
        f"{manifest}: there is no manifest, so nobody knows which runs to expect\n"
        f"  write it with `mtrepro manifest STUDY_YAML --output {manifest}`"
    )


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    manifest = study.write() / "manifest.json"
    changed(manifest, schema_version=2)
    assert refusal(study) == (
        f"{manifest}: schema_version: is 2, this mtrepro knows 1 and older\n"
        "  use the mtrepro that wrote the file, or a newer one"
    )


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (
            1,
            "step,task,value",
            r"evaluation.csv:1: expected the header step,task,episode,metric,value, found 'step,task,",
        ),
        (3, "0,door-close-v3,0,success", r"evaluation.csv:3: expected step,.*, found '0,door-close-v3,0,success'"),
        (4, "0,door-close-v3,one,return,1", r"evaluation.csv:4: expected step,"),
        (5, "0,door-closed-v3,1,success,1", r"evaluation.csv:5: task 'door-closed-v3' .* \(nearest: door-close-v3\)"),
        (4, "0,door-close-v3,0,return,1", r"evaluation.csv:4: return of task .* step 0, episode 0 stands here twice"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: int, text: str, message: str) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    file = study.run_folder(study.arms[0], 1) / "evaluation.csv"
    lines = file.read_text().splitlines()
    lines[line - 1] = text
    file.write_text("\n".join(lines) + "\n")
    found = refusal(study)
    assert re.search(message, found), found
    assert study.run_name(study.arms[0], 1) in found
    assert "the run then shows as missing" in found


def test_an_evaluation_without_one_of_the_tasks_is_named(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    file = study.run_folder(study.arms[0], 0) / "evaluation.csv"
    kept = [line for line in file.read_text().splitlines() if not line.startswith("1000,drawer-close-v3")]
    file.write_text("\n".join(kept) + "\n")
    assert "evaluation.csv: step 1000: no return of task 'drawer-close-v3'" in refusal(study)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run": "mt_sac-s9-0123456789ab"}, "run: is 'mt_sac-s9-0123456789ab', the manifest expects 'mt_sac-s0-"),
        ({"specification_digest": "f" * 64}, "specification_digest: begins with 'ffffffffffff', the manifest expects"),
        ({"budget": 3000}, "budget: is 3000, the manifest expects 2000 (arm mt-sac)"),
        ({"schema_version": 9}, "schema_version: is 9, this mtrepro knows 1"),
        ({"status": "perhaps"}, "unknown status 'perhaps'"),
    ],
)
def test_a_run_that_is_not_the_expected_one_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    changed(study.run_folder(study.arms[0], 0) / "run.json", **values)
    found = refusal(study)
    assert message in found, found
    assert "run.json" in found


def test_a_run_measured_with_other_episodes_is_refused(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    FakeStudy(tmp_path, episodes=2).write_run(study.arms[0], 1)
    assert "evaluation.csv: has 2 episodes a task, the manifest expects 4" in refusal(study)


def test_a_run_that_is_done_must_have_finite_scores(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path, (FakeArm(score=lambda *where: float("nan") if where[1] else 0.0),))
    study.write()
    assert "evaluation.csv: step 500: a score is not finite, but run.json says that the run is done" in refusal(study)


def test_runs_of_an_arm_must_be_evaluated_at_the_same_steps(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    study.write_run(FakeArm(steps=(0, 1000, 2000)), 1)
    assert f"was evaluated at other steps than {study.run_name(study.arms[0], 0)}" in refusal(study)


def test_a_run_must_have_been_evaluated_at_its_end(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    study.write()
    file = study.run_folder(study.arms[0], 2) / "evaluation.csv"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("2000,")) + "\n")
    assert "the last evaluation is 1500, the run ended at step 2000" in refusal(study)
