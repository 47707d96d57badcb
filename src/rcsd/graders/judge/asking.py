"""What a judge is asked: the words, the data in them, and the form of the reply.

An answer may try to talk to its judge. Its text stands between lines with a boundary that it cannot
hold, and whatever a chat format might read as control is broken up.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.graders.base import rubric_of
from rcsd.redact import visible_text
from rcsd.types import Conversation, Example

# How the chat formats in use write turns, thinking and tools; U+FF5C is DeepSeek's bar.
_CONTROL = re.compile(
    r"<(?=[|\uff5c])|(?<=[|\uff5c])>"
    r"|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|think|thinking|reserved_\d+|unused\d+"
    r"|tool_call|tool_response|extra_id_\d+|sp|SYS|im_start|im_end)>)"
    r"|<(?=<SYS>|</SYS>|<CLS>|<SEP>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|gMASK)\])",
    re.IGNORECASE,
)
# Letters of the tag block are invisible, and some models read them.
_TAGS = re.compile("[\U000e0000-\U000e007f]")


def defused(text: str) -> str:
    """A text in which no chat format finds a control token, nor a judge anything invisible.

    A space follows or precedes the bracket of what looks like one, ``< |im_end| >``; controls,
    direction marks and tags become their code point, ``<U+001B>``.
    """
    text = _TAGS.sub(lambda found: f"<U+{ord(found[0]):04X}>", visible_text(text))
    return _CONTROL.sub(lambda found: " >" if found[0] == ">" else found[0] + " ", text)


def boundary(texts: Sequence[str]) -> str:
    """A mark that stands in none of the texts, the same for the same texts."""
    mark = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    while any(mark in text for text in texts):
        mark = hashlib.sha256(mark.encode()).hexdigest()[:16]
    return mark


@dataclass(frozen=True)
class Numbered:
    """A criterion as it is shown: its place in the rubric, counted from 1."""

    number: int
    text: str
    weight: float


def bounds_of(asks: config.AskHolistic) -> tuple[int, int]:
    """Lowest and highest score of a scale."""
    return (1, 10) if asks.scale == "1-10" else (0, 100)


def groups(asks: config.Asks, num_criteria: int) -> list[tuple[int, ...]]:
    """Which criteria each call asks for, by number; of a holistic one all, as the empty group."""
    if asks.type == "holistic":
        return [()]
    size = asks.criteria_per_call if asks.type == "several" else 1
    numbers = range(1, num_criteria + 1)
    return [tuple(numbers[start : start + size]) for start in range(0, num_criteria, size)]


def conversation(
    example: Example, text: str, numbers: Sequence[int], asks: config.Asks, words: PromptTemplates
) -> Conversation:
    """What the judge is told: one turn, since not every chat format has a place for a system's.

    Args:
        example: Question and rubric.
        text: The answer.
        numbers: Of the criteria that are asked for; empty: all, for one score.
        asks: What for.
        words: The templates.

    Raises:
        DataError: If the example has no rubric.
    """
    criteria = rubric_of(example).criteria
    shown = [
        Numbered(number, defused(criteria[number - 1].text), criteria[number - 1].weight)
        for number in (numbers or range(1, len(criteria) + 1))
    ]
    question, answer = defused(example.question), defused(text)
    values: dict[str, Any] = {"question": question, "answer": answer, "criteria": shown}
    values["boundary"] = boundary([question, answer, *(each.text for each in shown)])
    if asks.type == "holistic":
        values["lowest"], values["highest"] = bounds_of(asks)
    content = words.render(f"judge_{asks.type}.jinja", **values)
    return [{"role": "user", "content": content}]


def schema(numbers: Sequence[int], asks: config.Asks) -> dict[str, Any]:
    """JSON schema of the reply; the explanation comes first, so that the verdict follows from it.

    Args:
        numbers: Of the criteria that are asked for.
        asks: What for.
    """
    explanation = {"explanation": {"type": "string"}}
    if asks.type == "holistic":
        low, high = bounds_of(asks)
        return _object(explanation | {"score": {"enum": list(range(low, high + 1))}})
    verdict = _object(
        {"criterion": {"enum": list(numbers)}, **explanation, "met": {"type": "boolean"}}
    )
    if asks.type == "criterion":
        return verdict
    return _object({"verdicts": {"type": "array", "items": verdict}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
