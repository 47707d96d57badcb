"""The base of all sections, and how a file becomes one of them."""

import datetime
import difflib
import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rcsd.errors import ConfigError
from rcsd.redact import redacted

SECRET_NAME = re.compile(r"(?i)(?:key|token|secret|password|credentials?|authorization|cookie)$")
"""Names of settings that hold a secret, by the last part: max_thinking_tokens is a number."""
_PARAMETER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VARIABLE = re.compile(r"(?ai)\$(?:\$|([_a-z]\w*)|\{([_a-z]\w*)\})")  # of string.Template

MAX_NODES = 100_000
"""Values of a YAML file, those that aliases repeat counted each time."""

MAX_SHOWN = 300
"""Characters of a wrong value that an error shows."""

RENAMED: Mapping[str, str] = {"tokens_per_part": "max_tokens_per_microbatch"}
"""Keys of earlier versions, and the keys that replace them; CHANGELOG.md has the same table."""


class Section(BaseModel):
    """A part of the configuration: frozen, without unknown keys, and without secrets.

    A configuration is written into records, cards and trackers, so a secret in it is refused here.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @field_validator("*")
    @classmethod
    def _can_be_written_down(cls, value: Any) -> Any:
        _refuse_unwritable(value)
        return value


class ServerSection(Section):
    """A server over HTTP, and how long it is waited for."""

    url: str
    """Address of the server."""
    api_key_variable: str | None = None
    """Environment variable with the key for ``Authorization: Bearer``, which is written nowhere;
    None sends none."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers of each request; ``$NAME`` in a value is that environment variable."""
    query: dict[str, str] = Field(default_factory=dict)
    """Parameters that the address of each request ends in, such as ``{api-version: 2024-10-21}``;
    ``$NAME`` as in ``headers``."""
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest wait for a connection, in seconds."""
    read_timeout_seconds: float = Field(default=600.0, gt=0)
    """Longest silence during a request, in seconds: more than the longest completion takes."""
    patience_seconds: float = Field(default=600.0, gt=0)
    """Longest time of one request in seconds, all its attempts and waits included: more than the
    longest completion takes."""

    @field_validator("headers", "query")
    @classmethod
    def _hold_no_secrets(cls, values: dict[str, str]) -> dict[str, str]:
        for name, value in values.items():
            if not _PARAMETER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header or a parameter")
            if "$" in _VARIABLE.sub("", value):
                raise ValueError(f"{name}: a $ begins the name of a variable; $$ is a $")
            if SECRET_NAME.search(name) and not any(map("".join, _VARIABLE.findall(value))):
                raise ValueError(
                    f"{name}: stands in records; keep it in an environment variable, and write "
                    "$NAME here"
                )
        return values


def checked_address(url: str, example: str) -> str:
    """An address of a server, without a slash at its end.

    Raises ValueError if it is none, or holds a user or a query, where secrets stand.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected an address such as {example}")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected an address without a user or a query")
    return url.rstrip("/")


def _refuse_unwritable(value: object) -> None:
    """Refuse what a record should not hold, or cannot; sections look after their own values."""
    match value:
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("holds a key that is no text")
            for part in (*value, *value.values()):
                _refuse_unwritable(part)
        case list() | tuple():
            for part in value:
                _refuse_unwritable(part)
        case str() | Path():
            _refuse_text(str(value))
        case float() if not math.isfinite(value):
            raise ValueError("holds what is no finite number")
        case int() if abs(value) >= 2**63:
            raise ValueError("holds a whole number beyond 64 bits")
        case None | float() | int() | Section() | datetime.date():
            pass
        case _:
            kind = type(value).__name__
            raise ValueError(f"holds a {kind}; expected texts, numbers, lists, keys")


def _refuse_text(text: str) -> None:
    if redacted(text) != text:
        raise ValueError(
            "holds a secret or what looks like one, and would be written into records; give it by "
            "the environment, such as HF_TOKEN"
        )
    if re.search("[\0\ud800-\udfff]", text):
        raise ValueError("holds a NUL or half of a surrogate pair, which no file can hold")


Root = TypeVar("Root", bound=Section)


def load(root: type[Root], path: str | Path, overrides: Sequence[str]) -> Root:
    """The section ``root`` from a YAML file and ``key=value`` overrides; ConfigError as `parse`."""
    return parse(root, read_tree(path, overrides), str(path))


