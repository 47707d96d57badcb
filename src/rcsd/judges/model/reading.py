"""What a judge's reply says: a verdict, or why it is none. Nothing is guessed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd.judges.model.chat import ChatReply

MAX_REPLY_CHARACTERS = 50_000
"""Longer replies are not looked through."""

_MET = {"true": True, "yes": True, "met": True, "false": False, "no": False, "not met": False}
_MET |= {"unmet": False}
_THOUGHT_BEGINS, _THOUGHT_ENDS = (
    re.compile(r"(?i)<think(?:ing)?>"),
    re.compile("(?i)</think(?:ing)?>"),
)
_BRACKET = re.compile(r"[{\[]")


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
    rows = [row for row in _objects(reply.text) if "met" in row]
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
    given = [row["score"] for row in _objects(reply.text) if "score" in row]
    if len(given) != 1:
        what = "several scores" if given else f"no score: {_quoted(reply.text)}"
        return Finding(None, what)
    value = given[0]
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d{1,9})?", value.strip()):
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
    """Objects with a verdict or a score, from JSON anywhere in a reply, thinking left out.

    JSON that is not quite right is mended only where there is no other.
    """
    text = _THOUGHT_BEGINS.split(_THOUGHT_ENDS.split(text)[-1])[0]
    values = list(_json_values(text))
    if not (found := [row for value in values for row in _rows(value)]):
        found = list(_rows(_mended(text)))
    return found


def _json_values(text: str) -> Iterator[Any]:
    decoder, position = json.JSONDecoder(), 0
    while (start := _next_bracket(text, position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
            yield value
        except (ValueError, RecursionError):
            position = start + 1


def _next_bracket(text: str, position: int) -> int:
    found = _BRACKET.search(text, position)
    return found.start() if found else -1


def _mended(text: str) -> Any:
    import json_repair  # noqa: PLC0415 (rarely needed)

    start, end = _next_bracket(text, 0), max(text.rfind("}"), text.rfind("]"))
    if start < 0 or end < start:
        return None
    try:
        return json_repair.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None


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
