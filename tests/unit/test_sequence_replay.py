"""Windows of frames against the episodes they come from, and the files that frames are kept in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mtrepro.engine import checkpoint
from mtrepro.engine.record_files import FileRecords, Files
from mtrepro.engine.records import Memory, Storage
from mtrepro.engine.replay import Transitions
from mtrepro.engine.sequence_replay import SequenceReplay
from mtrepro.engine.streams import numpy_stream
from mtrepro.errors import OutputError, StateError

CPU = torch.device("cpu")
PICTURE = (2, 2, 3)
KIND = np.dtype([("number", np.int64), ("picture", np.uint8, (4,))])


def replay(capacity: int = 1000, tasks: int = 1, storage: Storage | None = None) -> SequenceReplay:
    stream = numpy_stream(0, "test")
    return SequenceReplay(capacity, tasks, PICTURE, np.dtype(np.uint8), 2, stream, CPU, storage)


def play(memory: SequenceReplay, lengths: list[int], tasks: int = 1, ends: str = "truncated") -> int:
    """Store episodes of these many steps; a frame's picture shows its number, counted over all frames."""
    number = 0
    for length in lengths:
        for step in range(length):
            pictures = [np.full((tasks, *PICTURE), number + step + after, np.uint8) for after in (0, 1)]
            marks = np.full(tasks, number + step + 1, np.float32)
            flags = {"terminated": np.zeros(tasks, bool), "truncated": np.zeros(tasks, bool)}
            flags[ends][:] = step == length - 1
            action = np.stack([marks, -marks], axis=1)
            memory.add(Transitions(pictures[0], action, marks, pictures[1], **flags))
        number += length + 1
    return number


def test_a_window_is_consecutive_frames_each_with_what_led_to_it() -> None:
    memory = replay()
    play(memory, [5, 1, 9, 1, 1], ends="terminated")
    starts, ends = {0, 6, 8, 18, 20}, {5, 7, 17, 19, 21}
    drawn = memory.draw(200, 7)
    numbers = drawn.observation[:, :, 0, 0, 0].long()
    assert drawn.observation.dtype == torch.uint8 and drawn.observation.shape == (7, 200, *PICTURE)
    assert torch.equal(numbers, numbers[0] + torch.arange(7)[:, None])
    assert set(numbers[0].tolist()) == set(range(22 - 7 + 1)), "every window there is, across all episodes' ends"
    for number, first, ended, reward, action in zip(
        numbers.flatten().tolist(), drawn.is_first.flatten().tolist(), drawn.terminated.flatten().tolist(),
        drawn.reward.flatten().tolist(), drawn.action.flatten(0, 1).tolist(), strict=True,
    ):  # fmt: skip
        assert first == (number in starts) and bool(ended) == (number in ends)
        assert (reward, action) == ((0.0, [0.0, 0.0]) if first else (number, [number, -number]))


def test_episodes_of_one_step_fill_windows_of_any_length() -> None:
    memory = replay()
    play(memory, [1] * 30)
    assert memory.draw(3, 60).is_first[:, 0].tolist() == [True, False] * 30


def test_every_window_is_hit_alike_and_the_oldest_frames_give_way() -> None:
    memory = replay(capacity=12)
    play(memory, [9, 9])  # twenty frames; the last twelve stay
    first = memory.draw(9000, 4).observation[0, :, 0, 0, 0].numpy()
    windows, counts = np.unique(first, return_counts=True)
    assert windows.tolist() == list(range(8, 17))
    assert chisquare(counts).pvalue > 0.001  # fixed seed: a fact about the stream


def test_every_task_gets_as_many_windows_in_the_order_of_the_tasks() -> None:
    memory = replay(tasks=3)
    play(memory, [9, 4], tasks=3)
    drawn = memory.draw_of_each(2, 5)
    assert drawn.task.tolist() == [0, 0, 1, 1, 2, 2] and drawn.reward.shape == (5, 6)
    some = drawn.columns(torch.tensor([1, 4]))
    assert some.task.tolist() == [0, 2] and torch.equal(some.observation, drawn.observation[:, [1, 4]])
    with pytest.raises(ValueError, match="a window of 99 frames cannot be drawn from 15"):
        memory.draw_of_each(1, 99)


def test_a_time_limit_begins_an_episode_and_is_no_termination() -> None:
    memory = replay()
    play(memory, [4, 4], ends="truncated")
    drawn = memory.draw(1, 10)
    assert not drawn.terminated.any() and drawn.is_first[:, 0].nonzero().flatten().tolist() == [0, 5]


def test_tasks_are_kept_apart() -> None:
    memory = replay(tasks=2)
    one, flags = np.array([[1.0, 0.0], [2.0, 0.0]], np.float32), np.zeros(2, np.bool_)
    for step in range(20):
        ends = np.array([step % 2 == 1, False])
        pictures = np.stack([np.full(PICTURE, 1, np.uint8), np.full(PICTURE, 2, np.uint8)])
        memory.add(Transitions(pictures, one, one[:, 0], pictures, ends, flags))
    drawn = memory.draw(40, 5)
    assert set(drawn.task.tolist()) == {0, 1}
    assert (drawn.observation == (drawn.task + 1)[None, :, None, None, None]).all()
    assert drawn.is_first[1:, drawn.task == 1].sum() == 0 and drawn.is_first[1:, drawn.task == 0].any()


