"""GIFs of a film: the episode that was played, and truth, model and error of the open-loop prediction.

    episode     the tasks side by side, from the top left in the benchmark's order
    open_loop   rows: truth, model, error = (model - truth + 1) / 2 with pictures in [0, 1]; columns: the windows,
                task after task. Between truth and model a line: blue while the model sees, orange once it predicts

Several lines of tasks where there are many. What is shorter than the others stands still at its end. Where a file would
be larger than a report and git should hold, it is drawn at half the size; if that is not enough, frames are left out.
Pictures of a run that diverged have a red frame.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtrepro.engine.files import write_atomically
from mtrepro.errors import MtreproError
from mtrepro.film import LARGEST, Film, Pictures, TaskFilm, read_film

WIDEST = 1_024  # pixels; where a line of tasks would be wider, there is another
LEAST = 128  # pixels of a picture's side: twice what most benchmarks show, and small ones are not lost
SECONDS, SLOWEST = 8.0, 0.2  # that an episode takes, and each of its frames at most
FRAME = 0.1  # seconds of each frame of a prediction
GAP, APART = 4, 12  # pixels between pictures of a task, and between tasks
LINE = 4  # pixels of the line that says what the model sees
BETWEEN, SEES, PREDICTS = (255, 255, 255), (0, 114, 178), (213, 94, 0)
DIVERGED, FRAME_WIDTH = (220, 0, 0), 8


def write_pictures(films: Sequence[Path], output: Path, name: str | None = None, largest: int = LARGEST) -> None:
    """Write NAME-episode.gif and NAME-open_loop.gif of each film to the folder `output`.

    Equal films give equal bytes.

    Args:
        name: of a single film; else each has the name of its folder, which is its run's.
        largest: bytes of a GIF.

    Raises:
        MtreproError: a film is missing or damaged, or one name is given for several.
        OutputError: the folder cannot be written.
    """
    if name is not None and len(films) != 1:
        raise MtreproError(f"--name {name}: names one film, and there are {len(films)}; leave it out")
    for path in films:
        film, head = read_film(path), name or path.resolve().parent.name
        frames, predicted = episode(film), open_loop(film)
        if film.diverged:
            frames, predicted = _framed(frames), _framed(predicted)
        write_atomically(output / f"{head}-episode.gif", gif(frames, min(SLOWEST, SECONDS / len(frames)), largest))
        write_atomically(output / f"{head}-open_loop.gif", gif(predicted, FRAME, largest))


def episode(film: Film) -> Pictures:
    """The tasks side by side: (frames, height, width, 3)."""
    return _lines([_enlarged(its.frames) for its in film.tasks])


def open_loop(film: Film) -> Pictures:
    """Truth, model and error: (frames, height, width, 3)."""
    return _lines([_rows(its, film.seen) for its in film.tasks])


def _framed(frames: Pictures) -> Pictures:
    around = np.array(DIVERGED, np.uint8)
    width = FRAME_WIDTH
    framed = np.broadcast_to(around, (len(frames), *(side + 2 * width for side in frames.shape[1:3]), 3)).copy()
    framed[:, width:-width, width:-width] = frames
    return framed


def gif(frames: Pictures, seconds: float, largest: int = LARGEST) -> bytes:
    """A GIF that goes on for ever, of the frames as they are, or half as large, or of every so many of these.

    Args:
        frames: (frames, height, width, 3).
        seconds: from one to the next; a GIF counts hundredths.
        largest: bytes that it should not exceed; one small frame it always has.
    """
    content = _encoded(frames, seconds)
    for every in range(1, len(frames) + 1):
        if len(content) <= largest:
            break
        content = _encoded(np.ascontiguousarray(frames[::every, ::2, ::2]), seconds * every)
    return content


def _encoded(frames: Pictures, seconds: float) -> bytes:
    """One palette for all frames, chosen from some of them, and no dithering: what stands still costs nothing."""
    some = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(some.reshape(-1, *frames.shape[2:])).quantize(256, Image.Quantize.MEDIANCUT)
    first, *others = [Image.fromarray(each).quantize(palette=palette, dither=Image.Dither.NONE) for each in frames]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=max(20, round(100 * seconds) * 10), loop=0)
    return buffer.getvalue()


def _rows(its: TaskFilm, seen: int) -> Pictures:
    """Truth, line, model and error of a task, its windows side by side: (T, height, width, 3)."""
    error = (its.model.astype(np.int16) - its.truth + 255) // 2
    rows = [
        _side_by_side([_enlarged(window) for window in each]) for each in (its.truth, its.model, error.astype(np.uint8))
    ]
    line = np.empty((len(rows[0]), LINE, rows[0].shape[2], 3), np.uint8)
    line[:seen], line[seen:] = SEES, PREDICTS
    gap = np.full((len(line), GAP, line.shape[2], 3), BETWEEN, np.uint8)
    return np.concatenate([rows[0], line, rows[1], gap, rows[2]], axis=1)


def _lines(blocks: Sequence[Pictures]) -> Pictures:
    """Blocks of equal height side by side, in as many lines as they need; all as long as the longest."""
    count, width = max(map(len, blocks)), max(block.shape[2] for block in blocks)
    blocks = [_fitted(block, count, width) for block in blocks]
    in_line = max(1, (WIDEST + APART) // (width + APART))
    lines = [_side_by_side(blocks[first : first + in_line], APART) for first in range(0, len(blocks), in_line)]
    lines = [_fitted(line, count, lines[0].shape[2]) for line in lines]
    gap = np.full((count, APART, lines[0].shape[2], 3), BETWEEN, np.uint8)
    parts = [part for line in lines for part in (line, gap)]
    return np.concatenate(parts[:-1], axis=1)


def _side_by_side(blocks: Sequence[Pictures], gap: int = GAP) -> Pictures:
    between = np.full((*blocks[0].shape[:2], gap, 3), BETWEEN, np.uint8)
    parts = [part for block in blocks for part in (block, between)]
    return np.concatenate(parts[:-1], axis=2)


def _fitted(block: Pictures, count: int, width: int) -> Pictures:
    """Its last frame repeated to `count` frames, and nothing on the right to `width` pixels."""
    block = np.concatenate([block, np.repeat(block[-1:], count - len(block), axis=0)])
    return np.pad(block, ((0, 0), (0, 0), (0, width - block.shape[2]), (0, 0)), constant_values=255)


def _enlarged(pictures: Pictures) -> Pictures:
    """Each pixel a square of pixels."""
    scale = max(1, -(-LEAST // pictures.shape[1]))
    return pictures.repeat(scale, axis=1).repeat(scale, axis=2)
