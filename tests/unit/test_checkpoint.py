"""Checkpoints: written whole, kept twice, checked when read, nothing but data inside."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mtrepro.engine import checkpoint
from mtrepro.errors import OutputError, StateError


def load(folder: Path) -> tuple[Any, list[str]]:
    said: list[str] = []
    return checkpoint.load(folder, said.append), said


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert load(tmp_path) == (None, [])


_leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)  # random generators hold 128-bit numbers
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | npst.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.bool_]), npst.array_shapes(max_dims=3)
    )
)
_key = st.text(max_size=5) | st.integers(0, 9)


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(st.dictionaries(_key, st.recursive(_leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=6), max_size=4))
def test_a_state_comes_back_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, state: dict[Any, Any]) -> None:
    folder = tmp_path_factory.mktemp("state")
    checkpoint.save(folder, 1, {"state": state})
    loaded, _ = load(folder)
    np.testing.assert_equal(loaded["state"], state)
    assert _types(loaded["state"]) == _types(state)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return (value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


def test_the_newest_and_the_one_before_it_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 200):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == ["000000000010", "000000000200"]
    assert load(tmp_path)[0] == {"step": 200}


@pytest.mark.parametrize("damage", ["truncated", "one bit flipped", "emptied"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_it_and_says_so(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 1, {"weights": torch.arange(100.0)})
    newest = checkpoint.save(tmp_path, 2, {"weights": torch.arange(100.0)})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"truncated": content[:-40], "one bit flipped": content, "emptied": b""}[damage])
    loaded, said = load(tmp_path)
    assert torch.equal(loaded["weights"], torch.arange(100.0))
    assert said == [
        f"{newest}: damaged (its content is not what was written); falling back to the checkpoint before it"
    ]


def test_a_write_that_a_death_tore_is_not_seen_and_is_cleared_away(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1})
    torn = tmp_path / ".partial-99999"
    torn.write_bytes(b"half a checkpoint")
    assert load(tmp_path) == ({"step": 1}, [])
    checkpoint.save(tmp_path, 2, {"step": 2})
    assert not torn.exists()


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path: Path, full_disk: Path) -> None:
    checkpoint.save(full_disk, 1, {"small": torch.zeros(10)})
    with pytest.raises(OutputError) as caught:
        checkpoint.save(full_disk, 2, {"large": torch.zeros(10_000_000)})
    assert str(caught.value) == (
        f"{full_disk}: cannot write the checkpoint of step 2: [Errno 28] No space left on device\n"
        "  nothing is lost: the checkpoint before it is kept\n"
        "  free some space or mend the permission, then start the same command again"
    )
    assert [path.name.partition("-")[0] for path in full_disk.iterdir()] == ["000000000001"]
    loaded, said = load(full_disk)
    assert torch.equal(loaded["small"], torch.zeros(10)) and said == []


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/state: cannot write the checkpoint of step 1: .*Not a directory"):
        checkpoint.save(tmp_path / "file" / "state", 1, {})


class _Evil:
    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return subprocess.check_call, (self.command,)


def disguise(path: Path) -> Path:
    """Give a file the name under which its content counts as sound."""
    return path.rename(path.with_name(f"000000000001-{checkpoint._digest_of(path)}.pt"))


@pytest.mark.parametrize("wrapped", [True, False], ids=["in torch's format", "a bare pickle"])
def test_a_checkpoint_that_carries_code_is_refused_in_our_words_and_not_executed(tmp_path: Path, wrapped: bool) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "executed"
    state = {"state": _Evil(["touch", str(trace)])}
    if wrapped:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=2))
    path = disguise(path)
    with pytest.raises(StateError) as caught:
        load(tmp_path)
    first, second, third = str(caught.value).splitlines()
    assert first == f"{path}: refused: it holds something else than tensors, numbers, strings and containers"
    assert second.startswith("  nothing of it was executed") and "check_call" in second
    assert third.endswith("remove it to start the run afresh") and caught.value.status == 3
    assert not trace.exists()
    torch.load(path, weights_only=False) if wrapped else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file is a working attack where it is loaded carelessly"


def test_a_file_that_is_none_of_torchs_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a checkpoint")
    disguise(tmp_path / "text.pt")
    with pytest.raises(StateError, match="refused: it holds something else"):
        load(tmp_path)


def test_what_is_no_data_is_refused_when_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="_Evil cannot be stored in a checkpoint"):
        checkpoint.save(tmp_path, 1, {"state": _Evil([])})
    assert load(tmp_path) == (None, [])


def test_after_a_rehearsal_saving_loads_no_further_module(tmp_path: Path) -> None:
    code = (
        "import sys, torch, numpy; from pathlib import Path; from mtrepro.engine import checkpoint\n"
        "checkpoint.rehearse(); before = set(sys.modules)\n"
        "state = {'weights': torch.zeros(3), 'replay': numpy.zeros(4), 'text': 'a', 'list': [1, 2.0]}\n"
        "checkpoint.save(Path(sys.argv[1]), 1, state); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run((sys.executable, "-c", code, str(tmp_path)), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
