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
    build_conversation,
    user_turn,
)
from rcsd.data.world.families import TEMPLATES, Draft
from rcsd.data.world.following import (
    HABIT_RIGHT,
    DrawnRubrics,
    Plan,
    concerns,
    followed,
    habit_style,
)
from rcsd.data.world.problems import (
    GENERALITIES,
    Demand,
    demands,
    example,
    gold_demands,
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
    habit_right: float = HABIT_RIGHT


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
        self.mix, self.words = mix, PromptTemplates()
        self.drawn = DrawnRubrics(seed, mix.habit_right, mix.presence_share)
        self.rng = self.drawn.rng
        self._known = [template for template in TEMPLATES.values() if not template.held_out]

    def __iter__(self) -> Iterator[Conversation]:
        """Conversations, each ending with an assistant turn."""
        while True:
            yield self._conversation()

    def _conversation(self) -> Conversation:
        mix, rng = self.mix, self.rng
        problem = next(self.drawn.problems)
        draw = rng.random()
        if draw >= mix.plain and rng.random() < mix.strange:
            problem = problem._replace(draft=_strange(problem.draft, rng))
        draft, row = problem.draft, example(problem, rng, "")
        if draw < mix.plain:
            plan = Plan([None] * len(draft.forks), habit_style(rng))
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
        shown, plan = self.drawn.demands(draft)
        row = replace(row, rubric=self.drawn.worded(shown))
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

    def _answered(self, row: Example, draft: Draft, view: ViewName, plan: Plan) -> Conversation:
        text = written_answer(draft, self.drawn.decided(plan), plan.style)
        return [*build_conversation("answer", row, view, self.words), _assistant(text)]

    def _with_context(self, row: Example, draft: Draft) -> Conversation:
        """Answer or solution shown: the solution is copied, the answer may be pasted."""
        rng = self.rng
        view: ViewName = rng.choice(["answer", "rubric+answer", "solution", "solution+rubric"])
        plan = Plan([None] * len(draft.forks), habit_style(rng))
        if "rubric" in view:
            shown = gold_demands(draft, rng)
            row = replace(row, rubric=self.drawn.worded(shown))
            plan = followed(draft, shown, plan.style)
        elif view == "solution" or rng.random() < 0.5:
            plan.choices = [True] * len(draft.forks)
        choices = self.drawn.decided(plan)
        text = written_answer(draft, choices, plan.style, value=draft.right.value)
        return [*build_conversation("answer", row, view, self.words), _assistant(text)]

    def _analysed(
        self, row: Example, draft: Draft, shown: Sequence[Demand], plan: Plan
    ) -> Conversation:
        assert row.rubric is not None
        analysis = written_analysis(
            [
                criterion
                for criterion, demand in zip(row.rubric.criteria, shown, strict=True)
                if concerns(draft, demand)
            ]
        )
        text = written_answer(draft, self.drawn.decided(plan), plan.style)
        return [
            *build_conversation("analysis", row, "rubric", self.words),
            _assistant(analysis),
            user_turn("answer_now", self.words),
            _assistant(text),
        ]

    def _rubric_written(self, row: Example, draft: Draft) -> Conversation:
        """The gold rubric is copied, even another problem's; without one the rubric is bad."""
        rng = self.rng
        shows_gold = rng.random() < 0.7
        if shows_gold and rng.random() < 0.3:
            row = replace(
                row, rubric=self.drawn.worded(gold_demands(next(self.drawn.problems).draft, rng))
            )
        assert row.rubric is not None
        written = row.rubric if shows_gold else self._bad_rubric(draft)
        view = _WRITING_VIEWS[rng.random() < 0.5, shows_gold]
        return [
            *build_conversation("write_rubric", row, view, self.words),
            _assistant(rubric_json(written)),
        ]

    def _bad_rubric(self, draft: Draft) -> Rubric:
        """Generalities, points at random, criteria of another problem; little of this one."""
        rng = self.rng
        own, other = demands(draft), gold_demands(next(self.drawn.problems).draft, rng)
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
    return draft._replace(formula=formula, principle=principle)


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
