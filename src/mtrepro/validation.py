"""Reading YAML and saying what is wrong with it: the file, the key, the reason, the nearest valid key."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mtrepro.errors import SpecificationError

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecificationError: there is no such file, it is not YAML, not a mapping, or gives a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        near = nearest(path.name, (other.name for other in path.parent.glob("*.yaml")))
        raise SpecificationError(f"{path}: there is no such file{near}") from None
    except OSError as error:
        raise SpecificationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecificationError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecificationError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise SpecificationError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def validate(model: type[Model], content: Mapping[str, Any], where: str, see: str = "") -> Model:
    """`content` as a `model`, or every mistake in it at once.

    Args:
        where: the file, and the key under which `content` stands in it, as `file` or `file: a.b`.
        see: a page that tells more.

    Raises:
        SpecificationError: one paragraph for each mistake.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        parts = [_explain(model, mistake, where) for mistake in error.errors()]
        raise SpecificationError("\n".join(parts) + (f"\n  see {see}" if see else "")) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """' (nearest: x)' for the known word most like `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (nearest: {found[0]})" if found else ""


def unknown(where: str, kind: str, word: str, known: Iterable[str], see: str = "") -> SpecificationError:
    """The error for a word that is none of `known`."""
    words = list(known)
    tail = f"\n  see {see}" if see else ""
    return SpecificationError(
        f"{where}: unknown {kind} {word!r}\n  known: {', '.join(words) or 'none'}{nearest(word, words)}{tail}"
    )


def join(where: str, *keys: str | int) -> str:
    """`where` with more keys behind it: 'file' -> 'file: a.b', 'file: a' -> 'file: a.b'."""
    path = ".".join(str(key) for key in keys)
    if not path:
        return where
    return f"{where}.{path}" if ": " in where else f"{where}: {path}"


def _explain(model: type[BaseModel], mistake: Any, where: str) -> str:
    location = [part for part in mistake["loc"] if not _is_type_tag(part)]
    place = join(where, *location)
    if mistake["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return str(unknown(place, "key", str(location[-1]), known))
    if mistake["type"] == "missing":
        return f"{place}: missing"
    if mistake["type"] == "literal_error":
        choices = [choice.strip(" '") for choice in mistake["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return str(unknown(place, str(location[-1]) if location else "value", str(mistake["input"]), choices))
    reason = _PLAIN.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
    reason = reason[:1].lower() + reason[1:]
    found = "" if mistake["type"] == "value_error" else f", found {mistake['input']!r}"
    return f"{place}: {reason}{found}"


_PLAIN = {"model_type": "expected a mapping", "dict_type": "expected a mapping", "list_type": "expected a list"}


def _is_type_tag(part: str | int) -> bool:
    # pydantic names the tried member of a union in the location: no key of the user's file looks like these
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float", "bool", "none"})


def _fields_at(model: Any, location: Iterable[str | int]) -> list[str]:
    """The keys that are valid at `location` inside `model`."""
    for part in location:
        for candidate in _members(model):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel) and part in candidate.model_fields:
                model = candidate.model_fields[str(part)].annotation
                break
            if typing.get_origin(candidate) in (dict, list, tuple):
                model = typing.get_args(candidate)[-1]
                break
    for candidate in _members(model):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return list(candidate.model_fields)
    return []


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)
