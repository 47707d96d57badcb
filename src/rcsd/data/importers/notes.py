"""Accounting of an import: rules, and what was left out and why."""

import re
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["rar", "rubrichub", "healthbench", "researchqa", "openrubrics", "jsonl"]
"""Layout of the rows of a source."""

Turns = Literal["single", "joined"]
"""Prompts that become questions: those of one user turn, or all, with the turns joined."""


@dataclass
class Notes:
    """Log of one row; its reader writes here.

    Args:
        rules: Rule that decided each criterion or field.
        dropped: Place and reason of each criterion that was left out.
    """

    rules: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def reason_name(reason: str) -> str:
    """Reason without what differs from row to row, for counting."""
    match = re.match(r"(?:field '([^']*)'|(rubric\[\d+\](?:\.\w+)?)): ", reason)
    place, rest = (match[1] or match[2], reason[match.end() :]) if match else ("", reason)
    rest = re.split(r", got |; |: | at column | \(", rest, maxsplit=1)[0]
    rest = re.sub(r"'[^']*'|\"[^\"]*\"|(?<!\w)-?\d+(?:\.\d+)?", "…", rest)
    place = re.sub(r"\[\d+\]", "[]", place)
    return f"{place}: {rest}" if place else rest
