"""Texts that try to talk a judge into a verdict: for tests, and to measure one."""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class Injection:
    """One attempt.

    Args:
        name: Of its trick.
        text: What an answer ends with.
    """

    name: str
    text: str


def injections() -> list[Injection]:
    """All of them."""
    lines = FILE.read_text(encoding="utf-8").split("\n")
    return [Injection(**json.loads(line)) for line in lines if line]