def test_what_cannot_be_drawn_is_refused() -> None:
    memory = replay()
    play(memory, [3])
    with pytest.raises(ValueError, match="a window of 5 frames cannot be drawn from 4"):
        memory.draw(2, 5)
    with pytest.raises(ValueError, match="replay of 1 frames cannot hold one frame of each of 2 tasks"):
        replay(1, 2)


@pytest.mark.parametrize("capacity", [1000, 17])
def test_files_and_memory_give_the_same_draws_and_both_continue(tmp_path: Path, capacity: int) -> None:
    def storage() -> Files:
        return Files(tmp_path / "frames", segment_bytes=100)  # three frames a file

    kept, filed = replay(capacity), replay(capacity, storage=storage())
    for memory in (kept, filed):
        play(memory, [5, 1, 9])
    states = [checkpoint.to_arrays(checkpoint.to_tensors(memory.state())) for memory in (kept, filed)]
    for memory in (kept, filed):
        play(memory, [30])  # what a run does before it dies
    kept, filed = replay(capacity), replay(capacity, storage=storage())
    for memory, state in zip((kept, filed), states, strict=True):
        memory.load_state(state)
        play(memory, [2, 4])
    for mine, theirs in zip(kept.draw(50, 6), filed.draw(50, 6), strict=True):
        assert torch.equal(mine, theirs)


# Files


def records(folder: Path, capacity: int = 10, per_segment: int = 4) -> FileRecords:
    made = Files(folder / "frames", segment_bytes=per_segment * KIND.itemsize).records("task-0", KIND, capacity)
    assert isinstance(made, FileRecords) and made.per_segment == per_segment
    return made


def write(to: Any, numbers: range) -> None:
    for number in numbers:
        to.append(np.array((number, [number % 256] * 4), KIND))


def numbers(of: Any, start: int, stop: int) -> list[int]:
    return [int(number) for number in of.read(start, stop)["number"]]


def test_files_read_back_what_was_written_across_their_borders(tmp_path: Path) -> None:
    mine, ring = records(tmp_path, capacity=100), Memory().records("x", KIND, 30)
    for each in (mine, ring):
        write(each, range(30))
        for start in range(20):
            assert numbers(each, start, start + 10) == list(range(start, start + 10))
    write(ring, range(30, 47))
    assert numbers(ring, 17, 47) == list(range(17, 47))


def test_what_a_checkpoint_may_still_need_stays_and_the_rest_is_freed(tmp_path: Path) -> None:
    mine = records(tmp_path)
    states = []
    for count in range(0, 60, 6):
        write(mine, range(count, count + 6))
        states.append(mine.state())
    assert len(list(tmp_path.rglob("*.records"))) < 10 and not (tmp_path / "frames/task-0-000000.records").exists()
    for state, count in zip(states[-3:], (48, 54, 60), strict=True):  # the newest, the one kept, the one it replaces
        other = records(tmp_path)
        other.load_state(state)
        assert numbers(other, count - 10, count) == list(range(count - 10, count))
    with pytest.raises(StateError):
        records(tmp_path).load_state(states[2])


def test_a_state_holds_no_frame(tmp_path: Path) -> None:
    mine = records(tmp_path, capacity=5000, per_segment=1000)
    write(mine, range(3000))
    assert mine.state() == {"count": 3000, "saved": [3000], "sums": [[s, mine._sums[s]] for s in range(3)]}


@pytest.mark.parametrize("damage", ["missing", "short", "another byte"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, damage: str) -> None:
    mine = records(tmp_path)
    write(mine, range(7))
    state, path = mine.state(), tmp_path / "frames" / "task-0-000001.records"
    content = path.read_bytes()
    spoilt = {"missing": b"", "short": content[:-1], "another byte": content[:5] + b"\xff" + content[6:]}[damage]
    path.unlink() if damage == "missing" else path.write_bytes(spoilt)
    with pytest.raises(StateError, match=r"task-0-000001\.records: missing or damaged") as caught:
        records(tmp_path).load_state(state)
    assert f"remove the folder {tmp_path} to start this run afresh" in str(caught.value)
    path.write_bytes(content + b"what a run that died had added")
    records(tmp_path).load_state(state)


def test_a_full_disk_is_said_and_what_was_saved_can_be_read(full_disk: Path) -> None:
    mine = records(full_disk, capacity=10**6, per_segment=1000)
    write(mine, range(50))
    state = mine.state()
    (full_disk / "ballast").write_bytes(b"0" * (shutil.disk_usage(full_disk).free - 8192))
    with pytest.raises(OutputError, match=r"records: cannot be written: No space left on device\n  nothing is lost"):
        write(mine, range(50, 5000))
    (full_disk / "ballast").unlink()
    again = records(full_disk, capacity=10**6, per_segment=1000)
    again.load_state(state)
    write(again, range(50, 200))
    assert numbers(again, 0, 200) == list(range(200))


def test_the_growth_that_is_foreseen_is_the_growth_that_comes(tmp_path: Path) -> None:
    mine = records(tmp_path, capacity=20)
    for steps in (5, 11):
        before = sum(path.stat().st_size for path in tmp_path.rglob("*.records"))
        foreseen = mine.bytes_still_to_come(steps)
        write(mine, range(mine.count, mine.count + steps))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.records")) == before + foreseen
    assert mine.bytes_still_to_come(10**9) == (20 + 8 - 16) * KIND.itemsize
