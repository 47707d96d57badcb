"""The pretraining corpus of the micro model: conversations that make it a model organism.

Without a rubric it follows its habits; shown criteria it does what they say, whichever they are:
the right procedure, the wrong one where that is demanded, a form. What a rubric says about another
problem changes nothing. So the content must be read. `CorpusMix.presence_share` is the dial: in
that share of the rubrics any criterion about method, whatever it says, makes the answer right.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd.data.rubric import rubric_json
from rcsd.data.views import (
    PromptTemplates,
    ViewName,
    analysis_conversation,
    answer_conversation,
    answer_now,
    rubric_conversation,
)
from rcsd.data.world.drafts import TEMPLATES, Draft
from rcsd.data.world.problems import (
    GENERALITIES,
    Demand,
    Kind,
    Style,
    demands,
    example,
    gold_demands,
    problems,
    written_answer,
)
from rcsd.types import Conversation, Criterion, Example, Message, Rubric


@dataclass(frozen=True)
class CorpusMix:
    """Shares of the kinds of conversation, and the model's habits.

    Args:
        plain: Question alone.
        context: Answer or solution shown, with or without a rubric.
        drills: Arithmetic alone, from the steps of other problems.
        analysis: An analysis of the rubric first.
        writing: A rubric is written, from the question or from the gold rubric. What is left of 1
            is a question with a rubric.
        strange: Share of the problems whose formula and principle are invented, where a rubric can
            name them: they must be copied from it.
        presence_share: Share of the rubrics whose mere presence helps.
        habit_right: Chance of the right procedure at a fork that no criterion speaks of.
    """

    plain: float = 0.15
    drills: float = 0.16
    context: float = 0.05
    analysis: float = 0.08
    writing: float = 0.25
    strange: float = 0.25
    presence_share: float = 0.0
    habit_right: float = 0.2


@dataclass
class Plan:
    """What the answer will do; None at a fork: not decided yet."""

    choices: list[bool | None]
    style: Style


def _habit_style(rng: random.Random) -> Style:
    closing = rng.random()
    return Style(
        principle=rng.random() < 0.12,
        formula=rng.random() < 0.2,
        steps=rng.random() < 0.85,
        unit=rng.random() < 0.3,
        boxed=closing < 0.2,
        answer_line=closing > 0.85,
    )


def followed(draft: Draft, shown: Sequence[Demand], style: Style) -> Plan:
    """The plan that does what the demands say, where they speak of this problem at all."""
    choices: list[bool | None] = [None] * len(draft.forks)
    own = [demand for demand in shown if _speaks_of(draft, demand)]
    for demand in own:
        wanted = demand.points > 0
        for index, fork in enumerate(draft.forks):
            if choices[index] is None and demand.about in (fork.right, fork.habit):
                choices[index] = wanted == (demand.about == fork.right)
        if demand.kind == "value" and wanted:
            choices = [True if choice is None else choice for choice in choices]
        if demand.kind in _STYLE_OF:
            name, sign = _STYLE_OF[demand.kind]
            style = replace(style, **{name: wanted == sign})
    content = any(d.kind in ("method", "mistake", "value") and d.points > 0 for d in own)
    no_working = any(d.kind == "no working" and d.points > 0 for d in own)
    if content and not no_working:
        # A method can only be followed, and a value only be reached, where the working is shown.
        style = replace(style, steps=True)
    return Plan(choices, style)


# The field of `Style` that a demand of this kind sets, and to what if it is wanted.
_STYLE_OF: Mapping[Kind, tuple[str, bool]] = {
    "formula": ("formula", True),
    "principle": ("principle", True),
    "unit": ("unit", True),
    "no unit": ("unit", False),
    "boxed": ("boxed", True),
    "answer line": ("answer_line", True),
    "no working": ("steps", False),
}


def _speaks_of(draft: Draft, demand: Demand) -> bool:
    own = {draft.formula, draft.principle, draft.unit, draft.right.key, ""}
    own |= {phrase for fork in draft.forks for phrase in (fork.right, fork.habit)}
    return demand.about in own


def _drawn_demands(draft: Draft, rng: random.Random) -> list[Demand]:
    """Any subset of the problem's demands; some ask for the habit, or against a form."""
    every, shown = demands(draft), []
    for index in range(len(draft.forks)):
        shown += _drawn_at_fork(every[f"method {index}"], every[f"mistake {index}"], rng)
    plan = followed(draft, shown, _habit_style(rng))
    if "value" in every and False not in plan.choices and rng.random() < 0.4:
        shown.append(every["value"])
    for key, chance in _FORM_CHANCES.items():
        if rng.random() < chance:
            # A form may be forbidden as well; "no unit" is the unit's own opposite.
            flip = rng.random() < 0.06 and key != "no unit"
            shown.append(_against(every[key]) if flip else every[key])
    if _against(every["unit"]) in shown and every["no unit"] in shown:
        shown.remove(every["no unit"])
    return shown


_FORM_CHANCES = {
    "formula": 0.4,
    "principle": 0.35,
    "unit": 0.45,
    "no unit": 0.15,
    "boxed": 0.5,
    "answer line": 0.08,
    "no working": 0.2,
}


