"""What holds for every method's default must hold for its other forms: every parameter moves, same bits, resume."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrepro.engine import checkpoint
from mtrepro.study import read_method_file
from mtrepro.training import Stopped
from tests.contract.test_methods import Watcher, feed, fingerprint, finished, trainer

ORIGINAL = {"variant": "original", "module_layers": 3, "modules": 2, "temperature_weights": True}
DREAMER_V2 = {
    "latent": "categorical",
    "latent_classes": 4,
    "recurrent_cell": "layer_norm_gru",
    "picture_activation": "elu",
    "kl_balance": 0.8,
    "continue_scale": 5.0,
    "actor_distribution": "truncated_normal",
    "actor_min_std": 0.1,
    "entropy_scale": 1e-4,
    "critic_on_start": True,
    "slow_critic_every": 7,
    "exploration_noise": 0.0,
    "weight_decay": 1e-6,
}
TABLE = read_method_file("transfer").settings["groups"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mt_sac", {"task_input": "none", "replay_sampling": "stratified"}),
    ("multi_head", {"head_layers": 1, "temperature_per_task": False}),
    ("soft_modularization", {"module_layers": 3}),
    ("soft_modularization", {**ORIGINAL, "gating_width": 8, "encoder_depth": 1}),
    ("care", {"attention": "context"}),
    ("care", {"actor_attention": "trained", "task_embedding": "learned"}),
    ("care_ptsl", {"projection": "independent", "residual": "linear"}),
    ("care_ptsl", {"residual": "project"}),
    ("ptsl", {"residual": "sum", "depth": 1}),
    ("dreamer", DREAMER_V2),
    ("meta_dreamer", {"order": "second", "curiosity_kind": "divergence", "continue_scale": 1.0, "tasks_per_update": 2}),
    ("dreamer", {"continue_scale": 10.0, "reinforce_share": 0.5, "entropy_scale": 1e-3}),
    ("transfer", {"groups": TABLE | {"encoder": "frozen", "dynamics": "frozen"}, "slow_critic_every": 7}),
    ("meta_model_transfer", {"reward_features": "source", "continue_scale": 10.0, "decoder": "fresh"}),
    ("dreamer", {**DREAMER_V2, "state_space": "transformer"}),
    ("multi_task_dreamer", {"state_space": "transformer"}),
    ("multi_task_dreamer", {"sharing": "shared", "state_space": "transformer"}),
    ("multi_task_dreamer", {"sharing": "embedded"}),
]


def settings(method: str, changed: dict[str, Any]) -> dict[str, Any]:
    """The small settings of `toy_specification` with these changes."""
    return dict(trainer(method).specification.settings) | changed


@pytest.mark.parametrize(("method", "changed"), VARIANTS, ids=[f"{m} {c}" for m, c in VARIANTS])
def test_every_parameter_of_a_variant_moves_and_a_stopped_run_ends_with_the_same_bits(
    method: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    given = settings(method, changed)
    fed = trainer(method, settings=given)
    agent = fed.method
    feed(fed, 60)
    before = {name: [p.detach().clone() for p in group] for name, group in agent.parameter_groups().items()}
    while agent.owed:
        agent.learn()
    for name, group in agent.parameter_groups().items():
        still = [i for i, (old, new) in enumerate(zip(before[name], group, strict=True)) if torch.equal(old, new)]
        assert not still, f"parameters {still} of {name!r} never move"

    expected = finished(method, settings=given, budget=80).fingerprint
    run = trainer(method, settings=given, budget=80)
    with pytest.raises(Stopped):
        run.run(Watcher(random.Random(method).randint(50, 90)))
    checkpoint.save(tmp_path, 1, run.state())
    run.close()
    run = trainer(method, settings=given, budget=80)
    state = checkpoint.load(tmp_path, print)
    assert state is not None
    run.load_state(state)
    run.run(Watcher())
    assert fingerprint(run) == expected
