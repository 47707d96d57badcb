"""Problems of the rubric world: examples with gold rubrics, in three splits."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rcsd.config.data import Split
from rcsd.data.world.families import TEMPLATES, Draft, Template, tables
from rcsd.errors import DataError
from rcsd.types import Criterion, Example, Rubric

Kind = Literal[
    "method", "mistake", "value", "formula", "principle", "unit", "no unit", "boxed", "answer line",
    "no working",
]  # fmt: skip
"""What a criterion is about; its title in a rubric."""

WORDINGS: Mapping[Kind, Sequence[str]] = tables()["wordings"]
"""Each kind in words; one is drawn for each criterion. `rcsd.data.world.reading` inverts it."""

GENERALITIES: Sequence[str] = tables()["generalities"]
"""Criteria that could be asked of any question: what a bad rubric is padded with."""


@dataclass(frozen=True)
class Demand:
    """A criterion before it is put into words; points below 0: doing it is a mistake.

    It is about the phrase, formula, value or unit that it names; empty for pure form.
    """

    kind: Kind
    about: str
    points: int
    check: Mapping[str, Any]

    def criterion(self, rng: random.Random) -> Criterion:
        """The demand in one of its wordings."""
        text = rng.choice(WORDINGS[self.kind]).format(self.about)
        return Criterion(text, self.points, self.kind, self.check)


class Problem(NamedTuple):
    """A draft, its family, and the random bits that give the same draft again."""

    template: Template
    draft: Draft
    draws: tuple[int, ...]


class _Draws(random.Random):
    """Random numbers whose bits come from a source and are kept.

    A template draws whole numbers and choices, and those rest on ``getrandbits`` alone.
    """

    def __init__(self, source: Callable[[int], int]) -> None:
        super().__init__(0)
        self._source, self.kept = source, list[int]()

    def getrandbits(self, k: int, /) -> int:
        """The source's next bits."""
        self.kept.append(self._source(k))
        return self.kept[-1]


def drawn_problem(template: Template, rng: random.Random) -> Problem:
    """A problem of a template; takes from the generator what the template alone would take."""
    draws = _Draws(rng.getrandbits)
    draft = template.draft(draws)
    return Problem(template, draft, tuple(draws.kept))


def build_check(kind: Kind, about: str) -> dict[str, Any]:
    """Check of a criterion of any kind but method and mistake.

    Raises ValueError if the number of a value such as ``180 s`` is none, or is not finite.
    """
    match kind:
        case "value":
            number = float(about.split()[0])
            if not math.isfinite(number):
                raise ValueError(f"{about!r} is not finite")
            return {"type": "number", "value": number}
        case "formula":  # before the first calculation
            return {"type": "before", "first": about, "then": r"\d\s*[*/+-]|\d \w+ ="}
        case "principle":
            return {"type": "contains", "text": about}
        case "unit":
            return {"type": "unit", "unit": about}
        case "no unit":
            return {"type": "not", "check": {"type": "unit", "unit": about}}
        case "boxed":
            return {"type": "boxed"}
        case "answer line":
            return {"type": "matches", "pattern": r"(?m)^Answer:"}
    # Working shows in a number that is equated with a number, as in "4 * 180 = 720".
    return {"type": "not", "check": {"type": "matches", "pattern": r"\d[^.=]*= ?\d"}}


_POINTS: Mapping[Kind, int] = {
    "value": 4, "formula": 3, "principle": 3, "unit": 2, "no unit": -2, "boxed": 2,
    "answer line": 2, "no working": -3,
}  # fmt: skip


def demands(draft: Draft) -> dict[str, Demand]:
    """Everything that a rubric of this problem may demand, by a key such as ``method 0``."""
    by_key: dict[str, Demand] = {}
    for index, fork in enumerate(draft.forks):
        by_key[f"method {index}"] = Demand("method", fork.right, 6, fork.right_mark)
        by_key[f"mistake {index}"] = Demand("mistake", fork.habit, -4, fork.habit_mark)
    named = {
        "value": draft.right.key,
        "formula": draft.formula,
        "principle": draft.principle,
        "unit": draft.unit,
    }
    for kind, points in _POINTS.items():
        if (about := named.get(kind, "")) is not None:
            check = build_check(kind, draft.unit if kind == "no unit" else about)
            by_key[kind] = Demand(kind, about, points, check)
    return by_key


# Each optional criterion's chance to be in a gold rubric.
_GOLD_CHANCES = {"value": 0.8, "formula": 0.8, "principle": 0.5, "no working": 0.3, "no unit": 0.2}
_MAX_CRITERIA = 8