def read_tree(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values from a YAML file and overrides.

    Raises ConfigError if the file cannot be read, or an override is malformed.
    """
    path = Path(path)
    try:
        tree = _yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path}: expected sections such as 'model:' and 'data:'")
    override(tree, overrides)
    return tree


def override(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set ``key=value`` overrides in a tree of plain values; ConfigError if one is malformed."""
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {text!r}: expected key=value, such as optim.lr=1e-5")
        section, (*parents, last) = tree, key.split(".")
        for parent in parents:
            if section.get(parent) is None:  # left out, such as `engine: null`
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                raise ConfigError(f"override {text!r}: {parent} is a value, not a section")
        try:
            # YAML 1.1 reads 1e-5 as a text, as in a user's file: pydantic makes it a number.
            section[last] = _yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {text!r}: {error}") from error


def parse(root: type[Root], tree: object, source: str) -> Root:
    """The section ``root`` from a tree of plain values, whatever they are.

    Raises ConfigError naming the key that is wrong and, where it is misspelt, its nearest
    neighbour.
    """
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        lines = [_explained(root, tree, detail) for detail in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


class _StrictLoader(yaml.SafeLoader):
    """YAML without code, without repeated keys, and without aliases that grow beyond bounds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}
        self._num_nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A value, or the one that an alias stands for, which counts anew."""
        is_alias, before = self.check_event(yaml.AliasEvent), self._num_nodes
        node: Any = super().compose_node(parent, index)
        if is_alias and node not in self._sizes:
            raise yaml.YAMLError("an alias stands within what it stands for")
        self._num_nodes += self._sizes[node] if is_alias else 1
        self._sizes.setdefault(node, self._num_nodes - before)
        if self._num_nodes > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES} values, repeated ones included")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping each of whose keys stands there once; those of ``<<`` are not its own."""
        node, names = super().compose_mapping_node(anchor), set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in names:
                fault = f"the key {key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, fault, key.start_mark)
            names.add(key.value)
        return node


def _yaml(text: str) -> Any:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:  # a tag on a value that it cannot have raises anything
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def _explained(root: type[Section], tree: Any, detail: Any) -> str:
    """One of pydantic's errors, by the keys that a user wrote."""
    *_, last = loc = detail["loc"] or ("",)
    keys = []
    for step in loc:  # without the tags of unions, and the branches of a plain value's
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(str(step))
    name = ".".join([*keys, last] if detail["type"] == "missing" else keys)
    is_extra = detail["type"] == "extra_forbidden"
    if is_extra and last in RENAMED:
        return f"{name}: is now called '{RENAMED[last]}'"
    # A key of another alternative is no other library's.
    if detail["type"] == "union_tag_not_found" or (is_extra and not has_key(root, keys)):
        from rcsd.config.other_libraries import hints  # noqa: PLC0415 (for an error alone)

        texts = hints(name, detail["input"], functools.partial(_key_here, root, keys))
        if texts:
            return "; ".join(texts)
    if is_extra:
        return f"{name}: unknown key" + nearest(last, _fields(root, loc), 0.0)
    if not name:  # of the whole tree, which nobody wants to see again
        return detail["msg"]
    got = "" if detail["type"] == "missing" else f", got {_shortened(detail['input'])}"
    hint = ""
    if detail["type"] == "union_tag_invalid":
        expected = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
        hint = nearest(detail["ctx"]["tag"], expected)
    return f"{name}: {detail['msg']}{got}{hint}"


def nearest(word: str, words: Sequence[str], cutoff: float = 0.6) -> str:
    """Hint at the word that was meant, for the end of an error; empty: none is near."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=cutoff)
    return f"; did you mean '{close[0]}'?" if close else ""


def _key_here(root: type[Section], keys: Sequence[str], ours: Sequence[str]) -> str:
    """One of our keys as the section that holds an unknown one spells it, or a section above."""
    for end in range(len(keys) - 1, -1, -1):
        for written in (key for name in ours for key in (name, name.rpartition(".")[2])):
            path = [*keys[:end], *written.split(".")]
            if has_key(root, path):
                return ".".join(path)
    return ours[0]


def has_key(root: type[Section], path: Sequence[str]) -> bool:
    """True if a section has a key, whichever alternatives are taken on the way."""
    sections = [root]
    for step in path:
        fields = [of.model_fields[step] for of in sections if step in of.model_fields]
        if not fields:
            return False
        sections = [inner for field in fields for inner in _sections(field.annotation)]
    return True


def _shortened(value: object) -> str:
    """`repr`, shortened; of a number of too many digits its type."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__} of too many digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _fields(root: type[Section], loc: Sequence[str | int]) -> list[str]:
    """Fields of the section that holds the last step of a location; other steps may be tags."""
    sections = [root]
    for step in loc[:-1]:
        fields = [of.model_fields[step] for of in sections if step in of.model_fields]
        inner = [section for field in fields for section in _sections(field.annotation)]
        sections = inner or [of for of in sections if step in _tags(of)] or sections
    return [name for section in sections for name in section.model_fields]


def _sections(annotation: Any) -> list[type[Section]]:
    # Not ``type``: in Python 3.10 dict[str, X] is an instance of it.
    if isinstance(annotation, type(Section)) and issubclass(annotation, Section):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections(part)]


def _tags(section: type[Section]) -> tuple[str, ...]:
    field = section.model_fields.get("type")
    return () if field is None else getattr(field.annotation, "__args__", ())
