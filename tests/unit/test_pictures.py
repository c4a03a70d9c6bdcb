"""GIFs of a film: their frames, their size, and what is seen in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtrepro.analysis import pictures
from mtrepro.analysis.pictures import (
    DIVERGED,
    FRAME,
    FRAME_WIDTH,
    LINE,
    PREDICTS,
    SEES,
    episode,
    gif,
    open_loop,
    write_pictures,
)
from mtrepro.errors import MtreproError
from mtrepro.film import read_film, write_film
from tests.unit.film_fixture import film


def read_gif(content: bytes) -> list[Any]:
    image = Image.open(io.BytesIO(content))
    shown = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        shown.append(np.asarray(image.convert("RGB")))
    return shown


def test_gifs_have_the_frames_and_the_size_of_the_film_and_equal_bytes(tmp_path: Path) -> None:
    its = film(tasks=1, frames=6, windows=2, side=16)
    write_film(tmp_path / "a-run" / "film.npz", its)
    write_pictures([tmp_path / "a-run" / "film.npz"], tmp_path / "one")
    write_pictures([tmp_path / "a-run" / "film.npz"], tmp_path / "two", "arm-s0")
    for kind, frames, size in (("episode", 6, (128, 128)), ("open_loop", 12, (2 * 128 + 4, 3 * 128 + 4 + LINE))):
        content = (tmp_path / "one" / f"a-run-{kind}.gif").read_bytes()
        assert content == (tmp_path / "two" / f"arm-s0-{kind}.gif").read_bytes()
        shown = read_gif(content)
        assert len(shown) == frames and shown[0].shape == (size[1], size[0], 3)


def test_rows_are_truth_model_and_error_and_the_line_says_what_was_seen() -> None:
    its = film(tasks=1, windows=1)
    frames, of_task = open_loop(its), its.tasks[0]
    assert np.array_equal(frames[:, :128:2, ::2], of_task.truth[0])
    assert np.array_equal(frames[:, 128 + LINE : 256 + LINE : 2, ::2], of_task.model[0])
    error = (of_task.model[0] / 255 - of_task.truth[0] / 255 + 1) / 2 * 255
    np.testing.assert_allclose(frames[:, -128::2, ::2], error, atol=0.51)
    colours = [tuple(frame[129, 0].tolist()) for frame in frames]
    assert colours == [SEES] * 5 + [PREDICTS] * 7
    shown = read_gif(gif(frames, FRAME))[6][129, 5].astype(int)
    assert np.abs(shown - PREDICTS).max() < 40, "the palette has its colour"


def test_a_task_that_ended_early_stands_still_beside_the_others() -> None:
    its = film(tasks=2, frames=8)
    frames = episode(its)
    assert frames.shape[0] == 8
    assert np.array_equal(frames[7, ::2, -128::2], its.tasks[1].frames[-1])
    assert open_loop(film(tasks=5)).shape[2] <= pictures.WIDEST


def test_large_gifs_are_half_as_wide_then_leave_out_frames_and_play_as_fast() -> None:
    frames = episode(film(tasks=1, frames=12))
    whole = gif(frames, 0.1)
    half = gif(frames, 0.1, len(whole) - 1)
    cut = gif(frames, 0.1, len(half) - 1)
    assert len(cut) < len(half) < len(whole)
    images: list[Any] = [Image.open(io.BytesIO(content)) for content in (whole, half, cut)]
    assert [(image.size, image.n_frames) for image in images] == [((128, 128), 12), ((64, 64), 12), ((64, 64), 6)]
    assert [image.info["duration"] * image.n_frames for image in images] == [1200] * 3


def test_pictures_of_a_run_that_diverged_have_a_red_frame(tmp_path: Path) -> None:
    its = film(tasks=1, frames=3, windows=1, side=16)
    for name, diverged in (("well", False), ("broken", True)):
        write_film(tmp_path / name / "film.npz", its._replace(diverged=diverged))
        write_pictures([tmp_path / name / "film.npz"], tmp_path / "pictures")
    assert read_film(tmp_path / "broken" / "film.npz").diverged
    for kind in ("episode", "open_loop"):
        well, broken = (
            read_gif((tmp_path / "pictures" / f"{name}-{kind}.gif").read_bytes())[0] for name in ("well", "broken")
        )
        assert broken.shape[0] == well.shape[0] + 2 * FRAME_WIDTH
        corner = broken[:FRAME_WIDTH].reshape(-1, 3).astype(int)
        assert np.abs(corner - DIVERGED).max() < 40, "the palette has its colour"


def test_a_missing_or_torn_film_is_named(tmp_path: Path) -> None:
    (tmp_path / "film.npz").write_bytes(b"torn")
    for path in (tmp_path / "film.npz", tmp_path / "none" / "film.npz"):
        with pytest.raises(MtreproError, match="no film that can be read"):
            write_pictures([path], tmp_path)
    with pytest.raises(MtreproError, match="--name a: names one film, and there are 2"):
        write_pictures([tmp_path / "film.npz"] * 2, tmp_path, "a")