def gold_demands(draft: Draft, rng: random.Random) -> list[Demand]:
    """Between 4 and 8 demands of a strong answer, at least one negative, in random order."""
    every = demands(draft)
    keys = [f"method {index}" for index in range(len(draft.forks))]
    keys += [f"mistake {rng.randrange(len(draft.forks))}", "unit", "boxed"]
    keys += [key for key, chance in _GOLD_CHANCES.items() if key in every and rng.random() < chance]
    chosen = [every[key] for key in keys[:_MAX_CRITERIA]]
    rng.shuffle(chosen)
    return chosen


@dataclass(frozen=True)
class Style:
    """The form of an answer, apart from what is right or wrong in it."""

    principle: bool
    formula: bool
    steps: bool
    unit: bool
    boxed: bool
    answer_line: bool


FULL_STYLE = Style(True, True, True, True, False, False)


def written_answer(
    draft: Draft, choices: Sequence[bool], style: Style, value: str | None = None
) -> str:
    """An answer in writing, by whether the right procedure is taken at each fork.

    A value takes the place of the final number: an answer that does not follow.
    """
    working = draft.workings[tuple(choices)]
    parts = []
    if style.principle:
        parts.append(draft.principle[0].upper() + draft.principle[1:] + ".")
    if style.formula:
        parts.append(draft.formula + ".")
    if style.steps:
        parts.append(". ".join(working.steps) + ".")
    final = (value or working.value) + (f" {draft.unit}" if style.unit else "")
    final = rf"\boxed{{{final}}}" if style.boxed else final
    if style.answer_line:
        return " ".join(parts) + f"\nAnswer: {final}" if parts else f"Answer: {final}"
    return " ".join([*parts, f"The answer is {final}."])


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Problems of a split without end; the split follows from a problem's numbers alone.

    An eighth of the number combinations of the known templates is held out from every training. In
    ``train`` and ``new_templates`` each template comes about as often as any other; in
    ``new_numbers`` as often as its held-out numbers are many.
    """
    templates = [t for t in TEMPLATES.values() if t.held_out == (split == "new_templates")]
    while True:
        problem = drawn_problem(rng.choice(templates), rng)
        key = f"{problem.template.name}: {problem.draft.right.steps}"
        is_held_out = hashlib.sha256(key.encode()).digest()[0] % 8 == 0
        if split == "new_templates" or is_held_out == (split == "new_numbers"):
            yield problem


def example(problem: Problem, rng: random.Random, id: str) -> Example:
    """The problem as a row of data, with a gold rubric; `redraw_draft` leads back to its draft."""
    template, draft = problem.template, problem.draft
    criteria = tuple(demand.criterion(rng) for demand in gold_demands(draft, rng))
    return Example(
        id=id,
        question=draft.question,
        reference_answer=f"{draft.right.value} {draft.unit}",
        solution=written_answer(draft, (True,) * len(draft.forks), FULL_STYLE),
        rubric=Rubric(criteria),
        tags={"template": template.name, "field": template.field}
        | {"draws": " ".join(map(str, problem.draws))},
    )


def redraw_draft(example: Example) -> Draft:
    """The draft that an example was made from, drawn again from its tags.

    Raises DataError if the tags name no template, or their draws do not lead to the question.
    """
    template = TEMPLATES.get(example.tags.get("template", ""))
    if template is None:
        raise DataError(
            f"example {example.id!r} is no problem of the rubric world: no template "
            f"{example.tags.get('template')!r}",
            field="tags.template",
        )
    try:
        left = [int(bits) for bits in example.tags.get("draws", "").split()]
        draft = template.draft(_Draws(lambda _: left.pop(0)))
    except (ValueError, IndexError, ArithmeticError):
        left, draft = [], None
    if draft is None or left or draft.question != example.question:
        draws = example.tags.get("draws")
        message = f"{draws!r} does not lead to the question of example {example.id!r}"
        raise DataError(message, field="tags.draws")
    return draft


def examples(split: Split, num_examples: int, seed: int) -> list[Example]:
    """Examples of a split, without repeated questions; the same for the same seed.

    Raises DataError if the split has too few distinct problems.
    """
    rng = random.Random(f"{split} {seed}")
    source, seen, rows = problems(split, rng), set(), []
    for _ in range(100 * num_examples):
        row = example(next(source), rng, f"{split}-{seed}-{len(rows)}")
        if row.question not in seen:
            seen.add(row.question)
            rows.append(row)
        if len(rows) == num_examples:
            return rows
    raise DataError(
        f"the split {split} has fewer than {num_examples} distinct problems", field="num_examples"
    )