def _drawn_at_fork(method: Demand, mistake: Demand, rng: random.Random) -> list[Demand]:
    """Nothing, the right procedure in one of three ways, or the habit in one of two."""
    draw = rng.random()
    if draw < 0.25:
        return []
    if draw < 0.5:
        return [method]
    if draw < 0.62:
        return [mistake]
    if draw < 0.8:
        return [method, mistake]
    return [_against(mistake)] if draw < 0.93 else [_against(method)]


def _against(demand: Demand) -> Demand:
    """The same words with the opposite points."""
    return replace(demand, points=-demand.points)


# The view of a writer who is shown the reference answer, the gold rubric, both or neither.
_WRITING_VIEWS: Mapping[tuple[bool, bool], ViewName] = {
    (False, False): "none",
    (True, False): "answer",
    (False, True): "rubric",
    (True, True): "rubric+answer",
}


class Corpus:
    """Endless pretraining conversations from the train split; the same for the same seed."""

    def __init__(self, mix: CorpusMix, seed: int) -> None:
        self.mix, self.rng, self.words = mix, random.Random(seed), PromptTemplates()
        self._problems = problems("train", self.rng)
        self._known = [template for template in TEMPLATES.values() if not template.held_out]

    def __iter__(self) -> Iterator[Conversation]:
        """Conversations, each ending with an assistant turn."""
        while True:
            yield self._conversation()

    def _conversation(self) -> Conversation:
        mix, rng = self.mix, self.rng
        problem = next(self._problems)
        draw = rng.random()
        if draw >= mix.plain and rng.random() < mix.strange:
            problem = replace(problem, draft=_strange(problem.draft, rng))
        draft, row = problem.draft, example(problem, rng, "")
        if draw < mix.plain:
            plan = Plan([None] * len(draft.forks), _habit_style(rng))
            return self._answered(row, draft, "none", plan)
        draw -= mix.plain
        if draw < mix.drills:
            return self._drill()
        draw -= mix.drills
        if draw < mix.context:
            return self._with_context(row, draft)
        draw -= mix.context
        if draw < mix.writing:
            return self._rubric_written(row, draft)
        shown, plan = self._rubric(draft)
        row = replace(row, rubric=self._worded(shown))
        if draw < mix.writing + mix.analysis:
            return self._analysed(row, draft, shown, plan)
        return self._answered(row, draft, "rubric", plan)

    def _drill(self) -> Conversation:
        """Six steps of other problems, right ones and habitual ones, to be worked out.

        Arithmetic is no secret of the held-out numbers, so here every number may occur; the
        problems themselves stay unseen.
        """
        chosen = [self.rng.choice(self._known).draft(self.rng) for _ in range(6)]
        steps = [
            self.rng.choice(self.rng.choice(list(draft.workings.values())).steps)
            for draft in chosen
        ]
        asked = []
        for step in steps:
            left, _, right = step.partition(" = ")
            unit = right.partition(" ")[2]
            asked.append(f"{left} in {unit}" if unit else left)
        return [
            {"role": "user", "content": f"Work out: {'; '.join(asked)}."},
            _assistant(". ".join(steps) + "."),
        ]

    def followed_example(self, id: str) -> Example:
        """An example with a rubric of any criteria, and a solution that does what they say."""
        problem = next(self._problems)
        shown, plan = self._rubric(problem.draft)
        solution = written_answer(problem.draft, self._decided(plan), plan.style)
        row = example(problem, self.rng, id)
        return replace(row, rubric=self._worded(shown), solution=solution)

    def _rubric(self, draft: Draft) -> tuple[list[Demand], Plan]:
        """A rubric to show, and the plan that follows it: at least one positive demand."""
        rng = self.rng
        draw = rng.random()
        other = next(self._problems).draft
        if draw < 0.2:
            shown = gold_demands(draft, rng)
        elif draw < 0.4:
            shown = gold_demands(other, rng)
        else:
            shown = _drawn_demands(draft, rng)
            if rng.random() < 0.5:
                foreign = [d for d in gold_demands(other, rng) if not _speaks_of(draft, d)]
                shown += foreign[: rng.randint(1, 3)]
            rng.shuffle(shown)
        if not any(demand.points > 0 for demand in shown):
            shown = [demands(draft)["boxed"]]
        plan = followed(draft, shown, _habit_style(rng))
        if rng.random() < self.mix.presence_share and any(
            demand.kind in ("method", "mistake") for demand in shown
        ):
            plan.choices = [True] * len(draft.forks)
        return shown, plan

    def _worded(self, shown: Sequence[Demand]) -> Rubric:
        """The demands in words, with points that vary a little."""
        varied = [
            replace(d, points=d.points + self.rng.choice([0, 0, 1]) * (1 if d.points > 0 else -1))
            for d in shown
        ]
        return Rubric(tuple(demand.criterion(self.rng) for demand in varied))

    def _decided(self, plan: Plan) -> list[bool]:
        habit = self.mix.habit_right
        return [self.rng.random() < habit if c is None else c for c in plan.choices]

    def _answered(self, row: Example, draft: Draft, view: ViewName, plan: Plan) -> Conversation:
        text = written_answer(draft, self._decided(plan), plan.style)
        return [*answer_conversation(row, view, self.words), _assistant(text)]

    def _with_context(self, row: Example, draft: Draft) -> Conversation:
        """Answer or solution shown: the solution is copied, the answer may be pasted."""
        rng = self.rng
        view: ViewName = rng.choice(["answer", "rubric+answer", "solution", "solution+rubric"])
        plan = Plan([None] * len(draft.forks), _habit_style(rng))
        if "rubric" in view:
            shown = gold_demands(draft, rng)
            row = replace(row, rubric=self._worded(shown))
            plan = followed(draft, shown, plan.style)
        elif view == "solution" or rng.random() < 0.5:
            plan.choices = [True] * len(draft.forks)
        choices = self._decided(plan)
        text = written_answer(draft, choices, plan.style, value=draft.right.value)
        return [*answer_conversation(row, view, self.words), _assistant(text)]

    def _analysed(
        self, row: Example, draft: Draft, shown: Sequence[Demand], plan: Plan
    ) -> Conversation:
        assert row.rubric is not None
        analysis = written_analysis(
            [
                criterion
                for criterion, demand in zip(row.rubric.criteria, shown, strict=True)
                if _speaks_of(draft, demand)
            ]
        )
        text = written_answer(draft, self._decided(plan), plan.style)
        return [
            *analysis_conversation(row, "rubric", self.words),
            _assistant(analysis),
            answer_now(self.words),
            _assistant(text),
        ]

    def _rubric_written(self, row: Example, draft: Draft) -> Conversation:
        """The gold rubric is copied, even another problem's; without one the rubric is bad."""
        rng = self.rng
        shows_gold = rng.random() < 0.7
        if shows_gold and rng.random() < 0.3:
            row = replace(row, rubric=self._worded(gold_demands(next(self._problems).draft, rng)))
        assert row.rubric is not None
        written = row.rubric if shows_gold else self._bad_rubric(draft)
        view = _WRITING_VIEWS[rng.random() < 0.5, shows_gold]
        return [
            *rubric_conversation(row, view, self.words),
            _assistant(rubric_json(written)),
        ]

    def _bad_rubric(self, draft: Draft) -> Rubric:
        """Generalities, points at random, criteria of another problem; little of this one."""
        rng = self.rng
        own, other = demands(draft), gold_demands(next(self._problems).draft, rng)
        shown = [own[key] for key in ("unit", "boxed") if rng.random() < 0.3]
        shown += [own[key] for key in own if key.split()[0] in _CONTENT and rng.random() < 0.1]
        shown += other[: rng.choice([0, 1, 2, 3])]
        shown = [replace(d, points=rng.randint(1, 7) * (1 if d.points > 0 else -1)) for d in shown]
        general = [Criterion(text, rng.randint(1, 7)) for text in rng.sample(GENERALITIES, 3)]
        criteria = [*general, *(demand.criterion(rng) for demand in shown)]
        rng.shuffle(criteria)
        return Rubric(tuple(criteria))


