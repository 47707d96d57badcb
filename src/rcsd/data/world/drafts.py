"""What a problem template yields: a question, and every way of working it out."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Field = Literal["physics", "chemistry", "biology", "earth science"]


@dataclass(frozen=True)
class Fork:
    """A place where the right procedure and the model's bad habit part.

    Args:
        right: What the right procedure does, as "converts the minutes to seconds".
        habit: What the bad habit does, as "keeps the time in minutes".
        right_mark: Check (see `rcsd.graders.checks`) that an answer went right here.
        habit_mark: Check that it followed the habit.
    """

    right: str
    habit: str
    right_mark: Mapping[str, Any]
    habit_mark: Mapping[str, Any]


@dataclass(frozen=True)
class Working:
    """One way through a problem: steps in writing, and the value that they end in.

    Args:
        steps: Such as ``("3 min = 180 s", "4 * 180 = 720")``.
        value: The final number as written.
        key: An intermediate value worth asking for, or None where there is none but the answer.
    """

    steps: tuple[str, ...]
    value: str
    key: str | None = None


@dataclass(frozen=True)
class Draft:
    """A problem before its rubric is written.

    Args:
        question: The problem's text.
        formula: Such as ``E = P t``.
        principle: A sentence without its full stop, in lower case: "power is energy per time".
        unit: Of the answer.
        forks: One or two places where right and habit part.
        workings: For each choice at the forks (True: right), the working.
    """

    question: str
    formula: str
    principle: str
    unit: str
    forks: tuple[Fork, ...]
    workings: Mapping[tuple[bool, ...], Working]

    @property
    def right(self) -> Working:
        """The working that goes right at every fork."""
        return self.workings[(True,) * len(self.forks)]


@dataclass(frozen=True)
class Template:
    """A family of problems that differ in numbers and wording."""

    name: str
    field: Field
    draft: Callable[[random.Random], Draft]
    held_out: bool = False


TEMPLATES: dict[str, Template] = {}
"""Every template by name; filled when `rcsd.data.world.templates` is imported."""


def template(
    field: Field, held_out: bool = False
) -> Callable[[Callable[[random.Random], Draft]], Callable[[random.Random], Draft]]:
    """Register a function as a template under its own name."""

    def register(draft: Callable[[random.Random], Draft]) -> Callable[[random.Random], Draft]:
        TEMPLATES[draft.__name__] = Template(draft.__name__, field, draft, held_out)
        return draft

    return register


def expression(text: str) -> dict[str, Any]:
    """Check that an expression such as ``4 * 180`` stands in the answer."""
    return {"type": "expression", "text": text}


def number(value: float) -> dict[str, Any]:
    """Check that a number stands in the answer."""
    return {"type": "number", "value": value}


def final_number(value: float) -> dict[str, Any]:
    """Check that an answer ends in a number."""
    return {"type": "final_number", "value": value}


def single(fork: Fork, right: Working, habit: Working) -> dict[str, Any]:
    """The fields ``forks`` and ``workings`` of a draft with one fork."""
    return {"forks": (fork,), "workings": {(True,): right, (False,): habit}}


def product(a: int, b: int) -> str:
    """``a * b = c``."""
    return f"{a} * {b} = {a * b}"


def quotient(a: int, b: int) -> str:
    """``a / b = c``, for numbers that divide."""
    if a % b:
        raise ValueError(f"{b} does not divide {a}")
    return f"{a} / {b} = {a // b}"
