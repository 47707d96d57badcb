"""Verdicts and scores read from a judge's replies. Nothing is guessed.

An object is no verdict if the words beside it contradict it or take it back, if it is quoted, or if
another object differs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rcsd.data.thinking import after_thinking
from rcsd.graders.judge import prose
from rcsd.graders.judge.objects import (
    NUMBER,
    STRAIGHT,
    ReplyObject,
    UnclearError,
    find_objects,
    plain_reply,
)
from rcsd.graders.judge.prompt import CANNOT_TELL, HIGHEST, LOWEST
from rcsd.graders.judge.server import ChatReply

MAX_REPLY_CHARACTERS = 50_000
"""Longer replies are not parsed."""

_MET: dict[str, bool] = {"true": True, "yes": True, "met": True}
_MET |= {"false": False, "no": False, "not met": False, "unmet": False}
_CANNOT_TELL = re.compile(
    r"(?:can ?not|can't|unable to|impossible to) (?:tell|say|determine|decide|judge)"
    r"|cannot be (?:determined|decided)|undetermined|undecided|indeterminate|unknown|null|none"
)
# What is left of the JSON around an object, and marks of a wrapper.
_AROUND = re.compile(r"(?:[\s,\]})]|```\w*|\\\]|\$|</\w+>)*")


@dataclass(frozen=True)
class Finding:
    """Verdict or score in a reply, and the judge's explanation of it.

    A value of None is missing, for a reason with its kind before a colon.
    """

    value: bool | float | None
    reason: str = ""
    explanation: str = ""

    @property
    def is_missing(self) -> bool:
        """True if the reply failed to give what it was asked for."""
        return self.value is None and self.reason != CANNOT_TELL


@dataclass(frozen=True)
class Source:
    """A request's texts, which its reply may quote: the data to be judged, and the whole prompt."""

    data: str = ""
    prompt: str = ""

    def has(self, entry: ReplyObject, text: str) -> bool:
        """True if the object stands in the data, or its explanation in an object of the prompt."""
        explanation = _compact(_explanation(entry.row))
        if _compact(text[entry.start : entry.end]) in _compact(self.data):
            return True
        prompt = _compact(self.prompt) if explanation else ""
        return any(f"explanation:{explanation}{end}" in prompt for end in ",}")


@dataclass(frozen=True)
class _Reading:
    """Objects of a reply that have a key, at least one, and the words around them."""

    text: str
    objects: Sequence[ReplyObject]
    source: Source

    @property
    def before(self) -> str:
        """Words before the last object and between objects."""
        start, parts = 0, []
        for entry in self.objects:
            parts.append(self.text[start : entry.start])
            start = max(start, entry.end)
        return "\n".join(parts)

    @property
    def after(self) -> str:
        """Words after the last object."""
        after = self.text[self.objects[-1].end :]
        return after[_AROUND.match(after).end() :].strip()  # type: ignore[union-attr]

    @property
    def is_on_another(self) -> bool:
        """True if after the last object one begins on a criterion that none before is on."""
        begun = re.match(r"\{\W*criterion\W+(\d{1,4})\b", self.after)
        numbers = {_integer(entry.row.get("criterion")) for entry in self.objects}
        return begun is not None and int(begun[1]) not in numbers

    def require_own(self, entry: ReplyObject) -> None:
        """Raise UnclearError if an object is quoted, or taken back by what follows."""
        quoted = _quoted(self.text[entry.start : entry.end])
        rest = self.text[self.objects[-1].end :]
        if self.source.has(entry, self.text):
            raise UnclearError(f"quoted from the prompt: {quoted}")
        if prose.leads_to_quotation(self.text[: self.objects[0].start]):
            raise UnclearError(f"quoted: {quoted}")
        if prose.is_within_sentence(rest):
            raise UnclearError(f"within a sentence: {quoted}")
        if word := prose.takes_back(self.after):
            raise UnclearError(f"taken back: {word}: {_quoted(self.after)}")

    def require_agreement(self, entry: ReplyObject, value: bool, number: int, is_one: bool) -> None:
        """Raise UnclearError if words that state a verdict on the criterion contradict it."""
        explanation = _explanation(entry.row)
        for text, is_on_it in ((self.before, False), (explanation, False), (self.after, True)):
            # Of several criteria only what names the number is on this one.
            numbers = (number, None) if is_one or text is explanation else (number,)
            stated = [each for each in prose.statements(text, is_on_it) if each.number in numbers]
            if stated and stated[-1].is_met is not value:
                raise UnclearError(f"contradicted: {_quoted(stated[-1].sentence)}")