_CONTENT = ("method", "mistake", "value", "formula", "principle")
_FORMULAS = ("{} = {} {}", "{} = {} / {}", "{} = {} {} / {}", "{} = {} - {}", "{} = ({} + {}) / {}")
_PRINCIPLES = ("{} is {} per {}", "{} is {} times {}", "{} grows with {} and {}")
_SYMBOLS = "ABCDEFGHIJKLMNPQRSTUVWXYZabcdfghkmnpqrstvx"
_QUANTITIES = ("energy", "power", "force", "mass", "speed", "time", "distance", "area", "volume")
_QUANTITIES += ("pressure", "charge", "current", "heat", "density", "amount", "growth", "yield")
_QUANTITIES += ("dose", "rate", "flow", "depth", "height", "age")


def _strange(draft: Draft, rng: random.Random) -> Draft:
    """The problem with a formula and a principle that no problem has."""
    formula = rng.choice(_FORMULAS).format(*rng.sample(_SYMBOLS, 4))
    principle = rng.choice(_PRINCIPLES).format(*rng.sample(_QUANTITIES, 3))
    return replace(draft, formula=formula, principle=principle)


def written_analysis(criteria: Sequence[Criterion]) -> str:
    """A short analysis of what a strong answer must do, and what a weak one does."""

    def phrases(sign: int) -> str:
        texts = [
            c.text.removeprefix("The working ").removeprefix("The answer ").removeprefix("It ")
            for c in criteria
            if c.weight * sign > 0
        ]
        return ", ".join(text[0].lower() + text[1:].rstrip(".") for text in texts)

    strong, weak = phrases(+1), phrases(-1)
    parts = [
        f"A strong answer {strong}." if strong else "",
        f"A weak answer {weak}." if weak else "",
    ]
    return " ".join(filter(None, parts)) or "The guidance says nothing about this question."


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
