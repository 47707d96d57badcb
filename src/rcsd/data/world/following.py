"""Rubrics of any criteria, and answers that do what they demand: to learn following from.

A drawn rubric asks for any subset of a problem's criteria: the right procedure, the wrong one, a
form or its opposite, things that no answer to this problem could do. The answer follows it where it
speaks of the problem at all, and is the habit's elsewhere.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd.data.world.families import Draft
from rcsd.data.world.problems import (
    Demand,
    Kind,
    Style,
    demands,
    example,
    gold_demands,
    problems,
    written_answer,
)
from rcsd.types import Example, Rubric

HABIT_RIGHT = 0.2
"""Chance of the right procedure at a fork that no criterion speaks of."""


@dataclass
class Plan:
    """Plan of an answer; None at a fork: not decided yet."""

    choices: list[bool | None]
    style: Style


def habit_style(rng: random.Random) -> Style:
    """The form of an answer that no criterion speaks of."""
    closing = rng.random()
    return Style(
        principle=rng.random() < 0.12,
        formula=rng.random() < 0.2,
        steps=rng.random() < 0.85,
        unit=rng.random() < 0.3,
        boxed=closing < 0.2,
        answer_line=closing > 0.85,
    )


def followed(draft: Draft, rubric: Sequence[Demand], style: Style) -> Plan:
    """The plan that does what the demands say, where they speak of this problem at all."""
    choices: list[bool | None] = [None] * len(draft.forks)
    relevant = [demand for demand in rubric if concerns(draft, demand)]
    for demand in relevant:
        wanted = demand.points > 0
        for index, fork in enumerate(draft.forks):
            if choices[index] is None and demand.about in (fork.right, fork.habit):
                choices[index] = wanted == (demand.about == fork.right)
        if demand.kind == "value" and wanted:
            choices = [True if choice is None else choice for choice in choices]
        if demand.kind in _STYLE_OF:
            name, sign = _STYLE_OF[demand.kind]
            style = replace(style, **{name: wanted == sign})
    content = any(d.kind in ("method", "mistake", "value") and d.points > 0 for d in relevant)
    no_working = any(d.kind == "no working" and d.points > 0 for d in relevant)
    if content and not no_working:
        # A method can only be followed, and a value only be reached, where the working is shown.
        style = replace(style, steps=True)
    return Plan(choices, style)


# The field of `Style` that a demand of this kind sets, and to what if it is wanted.
_STYLE_OF: Mapping[Kind, tuple[str, bool]] = {
    "formula": ("formula", True), "principle": ("principle", True), "unit": ("unit", True),
    "no unit": ("unit", False), "boxed": ("boxed", True), "answer line": ("answer_line", True),
    "no working": ("steps", False),
}  # fmt: skip


def concerns(draft: Draft, demand: Demand) -> bool:
    """True if a demand names something of this problem, or pure form."""
    names = {draft.formula, draft.principle, draft.unit, draft.right.key, ""}
    names |= {phrase for fork in draft.forks for phrase in (fork.right, fork.habit)}
    return demand.about in names


def _drawn_demands(draft: Draft, rng: random.Random) -> list[Demand]:
    """Any subset of the problem's demands; some ask for the habit, or against a form."""
    every, rubric = demands(draft), []
    for index in range(len(draft.forks)):
        rubric += _drawn_at_fork(every[f"method {index}"], every[f"mistake {index}"], rng)
    plan = followed(draft, rubric, habit_style(rng))
    if "value" in every and False not in plan.choices and rng.random() < 0.4:
        rubric.append(every["value"])
    for key, chance in _FORM_CHANCES.items():
        if rng.random() < chance:
            # A form may be forbidden as well; "no unit" is the unit's own opposite.
            flip = rng.random() < 0.06 and key != "no unit"
            rubric.append(_against(every[key]) if flip else every[key])
    if _against(every["unit"]) in rubric and every["no unit"] in rubric:
        rubric.remove(every["no unit"])
    return rubric


_FORM_CHANCES = {
    "formula": 0.4, "principle": 0.35, "unit": 0.45, "no unit": 0.15, "boxed": 0.5,
    "answer line": 0.08, "no working": 0.2,
}  # fmt: skip


def _drawn_at_fork(method: Demand, mistake: Demand, rng: random.Random) -> list[Demand]:
    """Nothing, the right procedure in one of three ways, or the habit in one of two."""
    draw = rng.random()
    if draw < 0.25:
        return []
    outcomes = ((0.5, [method]), (0.62, [mistake]), (0.8, [method, mistake]))
    outcomes += ((0.93, [_against(mistake)]), (1.0, [_against(method)]))
    return next(demands for bound, demands in outcomes if draw < bound)


def _against(demand: Demand) -> Demand:
    """The same words with the opposite points."""
    return replace(demand, points=-demand.points)


class DrawnRubrics:
    """Endless problems of the train split with drawn rubrics; the same for the same seed.

    ``habit_right``: chance of the right procedure at a fork that no criterion speaks of.
    ``presence_share``: share of rubrics any of whose criteria about method makes the answer right.
    """

    def __init__(
        self, seed: int, habit_right: float = HABIT_RIGHT, presence_share: float = 0.0
    ) -> None:
        self.rng = random.Random(seed)
        self._habit_right, self._presence_share = habit_right, presence_share
        self.problems = problems("train", self.rng)

    def example(self, id: str) -> Example:
        """An example with a rubric of any criteria, and a solution that does what they say."""
        problem = next(self.problems)
        rubric_demands, plan = self.demands(problem.draft)
        solution = written_answer(problem.draft, self.decided(plan), plan.style)
        row = example(problem, self.rng, id)
        return replace(row, rubric=self.worded(rubric_demands), solution=solution)

    def demands(self, draft: Draft) -> tuple[list[Demand], Plan]:
        """A rubric to show, and the plan that follows it: at least one positive demand."""
        rng = self.rng
        draw = rng.random()
        other = next(self.problems).draft
        if draw < 0.2:
            rubric = gold_demands(draft, rng)
        elif draw < 0.4:
            rubric = gold_demands(other, rng)
        else:
            rubric = _drawn_demands(draft, rng)
            if rng.random() < 0.5:
                foreign = [d for d in gold_demands(other, rng) if not concerns(draft, d)]
                rubric += foreign[: rng.randint(1, 3)]
            rng.shuffle(rubric)
        if not any(demand.points > 0 for demand in rubric):
            rubric = [demands(draft)["boxed"]]
        plan = followed(draft, rubric, habit_style(rng))
        if rng.random() < self._presence_share and any(
            demand.kind in ("method", "mistake") for demand in rubric
        ):
            plan.choices = [True] * len(draft.forks)
        return rubric, plan

    def worded(self, rubric: Sequence[Demand]) -> Rubric:
        """The demands in words, with points that vary a little."""
        varied = [
            replace(d, points=d.points + self.rng.choice([0, 0, 1]) * (1 if d.points > 0 else -1))
            for d in rubric
        ]
        return Rubric(tuple(demand.criterion(self.rng) for demand in varied))

    def decided(self, plan: Plan) -> list[bool]:
        """The choice at each fork; chance decides where no criterion speaks of it."""
        return [self.rng.random() < self._habit_right if c is None else c for c in plan.choices]
