"""A study resolves to runs, or says what is wrong: the file, the key, the reason, the nearest valid key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro import paths
from mtrepro.errors import SpecificationError
from mtrepro.specification import load_specification, method_names
from mtrepro.study import ResolvedStudy, load_study

STUDY: dict[str, Any] = {
    "schema_version": 1,
    "study": "tiny",
    "title": "A tiny study",
    "benchmark": "toy-state",
    "budget": 300,
    "seeds": [0, 1],
    "evaluation": {"every": 100},
    "settings": {"width": 16, "batch": 48, "random_steps": 50, "first_updates": 50, "replay_transitions": 900},
    "arms": {"mt-sac": {"method": "mt_sac"}, "blind": {"method": "mt_sac", "settings": {"task_input": "none"}}},
}


def write(folder: Path, changed: dict[str, Any] | None = None, text: str | None = None) -> Path:
    path = folder / "study.yaml"
    path.write_text(text or yaml.safe_dump(STUDY | (changed or {}), sort_keys=False))
    return path


def resolve(folder: Path, **changed: Any) -> ResolvedStudy:
    return load_study(write(folder, changed))


def refused(folder: Path, text: str | None = None, **changed: Any) -> str:
    with pytest.raises(SpecificationError) as caught:
        load_study(write(folder, changed, text))
    assert caught.value.status == 2
    return str(caught.value).replace(str(folder), "F")


def test_a_study_is_its_arms_times_its_seeds(tmp_path: Path) -> None:
    runs = resolve(tmp_path).runs
    assert [(run.arm, run.seed) for run in runs] == [("mt-sac", 0), ("mt-sac", 1), ("blind", 0), ("blind", 1)]
    assert len({run.name for run in runs}) == 4


def test_a_specification_holds_every_setting_and_survives_its_file(tmp_path: Path) -> None:
    run = resolve(tmp_path).runs[0]
    path = tmp_path / "specification.yaml"
    path.write_text(run.specification.to_yaml())
    assert load_specification(path) == run.specification
    assert load_specification(path).digest() == run.specification.digest()
    defaults = yaml.safe_load((paths.root() / "config/methods/mt_sac.yaml").read_text())["settings"]
    assert set(run.specification.settings) == set(defaults)
    assert run.specification.settings["width"] == 16 and run.specification.settings["discount"] == 0.99


def test_the_digest_is_of_the_meaning_not_of_the_layout(tmp_path: Path) -> None:
    run = resolve(tmp_path).runs[0]
    mixed = dict(reversed(run.specification.model_dump(mode="json").items()))
    path = tmp_path / "specification.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(mixed))
    assert load_specification(path).run_name() == run.name


@pytest.mark.parametrize(
    "changed",
    [{"budget": 301}, {"evaluation": {"every": 50}}, {"settings": {"width": 17}}, {"benchmark": "toy-pixels"}],
)
def test_whatever_changes_the_result_changes_the_run(tmp_path: Path, changed: dict[str, Any]) -> None:
    changed = {**changed, **({"settings": STUDY["settings"] | changed["settings"]} if "settings" in changed else {})}
    assert not {run.name for run in resolve(tmp_path).runs} & {run.name for run in resolve(tmp_path, **changed).runs}


def test_title_note_labels_resources_and_folder_do_not_change_the_run(tmp_path: Path) -> None:
    arms = {name: arm | {"label": f"arm {name}"} for name, arm in STUDY["arms"].items()}
    other = {"title": "T", "note": "N", "study": "x", "results": "results/y", "resources": {"mem_mb": 1}, "arms": arms}
    assert [run.name for run in resolve(tmp_path).runs] == [run.name for run in resolve(tmp_path, **other).runs]


# Wrong input


def test_unknown_key(tmp_path: Path) -> None:
    message = refused(tmp_path, bugdet=5)
    assert message.startswith("F/study.yaml: bugdet: unknown key 'bugdet'\n  known: schema_version, study, title, ")
    assert "(nearest: budget)\n  see docs/study.md" in message


def test_unknown_key_of_an_arm(tmp_path: Path) -> None:
    assert refused(tmp_path, arms={"a": {"method": "mt_sac", "setings": {}}}) == (
        "F/study.yaml: arms.a.setings: unknown key 'setings'\n"
        "  known: method, budget, settings, learner, sources, label, reference, seeds_per_job (nearest: settings)\n"
        "  see docs/study.md"
    )


def test_unknown_setting_of_a_method(tmp_path: Path) -> None:
    message = refused(tmp_path, arms={"a": {"method": "mt_sac", "settings": {"widht": 3}}})
    assert message.startswith("F/study.yaml: arms.a.settings.widht: unknown key 'widht'\n  known: batch, ")
    assert message.endswith("(nearest: width)\n  see docs/methods/mt_sac.md")


def test_unknown_shared_setting(tmp_path: Path) -> None:
    message = refused(tmp_path, settings={"dicsount": 0.9})
    assert message.startswith("F/study.yaml: settings.dicsount: unknown key 'dicsount'\n")
    assert message.endswith("(nearest: discount)")


def test_unknown_method(tmp_path: Path) -> None:
    assert refused(tmp_path, arms={"a": {"method": "mtsac"}}) == (
        "F/study.yaml: arms.a.method: unknown method 'mtsac'\n"
        f"  known: {', '.join(method_names())} (nearest: mt_sac)\n"
        "  see docs/methods/"
    )


def test_unknown_benchmark(tmp_path: Path) -> None:
    message = refused(tmp_path, benchmark="toy-stat")
    assert message.startswith("F/study.yaml: benchmark: unknown benchmark 'toy-stat'\n  known: ")
    assert message.endswith("(nearest: toy-state)\n  see docs/adding-a-benchmark.md")


def test_unknown_task(tmp_path: Path) -> None:
    assert refused(tmp_path, benchmark={"name": "closing", "settings": {"tasks": ["dor-close-v3"]}}) == (
        "F/study.yaml: benchmark.settings.tasks: unknown task 'dor-close-v3' (nearest: door-close-v3)\n"
        "  see docs/adding-a-benchmark.md"
    )


def test_unknown_choice(tmp_path: Path) -> None:
    assert refused(tmp_path, settings=STUDY["settings"] | {"replay_sampling": "uniformly"}) == (
        "F/study.yaml: arms.mt-sac.settings.replay_sampling: unknown replay_sampling 'uniformly'\n"
        "  known: uniform, stratified (nearest: uniform)\n"
        "  see docs/methods/mt_sac.md"
    )


def test_seed_given_twice(tmp_path: Path) -> None:
    assert refused(tmp_path, seeds=[0, 3, 3]) == (
        "F/study.yaml: seeds: seed 3 is given 2 times; a run counts once\n  see docs/study.md"
    )


def test_key_given_twice(tmp_path: Path) -> None:
    text = yaml.safe_dump(STUDY, sort_keys=False) + "budget: 7\n"
    assert refused(tmp_path, text) == f"F/study.yaml:{text.count(chr(10))}:1: key 'budget' is given twice"


def test_budget_shorter_than_the_random_phase(tmp_path: Path) -> None:
    assert refused(tmp_path, budget=50) == (
        "F/study.yaml: arms.mt-sac.settings.random_steps: "
        "50 random steps leave nothing to learn in a budget of 50 steps\n"
        "  see docs/methods/mt_sac.md"
    )


def test_stratified_batch_that_cannot_be_shared(tmp_path: Path) -> None:
    settings = STUDY["settings"] | {"replay_sampling": "stratified", "batch": 50}
    assert "batch: a stratified batch of 50 cannot be shared equally by 3 tasks" in refused(tmp_path, settings=settings)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"budget": "many"}, "budget: input should be a valid integer, found 'many'"),
        ({"budget": "300"}, "budget: input should be a valid integer, found '300'"),
        ({"seeds": [0, True]}, "seeds.1: input should be a valid integer, found True"),
        ({"settings": {"actor_rate": float("inf")}}, "actor_rate: input should be a finite number, found inf"),
        ({"budget": -1}, "budget: input should be greater than 0, found -1"),
        ({"seeds": []}, "seeds: list should have at least 1 item after validation, not 0"),
        ({"evaluation": {}}, "evaluation.every: missing"),
        ({"schema_version": 2}, "schema_version: unknown schema_version '2'\n  known: 1"),
        ({"results": "/tmp/x"}, "results: '/tmp/x' is not a folder inside results/, such as results/runs"),
        ({"results": "results/../.."}, "results: 'results/../..' is not a folder inside results/"),
        ({"results": "results/released"}, "results/released/ is written by `mtrepro release` alone"),
    ],
)
def test_wrong_values_are_named_with_what_was_found(tmp_path: Path, changed: dict[str, Any], part: str) -> None:
    assert part in refused(tmp_path, **changed)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, budget="many", seeds=[1, 1])
    assert "budget: " in message and "seeds: seed 1" in message


def test_two_arms_that_are_the_same(tmp_path: Path) -> None:
    assert refused(
        tmp_path, arms={"a": {"method": "mt_sac"}, "b": {"method": "mt_sac", "settings": {"width": 16}}}
    ) == ("F/study.yaml: arms.b: is the same as arm a: every setting is equal\n  change a setting of one, or remove it")


def test_not_yaml_names_line_and_column(tmp_path: Path) -> None:
    assert refused(tmp_path, "a: 1\nb: [2, 3\nc: 4\n").startswith("F/study.yaml:3:")


def test_no_such_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(SpecificationError, match=r"studdy.yaml: there is no such file \(nearest: study.yaml\)"):
        load_study(tmp_path / "studdy.yaml")


def test_a_specification_with_a_setting_missing_is_refused(tmp_path: Path) -> None:
    content = resolve(tmp_path).runs[0].specification.model_dump(mode="json")
    del content["settings"]["discount"]
    path = tmp_path / "specification.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecificationError, match=r"specification.yaml: settings.discount: missing"):
        load_specification(path)


def test_planning_imports_neither_torch_nor_a_simulator(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mtrepro.study import load_study; "
    code += (
        "load_study(Path(sys.argv[1])); print(sorted({'torch', 'mujoco', 'metaworld', 'pandas'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, "config/studies/closing-methods.yaml"]
    assert subprocess.run(arguments, capture_output=True, text=True, cwd=paths.root(), check=True).stdout == "[]\n"


@pytest.mark.parametrize("path", sorted((paths.root() / "config").rglob("studies/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_resolves(path: Path) -> None:
    assert load_study(path).runs
