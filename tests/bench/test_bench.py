"""The benchmark program measures everything it names; how long anything takes is never asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.specification import method_names
from tests.bench.__main__ import TOPICS
from tests.bench.dreamer import ARMS as DREAMERS
from tests.bench.dreamer import BEHAVIOUR, MODEL, WHOLE
from tests.bench.environments import ALONE, ASYNC, STOCK, SYNC, Recording
from tests.bench.family import ARMS, GATHERED, ONE, gathered
from tests.bench.imagination import AGAIN, KEPT, PARTS
from tests.bench.measuring import Effort, record, write
from tests.bench.pixels import MEASURED, OURS, OWN
from tests.bench.seeds import SIZES, WAYS
from tests.bench.showing import BEGIN, END, document
from tests.bench.starts import AGAIN as AGAIN_KEPT
from tests.bench.starts import FIRST
from tests.bench.update import flops_of_update, make_method

LEAST = Effort(  # called full, because the page takes nothing less
    "full", ("reach-v3",), episodes=((3, 1),), repeats=1, threads=1, updates=1, small_updates=1, products=1,
    steps=1, demo_steps=2, random_steps=4, transitions=2000, saves=1, pause=0.01, limit=1.0,
)  # fmt: skip
ENVIRONMENTS = (STOCK, ALONE, "ours, two processes", "ours, three processes", SYNC, ASYNC)
UPDATES = (
    "update, 400 x 3, batch 1280",
    "update, 400 x 3, batch 1280, bf16",
    "update, 64 x 2, batch 192",
    "matrix product 1280 x 400 x 400",
)
ROWS = {
    "environments": [f"3: {name}" for name in (*ENVIRONMENTS, "physics alone")],
    "identity": [f"reward {version}, 3-step episodes" for version in ("v2", "v1")],
    "starts": [
        f"{kind}, {kept}" for kind in ("MT10, protocol 2020", "MT50, protocol v3") for kept in (FIRST, AGAIN_KEPT)
    ],
    "update": list(UPDATES),
    "family": [*ARMS, GATHERED, ONE],
    "seeds": [f"{size}, 1 thread: {what}" for size in SIZES for what in WAYS],
    "dreamer": [f"{name}: {part}" for name in DREAMERS for part in (WHOLE, MODEL, BEHAVIOUR)],
    "imagination": [f"{part}: {way}" for part in PARTS for way in (KEPT, AGAIN)],
    "pixels": [f"{task}, {who}" for tasks in MEASURED.values() for task in tasks for who in (OURS, OWN)],
    "training": ["MT10, 0 workers", "MT10, 2 workers", "demo, 0 workers"],
    "keeping": ["MT10, 400 x 3", "demo, 64 x 2"],
    "checkpoint": [
        "save: write, hash, fsync, rename",
        "the same bytes written plainly, fsync",
        "load: hash, read, check",
        "the same file read plainly",
    ],
}


def test_every_topic_writes_every_row_with_positive_medians_and_the_page_shows_them(tmp_path: Path) -> None:
    assert set(TOPICS) == set(ROWS)
    for topic, measure in TOPICS.items():
        content = json.loads(write(record(topic, LEAST, measure), tmp_path).read_text())
        assert [row["name"] for row in content["rows"]] == ROWS[topic]
        assert {"schema_version", "machine", "versions", "load", "date"} <= content.keys()
        for row in content["rows"]:
            assert row["repeats"] == row["threads"] == 1
            assert 0 < row["lowest"] <= row["median"] <= row["highest"]
            assert all(column["median"] > 0 for column in row["beside"].values()), row
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nan old figure\n{END}\nbelow\n")
    document(tmp_path, page, list(TOPICS))
    text = page.read_text()
    assert text.startswith(f"above\n{BEGIN}\nMeasured on ") and text.endswith(f"{END}\nbelow\n")
    assert "an old figure" not in text and all(name in text for names in ROWS.values() for name in names)
    only_one_again(tmp_path, page)


def only_one_again(folder: Path, page: Path) -> None:
    """One topic is documented anew; every other table stays, in its place."""
    before, file = page.read_text(), folder / "update.json"
    document(folder, page, list(TOPICS), ["update"])
    assert page.read_text() == before
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"notes": ["Measured again."]}))
    document(folder, page, list(TOPICS), ["update"])
    assert page.read_text() == before.replace(" ".join(content["notes"]), "Measured again.") != before
    file.write_text(json.dumps(content | {"versions": content["versions"] | {"torch": "other"}}))
    with pytest.raises(SystemExit, match="of another machine or other versions"):
        document(folder, page, list(TOPICS), ["update"])


@pytest.mark.parametrize("changed", [{"width": 8, "depth": 1}, {"width": 12, "depth": 3, "task_input": "none"}])
def test_operations_of_an_update_are_those_that_torch_counts(changed: dict[str, Any]) -> None:
    method = make_method("mt_sac", 500, batch=20, **changed)
    with FlopCounterMode(display=False) as counter:
        method.learn()
    assert flops_of_update(method) == counter.get_total_flops()


def test_full_size_update_has_the_operations_of_the_count_by_hand() -> None:
    assert flops_of_update(make_method("mt_sac", 2000)) == pytest.approx(13.85e9, rel=1e-3)


def test_every_method_that_learns_is_measured() -> None:
    measured = {method for arms in (ARMS, DREAMERS) for method, _ in arms.values()}
    begin_with_others = {"transfer", "meta_model_transfer"}  # their updates are Dreamer's
    assert measured == set(method_names()) - {"random_policy"} - begin_with_others


def test_the_gathered_peer_computes_what_the_grouped_layers_compute() -> None:
    ours, peer = make_method("care_ptsl", 500, batch=40), gathered(make_method("care_ptsl", 500, batch=40))
    for _ in range(3):
        ours.learn()
        peer.learn()
    for mine, its in zip(ours.actor.parameters(), peer.actor.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)  # sums in another order


def test_physics_alone_ends_in_the_very_state_of_the_episode() -> None:
    benchmark = load_benchmark("metaworld", {"tasks": ["push-v3"], "protocol": "v3"}, 0)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4)).astype(np.float32)
    recording = Recording(benchmark, 0, actions)  # type: ignore[arg-type]
    for _ in range(2):
        recording.replay()
        assert recording.state().tobytes() == recording.last.tobytes() != recording.first.tobytes()
    recording.close()
