"""Problems of the rubric world: examples with gold rubrics, in three splits."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rcsd.errors import DataError
from rcsd.rubrics import Criterion, Rubric
from rcsd.types import Example
from rcsd.world import biology, chemistry, earth, physics
from rcsd.world.drafts import TEMPLATES, Draft, Template, number

MODULES = (physics, chemistry, biology, earth)

Split = Literal["train", "new_numbers", "new_templates"]
SPLITS: tuple[Split, ...] = get_args(Split)

Kind = Literal[
    "method",
    "mistake",
    "value",
    "formula",
    "principle",
    "unit",
    "no unit",
    "boxed",
    "answer line",
    "no working",
]
"""What a criterion is about; its title in a rubric."""

# How each kind is put into words; one is drawn for each criterion.
_WORDINGS: Mapping[Kind, tuple[str, ...]] = {
    "method": ("The working {}.", "The answer {}.", "It {}."),
    "mistake": ("The working {}.", "The answer {}.", "It {}."),
    "value": ("Finds {} on the way.", "Reaches {} as a step."),
    "formula": ("States {} before the numbers.", "Gives the formula {} first."),
    "principle": ("Says that {}.", "Explains that {}."),
    "unit": ("Gives the final answer in {}.", "Ends with the unit {}."),
    "no unit": ("Leaves the final answer without a unit.", "Ends without a unit."),
    "boxed": (r"Puts the final answer in \boxed{{}}.", r"Ends with a result in \boxed{{}}."),
    "answer line": ("Ends with a line that begins with Answer:.",),
    "no working": ("Gives only the answer, without working.", "Shows no working."),
}


@dataclass(frozen=True)
class Demand:
    """A criterion before it is put into words.

    Args:
        kind: What it is about.
        about: The phrase, formula, value or unit that it names; empty for pure form.
        points: Positive: do it. Negative: doing it is a mistake.
        check: Decides whether an answer does it.
    """

    kind: Kind
    about: str
    points: int
    check: Mapping[str, Any]

    def criterion(self, rng: random.Random) -> Criterion:
        """The demand in one of its wordings."""
        text = rng.choice(_WORDINGS[self.kind]).format(self.about)
        return Criterion(text, self.points, self.kind, self.check)


_BOXED = {"type": "boxed"}
_ANSWER_LINE = {"type": "matches", "pattern": r"(?m)^Answer:"}
# Working shows in a number that is equated with a number, as in "4 * 180 = 720".
_NO_WORKING = {"type": "not", "check": {"type": "matches", "pattern": r"\d[^.=]*= ?\d"}}


def demands(draft: Draft) -> dict[str, Demand]:
    """Everything that a rubric of this problem may demand, by a key such as ``method 0``."""
    found: dict[str, Demand] = {}
    for index, fork in enumerate(draft.forks):
        found[f"method {index}"] = Demand("method", fork.right, 6, fork.right_mark)
        found[f"mistake {index}"] = Demand("mistake", fork.habit, -4, fork.habit_mark)
    key = draft.right.key
    if key is not None:
        found["value"] = Demand("value", key, 4, number(float(key.split()[0])))
    formula = {"type": "before", "first": draft.formula, "then": r"\d\s*[*/+-]|\d \w+ ="}
    unit = {"type": "unit", "unit": draft.unit}
    return found | {
        "formula": Demand("formula", draft.formula, 3, formula),
        "principle": Demand(
            "principle", draft.principle, 3, {"type": "contains", "text": draft.principle}
        ),
        "unit": Demand("unit", draft.unit, 2, unit),
        "no unit": Demand("no unit", "", -2, {"type": "not", "check": unit}),
        "boxed": Demand("boxed", "", 2, _BOXED),
        "answer line": Demand("answer line", "", 2, _ANSWER_LINE),
        "no working": Demand("no working", "", -3, _NO_WORKING),
    }


# Each optional criterion's chance to be in a gold rubric.
_GOLD_CHANCES = {"value": 0.8, "formula": 0.8, "principle": 0.5, "no working": 0.3, "no unit": 0.2}
_MAX_CRITERIA = 8


def gold_demands(draft: Draft, rng: random.Random) -> list[Demand]:
    """Between 4 and 8 demands of a strong answer, at least one negative, in random order."""
    every = demands(draft)
    kept = [f"method {index}" for index in range(len(draft.forks))]
    kept += [f"mistake {rng.randrange(len(draft.forks))}", "unit", "boxed"]
    kept += [key for key, chance in _GOLD_CHANCES.items() if key in every and rng.random() < chance]
    chosen = [every[key] for key in kept[:_MAX_CRITERIA]]
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
    """An answer in writing.

    Args:
        draft: The problem.
        choices: At each fork, whether the right procedure is taken.
        style: Its form.
        value: Put in the place of the final number where given: an answer that does not follow.
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


def split_of(template: Template, draft: Draft) -> Split:
    """The split that a problem belongs to, by its numbers alone: the same in every run.

    An eighth of the number combinations of the known templates is held out from every training.
    """
    if template.held_out:
        return "new_templates"
    key = f"{template.name}: {draft.right.steps}"
    return "new_numbers" if hashlib.sha256(key.encode()).digest()[0] % 8 == 0 else "train"


def drafts(split: Split, rng: random.Random) -> Iterator[tuple[Template, Draft]]:
    """Problems of a split without end.

    In ``train`` and ``new_templates`` each template comes about as often as any other; in
    ``new_numbers`` as often as its held-out numbers are many.
    """
    templates = [t for t in TEMPLATES.values() if t.held_out == (split == "new_templates")]
    while True:
        template = rng.choice(templates)
        draft = template.draft(rng)
        if split_of(template, draft) == split:
            yield template, draft


def example(template: Template, draft: Draft, rng: random.Random, id: str) -> Example:
    """The problem as a row of data, with a gold rubric."""
    right = (True,) * len(draft.forks)
    criteria = tuple(demand.criterion(rng) for demand in gold_demands(draft, rng))
    return Example(
        id=id,
        question=draft.question,
        reference_answer=f"{draft.right.value} {draft.unit}",
        solution=written_answer(draft, right, FULL_STYLE),
        rubric=Rubric(criteria),
        tags={"template": template.name, "field": template.field},
    )


def examples(split: Split, num_examples: int, seed: int) -> list[Example]:
    """Examples of a split, without repeated questions; the same for the same seed.

    Raises:
        DataError: If the split has too few distinct problems.
    """
    rng = random.Random(f"{split} {seed}")
    source, seen, rows = drafts(split, rng), set(), []
    for _ in range(100 * num_examples):
        template, draft = next(source)
        row = example(template, draft, rng, f"{split}-{seed}-{len(rows)}")
        if row.question not in seen:
            seen.add(row.question)
            rows.append(row)
        if len(rows) == num_examples:
            return rows
    raise DataError(
        f"the split {split} has fewer than {num_examples} distinct problems", field="num_examples"
    )
