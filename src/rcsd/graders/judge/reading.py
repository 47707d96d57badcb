"""What a judge's reply says: a verdict, or why it is none. Nothing is guessed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd.graders.judge.chat import ChatReply

MAX_REPLY_CHARACTERS = 50_000
"""Longer replies are not looked through."""

_MET = {"true": True, "yes": True, "met": True, "false": False, "no": False, "not met": False}
_MET |= {"unmet": False}
_THOUGHT_BEGINS, _THOUGHT_ENDS = (
    re.compile(r"(?i)<think(?:ing)?>"),
    re.compile("(?i)</think(?:ing)?>"),
)
_FENCE = re.compile(r"^\s*```\w*|```\s*$")
_BRACKET = re.compile(r"[{\[]")
_BEGUN = re.compile(r"""\{\s*["']|\[\s*\{""")
_GIVEN = re.compile(r"""\b(?:met|score)\b["']?\s*:\s*([^,}\]]*)""")
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,9})?")


class _UnclearError(Exception):
    """Which object is the verdict cannot be told; says why."""


@dataclass(frozen=True)
class Finding:
    """What a reply says of one criterion, or of the whole.

    Args:
        value: Met or not, or a score; None: it does not say.
        reason: Why it does not say, its kind before any colon; else empty.
    """

    value: bool | float | None
    reason: str = ""


def verdicts(reply: ChatReply, numbers: Sequence[int]) -> dict[int, Finding]:
    """A finding for each of the criteria that were asked for.

    A reply that speaks of another criterion is matched to none: its count may be off by one. One
    that speaks of a single criterion without naming it is taken where one was asked for.
    """
    if problem := _unusable(reply):
        return dict.fromkeys(numbers, Finding(None, problem))
    try:
        rows = [row for row in _objects(reply.text) if "met" in row]
    except _UnclearError as problem:
        return dict.fromkeys(numbers, Finding(None, str(problem)))
    if not rows:
        return dict.fromkeys(numbers, Finding(None, f"no verdict: {_quoted(reply.text)}"))
    if len(numbers) == 1 and len(rows) == 1 and "criterion" not in rows[0]:
        return {numbers[0]: _verdict(rows[0])}
    named = [(_number(row.get("criterion")), row) for row in rows]
    strange = [row.get("criterion") for number, row in named if number not in numbers]
    if strange:
        return dict.fromkeys(numbers, Finding(None, f"another criterion: {_quoted(strange[0])}"))
    return {number: _one([row for named_, row in named if named_ == number]) for number in numbers}


def score(reply: ChatReply, lowest: int, highest: int) -> Finding:
    """The score of a reply, from 0 for the lowest to 1 for the highest."""
    if problem := _unusable(reply):
        return Finding(None, problem)
    try:
        given = [row["score"] for row in _objects(reply.text) if "score" in row]
    except _UnclearError as problem:
        return Finding(None, str(problem))
    if len(given) != 1:
        what = "several scores" if given else f"no score: {_quoted(reply.text)}"
        return Finding(None, what)
    value = given[0]
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Finding(None, f"unclear score: {_quoted(value)}")
    if not lowest <= value <= highest:
        return Finding(None, f"unclear score: {_quoted(value)} is not {lowest} to {highest}")
    return Finding((value - lowest) / (highest - lowest))


def _unusable(reply: ChatReply) -> str:
    match reply.finish:
        case "length":
            return "cut off"
        case "refused":
            return "refused" + (f": {_quoted(reply.text)}" if reply.text.strip() else "")
        case "too long" | "garbage":
            return reply.finish
        case _ if not reply.text.strip():
            return "empty"
        case _ if len(reply.text) > MAX_REPLY_CHARACTERS:
            return "no verdict: an endless reply"
    return ""


def _one(rows: Sequence[Mapping[str, Any]]) -> Finding:
    if len(rows) != 1:
        return Finding(None, "several verdicts" if rows else "no verdict: left out")
    return _verdict(rows[0])


def _verdict(row: Mapping[str, Any]) -> Finding:
    met = row["met"]
    if isinstance(met, str):
        met = _MET.get(met.strip().casefold(), met)
    return Finding(met) if isinstance(met, bool) else Finding(None, f"unclear: {_quoted(met)}")


def _number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def _objects(text: str) -> list[Mapping[str, Any]]:
    """Objects with a verdict or a score, thinking and the code fence left out.

    A reply may quote what an answer says of itself, so an object counts only where nothing follows
    and it stands in no broken one. JSON that is not quite right is mended only where there is no
    other.

    Raises:
        _UnclearError: If an object may be a quotation, or gives a key twice.
    """
    text = _THOUGHT_ENDS.split(text)[-1]
    if _THOUGHT_BEGINS.search(text):
        return []
    text = _FENCE.sub("", text).strip()
    found: list[Mapping[str, Any]] = []
    end, is_broken = 0, False
    for start, value, position in _json_values(text):
        if value is None:
            is_broken |= _BEGUN.match(text, start) is not None
        elif rows := list(_rows(value)):
            found, end = found + rows, position
            is_broken |= text.count("{", 0, start) > text.count("}", 0, start)
    if found and is_broken:
        raise _UnclearError(f"within broken JSON: {_quoted(text)}")
    if found and end < len(text):
        raise _UnclearError(f"words after it: {_quoted(text[end:])}")
    return found or _mended(text)


def _json_values(text: str) -> Iterator[tuple[int, Any, int]]:
    """Beginning, value and end of all JSON in a text; None where a bracket begins no JSON."""
    decoder, position = json.JSONDecoder(object_pairs_hook=_once), 0
    while (found := _BRACKET.search(text, position)) is not None:
        start = found.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, position = None, start + 1
        yield start, value, position


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _UnclearError("a key twice")
    return row


def _mended(text: str) -> list[Mapping[str, Any]]:
    """Objects of a reply that is one broken value, where it plainly has what mending finds in it.

    Mending makes ``true or false`` true: each verdict has to stand there, whole, and in order, and
    nothing but brackets may follow the last.
    """
    import json_repair  # noqa: PLC0415 (rarely needed)

    given = list(_GIVEN.finditer(text))
    if not given or text[0] not in "{[" or text[given[-1].end() :].strip(" \n\t,}]"):
        return []
    try:
        rows = list(_rows(json_repair.loads(text)))
    except (ValueError, RecursionError):
        return []
    read = [row["met"] if "met" in row else row["score"] for row in rows]
    plain = [_plain(each[1].strip()) for each in given]
    is_plain = None not in plain and [(type(each), each) for each in read] == [
        (type(each), each) for each in plain
    ]
    return rows if is_plain else []


def _plain(token: str) -> bool | int | float | None:
    if token in ("true", "True", "false", "False"):
        return token in ("true", "True")
    if not _NUMBER.fullmatch(token):
        return None
    return float(token) if "." in token else int(token)


def _rows(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if depth > 3:
        return
    if isinstance(value, Mapping):
        if "met" in value or "score" in value:
            yield value
        else:
            for part in value.values():
                yield from _rows(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _rows(part, depth + 1)
