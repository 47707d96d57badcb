"""The base of all sections, and how a file becomes one of them."""

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rcsd.errors import ConfigError


class Section(BaseModel):
    """A part of the configuration: frozen, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Root = TypeVar("Root", bound=Section)


def load(root: type[Root], path: str | Path, overrides: Sequence[str]) -> Root:
    """The section ``root`` from a YAML file and ``key=value`` overrides such as ``optim.lr=1e-5``.

    Raises:
        ConfigError: Naming the key that is wrong and, where it is misspelt, its nearest neighbour.
    """
    return parse(root, read_tree(path, overrides), str(path))


def read_tree(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values from a YAML file and overrides.

    Raises:
        ConfigError: If the file cannot be read, or an override is malformed.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as 'model:' and 'data:'")
    override(tree, overrides)
    return tree


def override(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set ``key=value`` overrides in a tree of plain values.

    Raises:
        ConfigError: If one is malformed.
    """
    for text in overrides:
        _override(tree, text)


def parse(root: type[Root], tree: Mapping[str, Any], source: str) -> Root:
    """The section ``root`` from a tree of plain values.

    Raises:
        ConfigError: As `load`.
    """
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        lines = [_explained(root, detail) for detail in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, such as optim.lr=1e-5")
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {error}") from error
    # YAML 1.1 reads 1e-5 as a text, and so would a user's file: pydantic turns both into numbers.
    tree[last] = parsed


def _explained(root: type[Section], detail: Any) -> str:
    keys, section = _place(root, detail["loc"])
    name = ".".join(keys)
    if detail["type"] != "extra_forbidden" or section is None:
        if not name:  # of the whole tree, which nobody wants to see again
            return detail["msg"]
        given = "" if detail["type"] == "missing" else f", got {detail['input']!r}"
        return f"{name}: {detail['msg']}{given}{_nearest_tag(detail)}"
    close = difflib.get_close_matches(keys[-1], section.model_fields, n=1, cutoff=0.0)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{name}: unknown key{hint}"


def _nearest_tag(detail: Any) -> str:
    """A hint for a union's type that there is not."""
    if detail["type"] != "union_tag_invalid":
        return ""
    expected = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
    close = difflib.get_close_matches(detail["ctx"]["tag"], expected, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _place(root: type[Section], loc: Sequence[str | int]) -> tuple[list[str], type[Section] | None]:
    """The keys that a user wrote, and the section where they end.

    Pydantic's location also holds the tag of each union that it passes, and the branch that it took
    of a plain value; no user wrote those as keys.
    """
    keys: list[str] = []
    section: type[Section] | None = root
    steps = iter(loc)
    for step in steps:
        if section is None and isinstance(step, str):
            continue
        keys.append(str(step))
        field = section.model_fields.get(str(step)) if section is not None else None
        if field is None:
            continue
        options = _sections(field.annotation)
        if get_origin(field.annotation) in (dict, list):
            keys += [str(inner) for inner in itertools.islice(steps, 1)]
        if len(options) > 1:
            tag = next(steps, None)
            options = [option for option in options if tag in _tags(option)]
        section = options[0] if options else None
    return keys, section


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections(part)]


def _tags(section: type[Section]) -> tuple[str, ...]:
    return getattr(section.model_fields["type"].annotation, "__args__", ())