def read_verdicts(
    reply: ChatReply, numbers: Sequence[int], source: Source | None = None
) -> dict[int, Finding]:
    """A finding for each criterion.

    A reply with another criterion's number is matched to none: its count may be off by one. A
    single verdict without a number is accepted where there is one criterion. Of equal verdicts the
    last counts.
    """
    try:
        reading = _read("met", reply, source or Source())
        by_number: dict[int, list[ReplyObject]] = {number: [] for number in numbers}
        for entry in reading.objects:
            number = _integer(entry.row.get("criterion"))
            if len(numbers) == 1 and "criterion" not in entry.row:
                number = numbers[0]
            if number not in by_number:
                raise UnclearError(f"another criterion: {_quoted(entry.row.get('criterion'))}")
            by_number[number].append(entry)
    except UnclearError as problem:
        return dict.fromkeys(numbers, Finding(None, str(problem)))
    return {number: _finding(reading, number, entry) for number, entry in by_number.items()}


def read_score(reply: ChatReply, source: Source | None = None) -> Finding:
    """The score of a reply, from 0 for the lowest to 1 for the highest."""
    try:
        reading = _read("score", reply, source or Source())
        value = _one([_score(entry.row["score"]) for entry in reading.objects], "scores")
        if value is None:
            return Finding(None, CANNOT_TELL)
        reading.require_own(reading.objects[-1])
        stated = prose.stated_scores(reading.before)[-1:] + prose.stated_scores(reading.after)
        for other in stated:
            if other != value:
                raise UnclearError(f"contradicted: a score of {other:g} beside {value:g}")
    except UnclearError as problem:
        return Finding(None, str(problem))
    explanation = _explanation(reading.objects[-1].row)
    return Finding((value - LOWEST) / (HIGHEST - LOWEST), "", explanation)


def _finding(reading: _Reading, number: int, objects: Sequence[ReplyObject]) -> Finding:
    """The finding of the objects on one criterion."""
    if not objects:
        return Finding(None, "no verdict: left out")
    last = objects[-1]
    explanation = _explanation(last.row)
    try:
        value = _one([_verdict(entry.row["met"]) for entry in objects], "verdicts")
        if value is None:
            return Finding(None, CANNOT_TELL, explanation)
        reading.require_own(last)
        is_one = len({_integer(each.row.get("criterion")) for each in reading.objects}) == 1
        reading.require_agreement(last, value, number, is_one)
    except UnclearError as problem:
        return Finding(None, str(problem), explanation)
    return Finding(value, "", explanation)


def _read(key: Literal["met", "score"], reply: ChatReply, source: Source) -> _Reading:
    """Objects of a reply that have a key.

    Raises UnclearError if there is none, or more might have followed.
    """
    text = reply.text.strip()
    match reply.finish:
        case "refused":
            raise UnclearError("refused" + (f": {_quoted(text)}" if text else ""))
        case "too long" | "garbage" | "failed":
            raise UnclearError(f"{reply.finish}: {text}".removesuffix(": "))
    is_cut = reply.finish == "length"
    if not text:
        raise UnclearError("cut off" if is_cut else "empty")
    none = "cut off" if is_cut else "no score" if key == "score" else "no verdict"
    if len(text) > MAX_REPLY_CHARACTERS:
        raise UnclearError(f"{none}: an endless reply")
    plain = plain_reply((after_thinking(text) or "").strip())
    objects = [entry for entry in find_objects(plain) if key in entry.row]
    if not objects:
        raise UnclearError(f"{none}: {_quoted(text)}")
    reading = _Reading(plain, objects, source)
    if reading.after and is_cut and not reading.is_on_another:
        raise UnclearError(f"cut off: {_quoted(reading.after)}")
    if reading.after and reply.in_reasoning:
        raise UnclearError(f"{none}: only within its reasoning")
    return reading


def _one(values: Sequence[Any], several: str) -> Any:
    """The value that all objects give; UnclearError if they differ."""
    if any(value != values[0] for value in values):
        raise UnclearError(f"several {several}")
    return values[-1]


def _verdict(met: object) -> bool | None:
    """The verdict of a value; None: the judge cannot tell."""
    if isinstance(met, str):
        met = _MET.get(met.strip().casefold(), met)
    if met is None or isinstance(met, bool):
        return met
    if isinstance(met, str) and _CANNOT_TELL.fullmatch(met.strip().casefold().translate(STRAIGHT)):
        return None
    raise UnclearError(f"unclear: {_quoted(met)}")


def _score(value: object) -> float | None:
    """The score of a value, on the scale; None: the judge cannot tell."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if value is None or (isinstance(value, str) and _CANNOT_TELL.fullmatch(value.casefold())):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnclearError(f"unclear score: {_quoted(value)}")
    if not LOWEST <= value <= HIGHEST:
        raise UnclearError(f"unclear score: {_quoted(value)} is not {LOWEST} to {HIGHEST}")
    return value


def _explanation(row: Mapping[str, Any]) -> str:
    text = row.get("explanation")
    return text.strip() if isinstance(text, str) else ""


def _integer(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _compact(text: str) -> str:
    """Letters and signs of a text, for a comparison: no case, spaces, quotation marks, escapes."""
    text = "".join(text.casefold().split())
    for mark in "\"'\\\u201c\u201d\u2018\u2019":
        text = text.replace(mark, "")
    return text


def _quoted(value: object) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}..."
