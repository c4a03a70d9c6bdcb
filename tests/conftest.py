"""What many tests share: small specifications on the toy benchmark, and runs of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro.benchmarks.toy import Settings as ToySettings
from mtrepro.methods import LeavesWeights, Weights
from mtrepro.specification import Evaluation, Specification, resolve_settings
from mtrepro.study import read_method_file
from mtrepro.training import Trainer

# Runs of tests train on the CPU, many at once; on a machine with one GPU they would wait for each other.
if not os.environ.get("MTREPRO_GPU_TESTS"):  # `make gpu-test`
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# What a method's own file says, made small enough for seconds; each method takes the settings that it has.
SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 2,
    "batch": 48,
    "random_steps": 40,
    "first_updates": 40,
    "replay_transitions": 900,
    "code_size": 12,
    "feature_size": 12,
    "projection_size": 6,
    # Of the Dreamers
    "sequences": 4,
    "length": 6,
    "replay_frames": 300,
    "learn_every": 10,
    "learn_updates": 5,
    "latent_size": 3,
    "recurrent_size": 8,
    "hidden_size": 8,
    "picture_channels": 2,
    "reward_depth": 1,
    "continue_depth": 1,
    "actor_depth": 1,
    "critic_depth": 1,
    "imagination_horizon": 4,
    "attention_heads": 2,
    "feedforward_size": 8,
    "free_nats": 0.0,
    # Of Meta-Dreamer
    "tasks_per_update": 1,
    "support_sequences": 2,
    "inner_steps": 1,
    "adaptation_episodes": 1,
    "adaptation_steps": 2,
}
LEARNING: dict[str, Any] = {  # enough to learn the toy benchmark in seconds
    "width": 64,
    "batch": 96,
    "random_steps": 100,
    "first_updates": 100,
    "discount": 0.9,
    "target_rate": 0.02,
    "actor_rate": 3e-3,
    "critic_rate": 3e-3,
    "temperature_rate": 3e-3,
    "task_encoder_rate": 3e-3,
    "code_size": 32,
    "feature_size": 32,
    "projection_size": 16,
    # Of the Dreamers. A spot on a small dark picture is little beside the rest of the loss.
    "picture_channels": 8,
    "picture_activation": "elu",
    "picture_scale": 16.0,
    "reward_scale": 100.0,
    "kl_scale": 0.1,
    "continue_scale": None,  # its target is the discount, so its loss does not fall to zero
    "sequences": 16,
    "length": 5,
    "replay_frames": 20_000,
    "learn_updates": 10,
    "latent_size": 8,
    "recurrent_size": 32,
    "hidden_size": 32,
    "feedforward_size": 32,
    "reward_depth": 2,
    "actor_depth": 2,
    "critic_depth": 2,
    "imagination_horizon": 5,
    "actor_initial_std": 1.0,
    "actor_mean_scale": 1.0,
    "model_rate": 8e-3,
    "gradient_limit": 3.0,
    # Of Meta-Dreamer
    "tasks_per_update": None,
    "support_sequences": 4,
}
SAME_FILES = ("evaluation.csv", "training.csv", "specification.yaml")  # of two equal runs; the others tell times


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow tests share one long chain, so one process runs them all, and starts them first."""
    for item in items:
        if "workflow" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("workflow"))
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def toy_benchmark(**changed: Any) -> dict[str, Any]:
    """The settings of a toy benchmark as they stand in a specification."""
    return {"family": "toy", **ToySettings.model_validate(changed).model_dump(mode="json")}


def known_to(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that the method has."""
    return {key: value for key, value in settings.items() if key in read_method_file(method).settings}


def sees_pictures(method: str) -> bool:
    """Whether a method learns from pictures, and from nothing else."""
    return "picture_channels" in read_method_file(method).settings


def takes_several_tasks(method: str) -> bool:
    """Whether a method learns several tasks together; it may refuse them (`Settings.conflicts`)."""
    settings = resolve_settings(method, read_method_file(method).settings, method)
    find = getattr(settings, "conflicts", None)
    return not any(key == "" for key, _ in (find(budget=10**9, tasks=("one", "two")) if find else ()))


def toy_for(method: str, **changed: Any) -> dict[str, Any]:
    """A toy benchmark that the method takes: three tasks on states, or pictures of two, or one."""
    kind, several = "pixels" if sees_pictures(method) else "state", 2 if sees_pictures(method) else 3
    mine = {"tasks": several if takes_several_tasks(method) else 1, "kind": kind}
    return toy_benchmark(**(mine | changed))


def toy_specification(method: str = "mt_sac", **changed: Any) -> Specification:
    """A small run of `method` on the toy benchmark; `changed` replaces whole keys of the specification."""
    defaults = read_method_file(method).settings
    settings = defaults | known_to(method, SMALL) | changed.pop("settings", {})
    settings = resolve_settings(method, settings, f"config/methods/{method}.yaml: settings").model_dump(mode="json")
    content: dict[str, Any] = {
        "schema_version": 1,
        "method": method,
        "settings": settings,
        "benchmark": toy_for(method),
        "seed": 0,
        "budget": 120,
        "evaluation": Evaluation(every=40, episodes=2),
        "metrics_every": 20,
    }
    return Specification.model_validate(content | changed)


# What methods that begin from other runs call these; all have the first one's encoder.
ROLES = {"transfer": ("source",), "meta_model_transfer": ("encoder", "near", "far")}


def toy_sources(specification: Specification) -> dict[str, Weights]:
    """What the runs left that a toy run begins from, if it needs any: Dreamers of its size, each of another seed."""
    found: dict[str, Weights] = {}
    for seed, role in enumerate(ROLES.get(specification.method, ()), start=100):
        settings = known_to("dreamer", specification.settings)
        benchmark = specification.benchmark
        source = toy_specification("dreamer", settings=settings, seed=seed, benchmark=benchmark)
        method = Trainer(source, torch.device("cpu")).method
        assert isinstance(method, LeavesWeights)
        found[role] = dict(method.weights())
        found[role] = found[role] | {"encoder": next(iter(found.values()))["encoder"]}
    return found


def write_run(folder: Path, specification: Specification) -> Path:
    """Put a specification where its run belongs, below `folder`; returns its path."""
    path = folder / specification.run_name() / "specification.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(specification.to_yaml())
    return path


def command(*words: str | Path) -> list[str]:
    """The command `mtrepro` of this interpreter."""
    return [sys.executable, "-m", "mtrepro", *map(str, words)]


def call(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mtrepro` and wait."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, env=os.environ | environment, timeout=300, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the files in which two equal runs must not differ."""
    return {name: (folder / name).read_bytes() for name in SAME_FILES}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Specification], dict[str, bytes]]:
    """The result files of a run that nothing disturbed; each specification is run once."""
    known: dict[str, dict[str, bytes]] = {}

    def run(specification: Specification) -> dict[str, bytes]:
        if specification.run_name() not in known:
            path = write_run(tmp_path_factory.mktemp("undisturbed"), specification)
            finished = call("train", path)
            assert finished.returncode == 0, finished.stderr
            known[specification.run_name()] = contents(path.parent)
        return known[specification.run_name()]

    return run


@pytest.fixture
def full_disk(tmp_path: Path) -> Any:
    """A folder on a file system of four megabytes; needs the right to mount, as root in a virtual machine has."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
