"""Headroom: how much better does a model answer when it is shown something beside the question?

Headroom predicts what distillation gains (arXiv 2605.30070). The policy answers with its present
weights; before training these are the teacher's and the student's alike.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from rcsd import config
from rcsd.data.prompts import build_prompts
from rcsd.data.views import missing_parts
from rcsd.distributed import Ranks
from rcsd.engines.analysis import with_analyses
from rcsd.engines.base import PolicyEngine
from rcsd.errors import DataError
from rcsd.graders.base import Judge
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import graded
from rcsd.io import cache_folder
from rcsd.models.policy import Policy
from rcsd.recipes.probe.contexts import STUDENT, Answers, Context
from rcsd.recipes.probe.gains import Headroom, measured_headroom
from rcsd.types import Decoding, Example, Progress


def quietly(stage: str, done: int, total: int, note: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Answerer:
    """A model that answers in one context or another, and a judge that grades it.

    Args:
        policy: The model, loaded.
        engine: Samples from it.
        views: Words and limits; which views are shown is the contexts' to say.
        decoding: Greedy, for headroom.
        room: Longest prompt, in tokens (`rcsd.data.prompts.limit_prompt_tokens`).
        judge: Gives verdicts on criteria.
        ranks: Processes that all ask for the same.
    """

    policy: Policy
    engine: PolicyEngine
    views: config.Views
    decoding: Decoding
    room: int
    judge: Judge = field(default_factory=CodeJudge)
    ranks: Ranks = field(default_factory=Ranks)

    def prompts(self, context: Context) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """Prompts by the example's id, as token ids, and by id why an example has none."""
        left_out = {
            example.id: f"it has no {' and no '.join(missing)}"
            for example in context.examples
            if (missing := missing_parts(example, context.view))
        }
        shown = {"student": context.view, "teacher": context.view, "analysis": context.analysis}
        views = self.views.model_copy(update=shown)
        whole = [example for example in context.examples if example.id not in left_out]
        if not whole:
            return {}, left_out
        try:
            prompts, dropped = build_prompts(whole, views, self.policy.tokenizer, self.room)
            if context.analysis:
                cache = cache_folder() / "analyses"
                prompts, _ = with_analyses(
                    prompts, views, self.policy, self.engine, cache, self.room, self.ranks
                )
        except DataError as error:  # in this context nothing fits
            return {}, left_out | {example.id: str(error) for example in whole}
        left_out |= {drop.id: drop.reason for drop in dropped}
        return {prompt.example.id: prompt.teacher_ids for prompt in prompts}, left_out

    def answers(self, examples: Sequence[Example], context: Context) -> Answers:
        """Answers to the questions that fit, graded by the examples' own rubrics."""
        prompts, left_out = self.prompts(context)
        asked = [example for example in examples if example.id in prompts]
        shown = [prompts[example.id] for example in asked]
        rows = graded(asked, shown, self.engine, self.judge, self.decoding) if asked else []
        return Answers(context.name, context.view, {row.id: row for row in rows}, left_out)


def answered(
    answerer: Answerer,
    examples: Sequence[Example],
    contexts: Sequence[Context],
    progress: Progress = quietly,
) -> tuple[Answers, list[Answers]]:
    """Answers in the student's view, and in each context."""
    asked = [Context(STUDENT, answerer.views.student, examples), *contexts]
    found = []
    for done, context in enumerate(asked):
        progress("answers", done, len(asked), context.name)
        found.append(answerer.answers(examples, context))
    progress("answers", len(asked), len(asked), "")
    return found[0], found[1:]


def headroom_of(
    answerer: Answerer,
    examples: Sequence[Example],
    contexts: Sequence[Context],
    seed: int = 0,
    progress: Progress = quietly,
) -> Headroom:
    """Headroom of contexts over the student's view.

    Args:
        answerer: Answers and grades.
        examples: What is asked, with the rubrics that answers are graded by.
        contexts: What is shown. For written rubrics, or a placebo, a context whose examples have
            these instead of their own.
        seed: Of the intervals.
        progress: Told which context is asked.
    """
    student, answers = answered(answerer, examples, contexts, progress)
    return measured_headroom(examples, student, answers, seed)


def sampled(examples: Sequence[Example], num_examples: int, seed: int) -> list[Example]:
    """So many of the examples at most, in their order; the same ones for the same seed."""
    places = range(len(examples))
    chosen = random.Random(seed).sample(places, min(num_examples, len(examples)))
    return [examples[place] for place in sorted(chosen)]
