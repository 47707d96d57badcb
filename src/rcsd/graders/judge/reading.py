"""Verdicts and scores read from a judge's replies. Nothing is guessed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd.data.thinking import after_thinking
from rcsd.graders.judge.prompt import HIGHEST, LOWEST
from rcsd.graders.judge.server import ChatReply

MAX_REPLY_CHARACTERS = 50_000
"""Longer replies are not parsed."""

_MET = {"true": True, "yes": True, "met": True}
_MET |= {"false": False, "no": False, "not met": False, "unmet": False}
_FENCE = re.compile(r"^\s*```\w*|```\s*$")
_BRACKET = re.compile(r"[{\[]")
_BETWEEN = re.compile(r"[\s,]*")
_QUOTED_KEY = re.compile(r"""["'](?:met|score)["']\s*:""")
_ESCAPE = re.compile(r"""\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?""")
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,9})?")


class _UnclearError(Exception):
    """The reply does not say which object is the verdict; the message says why."""


@dataclass(frozen=True)
class Finding:
    """Verdict or score in a reply, and the judge's explanation of it.

    A value of None is missing, for a reason with its kind before a colon.
    """

    value: bool | float | None
    reason: str = ""
    explanation: str = ""


def read_verdicts(reply: ChatReply, numbers: Sequence[int]) -> dict[int, Finding]:
    """A finding for each criterion.

    A reply with another criterion's number is matched to none: its count may be off by one. A
    single verdict without a number is accepted where there is one criterion.
    """
    try:
        rows = _rows_with("met", reply)
        if len(numbers) == len(rows) == 1 and "criterion" not in rows[0]:
            return {numbers[0]: _verdict(rows[0])}
        by_number: dict[int, list[Mapping[str, Any]]] = {number: [] for number in numbers}
        for row in rows:
            if (number := _integer(row.get("criterion"))) not in by_number:
                raise _UnclearError(f"another criterion: {_quoted(row.get('criterion'))}")
            by_number[number].append(row)
    except _UnclearError as problem:
        return dict.fromkeys(numbers, Finding(None, str(problem)))
    none, several = Finding(None, "no verdict: left out"), Finding(None, "several verdicts")
    return {
        number: _verdict(verdicts[0]) if len(verdicts) == 1 else several if verdicts else none
        for number, verdicts in by_number.items()
    }


def read_score(reply: ChatReply) -> Finding:
    """The score of a reply, from 0 for the lowest to 1 for the highest."""
    try:
        rows = _rows_with("score", reply)
    except _UnclearError as problem:
        return Finding(None, str(problem))
    value = rows[0]["score"]
    if len(rows) > 1:
        return Finding(None, "several scores")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Finding(None, f"unclear score: {_quoted(value)}")
    if not LOWEST <= value <= HIGHEST:
        return Finding(None, f"unclear score: {_quoted(value)} is not {LOWEST} to {HIGHEST}")
    return Finding((value - LOWEST) / (HIGHEST - LOWEST), "", _explanation(rows[0]))


def _rows_with(key: str, reply: ChatReply) -> list[Mapping[str, Any]]:
    """Objects of a reply that have a key, at least one.

    Raises _UnclearError if there is none, or it is not clear which counts.
    """
    match reply.finish:
        case "length":
            raise _UnclearError("cut off")
        case "refused":
            raise _UnclearError("refused" + (f": {_quoted(reply.text)}" if reply.text else ""))
        case "too long" | "garbage" | "failed":
            raise _UnclearError(f"{reply.finish}: {reply.text}".removesuffix(": "))
        case _ if not reply.text.strip():
            raise _UnclearError("empty")
    none = "no score" if key == "score" else "no verdict"
    if len(reply.text) > MAX_REPLY_CHARACTERS:
        raise _UnclearError(f"{none}: an endless reply")
    rows = [row for row in _objects(reply.text) if key in row]
    if not rows:
        raise _UnclearError(f"{none}: {_quoted(reply.text)}")
    return rows


def _verdict(row: Mapping[str, Any]) -> Finding:
    met, explanation = row["met"], _explanation(row)
    if isinstance(met, str):
        met = _MET.get(met.strip().casefold(), met)
    if isinstance(met, bool):
        return Finding(met, "", explanation)
    return Finding(None, f"unclear: {_quoted(met)}", explanation)


def _explanation(row: Mapping[str, Any]) -> str:
    text = row.get("explanation")
    return text.strip() if isinstance(text, str) else ""


def _integer(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _quoted(value: object) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def _objects(text: str) -> list[Mapping[str, Any]]:
    """Objects with a verdict or a score at the end of a reply.

    A reply may quote what an answer says about itself. So JSON counts only at the very end, outside
    thinking, and neither after another verdict nor inside of broken JSON.

    Raises:
        _UnclearError: If an object may be a quotation, or has a key twice.
    """
    text = _FENCE.sub("", after_thinking(text) or "").strip()
    # An explanation may hold LaTeX, whose backslashes are no escapes of JSON.
    text = _ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", text)
    for bracket in _BRACKET.finditer(text):
        before = text[: bracket.start()]
        if (values := _json_to_end(text, bracket.start())) is None:
            continue
        rows = list(_rows(values))
        if rows and before.count("{") > before.count("}"):
            raise _UnclearError(f"within broken JSON: {_quoted(text)}")
        if rows and _QUOTED_KEY.search(before):
            raise _UnclearError("several verdicts")
        return rows
    return []


def _json_to_end(text: str, start: int) -> list[Any] | None:
    """JSON values from a place to the end of a text; None where anything else stands there."""
    decoder, values = json.JSONDecoder(object_pairs_hook=_unique, strict=False), list[Any]()
    while start < len(text):
        try:
            value, start = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        between = _BETWEEN.match(text, start)
        start = start if between is None else between.end()
        values.append(value)
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _UnclearError("a key twice")
    return row


def _rows(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Objects with a verdict or a score in a JSON value."""
    if isinstance(value, Mapping) and ("met" in value or "score" in value):
        yield value
    elif isinstance(value, Mapping | list) and depth <= 3:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _rows(inner, depth + 1)
