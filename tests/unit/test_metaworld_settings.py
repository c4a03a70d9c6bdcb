"""Meta-World's settings: protocols resolve to conditions, and nothing impossible or misspelt gets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrepro.benchmarks.loading import load_family
from mtrepro.benchmarks.metaworld import PROTOCOLS, Settings
from mtrepro.benchmarks.metaworld_tasks import MT10, MT25, MT50
from mtrepro.errors import SpecificationError
from mtrepro.validation import validate

FILES = sorted((Path(__file__).parents[2] / "config" / "benchmarks").glob("*.yaml"))


def refusal(**values: Any) -> str:
    """What a user reads who gives these settings."""
    with pytest.raises(SpecificationError) as caught:
        validate(Settings, {"tasks": "MT10", "protocol": "v3", **values}, "x.yaml: settings")
    return str(caught.value)


def test_task_names_and_their_order_are_the_packages() -> None:
    from metaworld.env_dict import MT10_V3, MT25_V3, MT50_V3

    assert tuple(MT10_V3) == MT10
    assert tuple(MT25_V3) == MT25
    assert tuple(MT50_V3) == MT50


def test_mt10_has_the_order_of_the_published_runs() -> None:
    assert MT10[:5] == ("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3")
    assert MT10[5:7] == ("drawer-close-v3", "button-press-topdown-v3")
    assert MT10[7:] == ("peg-insert-side-v3", "window-open-v3", "window-close-v3")


@pytest.mark.parametrize("protocol", ["2020", "v3"])
@pytest.mark.parametrize("changed", [{}, {"horizon": 77, "goals": "random"}])
def test_every_condition_stands_in_the_resolved_settings_which_resolve_to_themselves(
    protocol: str, changed: dict[str, Any]
) -> None:
    resolved = Settings.model_validate({"tasks": "MT10", "protocol": protocol, **changed})
    written = resolved.model_dump(mode="json")
    assert written == {"tasks": list(MT10), "protocol": protocol, **PROTOCOLS[protocol], **changed}
    assert Settings.model_validate(yaml.safe_load(yaml.safe_dump(written))) == resolved


def test_null_means_what_the_protocol_says() -> None:
    resolved = Settings.model_validate({"tasks": ["reach-v3"], "protocol": "2020", "horizon": None})
    assert resolved.horizon == 150


def test_the_json_schema_takes_names_of_sets_lists_and_nulls() -> None:
    import jsonschema

    schema = Settings.model_json_schema()
    for tasks in ("MT10", ["reach-v3"]):
        jsonschema.validate({"tasks": tasks, "protocol": "v3", "horizon": None, "observation_size": 12}, schema)
    for wrong in ({"tasks": "MT11"}, {"horizon": "long"}, {"observation_size": 13}, {"horizn": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"tasks": "MT10", "protocol": "v3", **wrong}, schema)


def test_every_setting_is_described() -> None:
    for family in ("metaworld", "toy"):
        for name, field in load_family(family).Settings.model_fields.items():
            assert field.description, f"{family}.{name}"


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    assert refusal(tasks=["reach-v3", "door-opne-v3"]) == (
        "x.yaml: settings.tasks: unknown task 'door-opne-v3' (nearest: door-open-v3)"
    )


def test_task_names_of_the_packages_readme_are_refused_with_the_right_one() -> None:
    assert refusal(tasks=["reach-V3"]).endswith("unknown task 'reach-V3' (nearest: reach-v3)")


def test_an_unknown_set_of_tasks_is_refused() -> None:
    assert refusal(tasks="MT11") == (
        "x.yaml: settings.tasks: unknown set of tasks 'MT11'; known: MT10, MT25, MT50, or a list of task names"
    )


def test_a_task_given_twice_is_refused() -> None:
    assert refusal(tasks=["push-v3", "reach-v3", "push-v3"]) == (
        "x.yaml: settings.tasks: task 'push-v3' is given twice; a task counts once"
    )


@pytest.mark.parametrize("tasks", [[], 3])
def test_no_tasks_are_refused(tasks: Any) -> None:
    assert refusal(tasks=tasks) == (
        "x.yaml: settings.tasks: no tasks; give MT10, MT25, MT50, or a list of task names such as [assembly-v3]"
    )


def test_a_horizon_that_meta_world_cannot_have_is_refused_with_the_reason() -> None:
    assert refusal(horizon=501) == (
        "x.yaml: settings.horizon: 501 steps are impossible: Meta-World's environments end after 500 at most"
    )


def test_the_packages_documented_but_wrong_keyword_is_refused() -> None:
    assert "(nearest: reward_version)" in refusal(reward_func_version="v1")


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    assert "unknown protocol '2021'\n  known: 2020, v3 (nearest: 2020)" in refusal(protocol="2021")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_benchmark_file_holds_settings_that_its_family_takes(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content.keys() == {"schema_version", "family", "title", "settings"}
    validate(load_family(content["family"]).Settings, content["settings"], path.name)


def test_the_files_of_config_are_the_benchmarks_that_were_meant() -> None:
    expected = {
        "mt10-2020": (MT10, 12, 150),
        "mt25-2020": (MT25, 12, 150),
        "mt50-2020": (MT50, 12, 150),
        "mt10-v3": (MT10, 39, 500),
        "mt25-v3": (MT25, 39, 500),
        "mt50-v3": (MT50, 39, 500),
        "closing": (("door-close-v3", "drawer-close-v3", "window-close-v3"), 39, 150),
    }
    found = {}
    for path in FILES:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content["family"] == "metaworld" and path.stem in expected:
            one = Settings.model_validate(content["settings"])
            found[path.stem] = (one.tasks, one.observation_size, one.horizon)
    assert found == expected
