"""Prompts of a judge, the data in them, and the schema of its replies.

An answer may try to talk to its judge. Its text stands between lines with a boundary that it cannot
contain, and whatever a chat format might read as a control token is broken up.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.graders.base import require_rubric
from rcsd.io import digest
from rcsd.redact import visible_text
from rcsd.types import Conversation, Example

LOWEST, HIGHEST = 1, 10
"""Scale of a holistic score."""
CANNOT_TELL = "cannot tell"
"""Value of a verdict that the judge withholds, and the reason of a missing one; no failure."""
PROMPT_VERSION = 2
"""Version of the prompts; a cached reply to another version is not used."""

# How chat formats write turns, thinking and tools; U+FF5C is DeepSeek's bar.
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


@functools.lru_cache(256)  # each criterion's prompt has the same question and answer
def defused(text: str) -> str:
    """A text without control tokens of any chat format, and without invisible characters.

    A space breaks the bracket of what looks like a control token, ``< |im_end| >``; controls,
    direction marks and tags become their code point, ``<U+001B>``.
    """
    text = _TAGS.sub(lambda match: f"<U+{ord(match[0]):04X}>", visible_text(text))
    return _CONTROL.sub(lambda match: " >" if match[0] == ">" else match[0] + " ", text)


def boundary(texts: Sequence[str]) -> str:
    """A mark that none of the texts contains; the same for the same texts."""
    mark = digest("\0".join(texts))[:16]
    while any(mark in text for text in texts):
        mark = digest(mark)[:16]
    return mark


def criterion_groups(asks: config.Asks, numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """Numbers of the criteria of each call, out of these; for a holistic score one empty group."""
    if asks.type == "holistic":
        return [()]
    size = asks.criteria_per_call if asks.type == "several" else 1
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def build_conversation(
    example: Example,
    text: str,
    numbers: Sequence[int],
    asks: config.Asks,
    templates: PromptTemplates,
    shows_reference: bool = False,
) -> Conversation:
    """The prompt of a call: one turn, since not every chat format has a system turn.

    The numbers are those of criteria, counted from 1; none: all of them, for one score. Up to the
    criteria the prompts on one answer are the same, so that a server's prefix cache serves them.
    Templates get the reference answer as ``reference``; empty: not shown.
    """
    question, answer = defused(example.prompt_text), defused(text)
    reference = defused(example.reference_answer or "") if shows_reference else ""
    mark = boundary([question, answer, *filter(None, [reference])])
    numbered: list[dict[str, Any]] = [
        {
            "number": number,
            "text": defused(criterion.text).replace(mark, f"{mark[:8]} {mark[8:]}"),
            "weight": criterion.weight,
        }
        for number, criterion in enumerate(require_rubric(example).criteria, 1)
        if not numbers or number in numbers
    ]
    content = templates.render(
        f"judge_{asks.type}.jinja",
        question=question,
        answer=answer,
        reference=reference,
        criteria=numbered,
        boundary=mark,
        cannot_tell=asks.type != "holistic" and asks.cannot_tell,
        lowest=LOWEST,
        highest=HIGHEST,
    )
    return [{"role": "user", "content": content}]


def reply_schema(numbers: Sequence[int], asks: config.Asks) -> dict[str, Any]:
    """JSON schema of a reply; the explanation comes first, so that the verdict follows from it."""
    explanation = {"explanation": {"type": "string"}}
    if asks.type == "holistic":
        return _object(explanation | {"score": {"enum": list(range(LOWEST, HIGHEST + 1))}})
    met = {"enum": [True, False, CANNOT_TELL]} if asks.cannot_tell else {"type": "boolean"}
    verdict = _object({"criterion": {"enum": list(numbers)}, **explanation, "met": met})
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
