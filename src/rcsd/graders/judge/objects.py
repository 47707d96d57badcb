"""Objects with a verdict or a score in a judge's reply, whose JSON may be broken.

No library of JSON repair: they close, quote and complete what is not there, and so invent verdicts.
A broken object is read by its keys, and only if it holds exactly one verdict, whose value is whole.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_BRACKETS = 1_000
"""Brackets of a reply at which JSON may begin."""

_KEY = r"\\?[\"'](?:met|score)\\?[\"']\s*:|(?<=[{,\n ])(?<![\w.] )(?:met|score)\s*:"
_VERDICT_KEY = re.compile(_KEY)
_CRITERION = re.compile(r"\bcriterion\\?[\"']?\s*:\s*\\?[\"']?(\d{1,4})\b")
_EXPLANATION = re.compile(
    r"\bexplanation\\?[\"']?\s*:(.*?)(?:,\s*\\?[\"']?(?:criterion|met|score)\b.*|\}\s*|)$",
    re.DOTALL,
)
_COMMENT = r"(?://[^\n]*|/\*.*?\*/|\#[^\n]*)"
_SPACE = rf"(?:\s|{_COMMENT})*"
_FIRST_KEY = re.compile(
    rf"\{{{_SPACE}(?:\\?[\"'][^\"'\n]{{1,40}}[\"']|criterion|explanation|met|score)\s*:", re.S
)
_WRAPPER = re.compile(rf"\{{{_SPACE}(?:\\?[\"']?\w+\\?[\"']?\s*:{_SPACE})?[\[{{]", re.S)
_BEFORE_KEY = re.compile(rf"(?:[{{,]|[\"'\d\]][^\S\n]*\n){_SPACE}$", re.S)
_VALUE = re.compile(
    r"\s*(?:\\?\"(?P<double>[^\"\\\n{}]{0,40})\\?\"|'(?P<single>[^'\\\n{}]{0,40})'"
    r"|(?P<bare>[^\s,}\]\"'][^,}\]\n\"'/#]{0,40}?))"
    r"(?P<end>\s*(?:[,}\]]|//|/\*|\#|\n\s*[\"'}]|```|$))"
)
NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,9})?")
"""Number that may be a score."""
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
_CHOICE = re.compile(r"(?i)^[<(]?\s*true\s*(?:or|/|\||,)\s*false\b")
STRAIGHT = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")
"""Curved quotation marks and straight ones."""
_ESCAPE = re.compile(r"""\\(["\\/nrt]|u[0-9a-fA-F]{4})?""")


class UnclearError(Exception):
    """The reply does not say which object is the verdict; the message says why."""


@dataclass(frozen=True)
class ReplyObject:
    """A JSON object of a reply, and its place in the text."""

    row: Mapping[str, Any]
    start: int
    end: int


def plain_reply(text: str) -> str:
    """A reply whose backslashes are those of JSON; a reply that is one JSON string is unpacked.

    An explanation may hold LaTeX, whose backslashes are no escapes of JSON.
    """
    if text.startswith('"'):
        try:
            unpacked = json.loads(text)
        except (ValueError, RecursionError):
            unpacked = text
        text = unpacked if isinstance(unpacked, str) else text
    return _ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", text)


def find_objects(text: str) -> list[ReplyObject]:
    """Objects with a verdict or a score, in order.

    Raises:
        UnclearError: If broken JSON holds several, or has one within another object, or a key is
            there twice.
    """
    decoder, objects, place = json.JSONDecoder(object_pairs_hook=_unique, strict=False), [], 0
    straight = text.translate(STRAIGHT)
    last = max((match.start() for match in _VERDICT_KEY.finditer(straight)), default=-1)
    for _ in range(MAX_BRACKETS):
        bracket = re.compile(r"[{\[]").search(text, place, last + 1)
        if bracket is None:
            return objects
        start = bracket.start()
        try:
            value, place = decoder.raw_decode(text, start)
            objects += [ReplyObject(row, start, place) for row in _rows(value)]
        except (ValueError, RecursionError):
            broken = _broken_object(straight, start)
            objects += [] if broken is None else [broken]
            place = start + 1 if broken is None else broken.end
    raise UnclearError("no verdict: too many brackets")


def _broken_object(text: str, start: int) -> ReplyObject | None:
    """The object that begins at a brace, by its keys; None if there is none, or none whole.

    Quotation marks in a text may be unescaped, so it cannot be told where a text ends: a second
    verdict anywhere in the object may be a quotation, or the first may.
    """
    if not _FIRST_KEY.match(text, start) or _WRAPPER.match(text, start):
        return None
    end = _closing_brace(text, start)
    if not (keys := list(_VERDICT_KEY.finditer(text, start, end))):
        return None
    if len(keys) > 1:
        raise UnclearError("several verdicts")
    [key], inner = keys, text[start:end]
    before = text[start : key.start()]
    if before.count("{") - before.count("}") != 1:
        raise UnclearError("within broken JSON")
    value = _VALUE.match(text, key.end(), end)
    if value is None or not _BEFORE_KEY.search(before) or _CHOICE.match(text[key.end() :].strip()):
        return None
    bare, is_last = value["bare"], not value["end"].strip()
    if bare is not None and is_last and bare.casefold() not in ("true", "false"):
        return None  # a number or a word may have been cut off
    row: dict[str, Any] = {"met" if "met" in key[0] else "score": _plain(value)}
    if len(numbers := _CRITERION.findall(inner)) > 1:
        raise UnclearError("several verdicts")
    if numbers:
        row["criterion"] = int(numbers[0])
    if explanation := _EXPLANATION.search(inner):
        row["explanation"] = explanation[1].strip("\"' \n,")
    return ReplyObject(row, start, end)


def _closing_brace(text: str, start: int) -> int:
    """Place after the brace that closes one, whatever is quoted; the end of the text without."""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def _plain(value: re.Match[str]) -> Any:
    if (bare := value["bare"]) is None:
        return value["double"] or value["single"] or ""
    bare = bare.strip()
    if NUMBER.fullmatch(bare):
        return float(bare) if "." in bare else int(bare)
    return _LITERALS.get(bare.casefold(), bare)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise UnclearError("a key twice")
    return row


def _rows(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Objects with a verdict or a score in a JSON value."""
    if isinstance(value, Mapping) and ("met" in value or "score" in value):
        yield value
    elif isinstance(value, Mapping | list) and depth <= 3:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _rows(inner, depth + 1)
