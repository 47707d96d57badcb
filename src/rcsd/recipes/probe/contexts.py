"""Contexts: what a model can be shown beside a question, and what it then answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rcsd import config
from rcsd.data.placebos import PLACEBOS, with_placebo
from rcsd.data.views import PromptTemplates
from rcsd.errors import DataError
from rcsd.graders.grade import Graded
from rcsd.types import Example, ViewName

STUDENT = "student"
"""The context of the student's view: what every other one is compared with."""

TEACHER = "teacher"
"""The context of the teacher's view, with each example's own rubric."""

OTHER_VIEWS: tuple[ViewName, ...] = ("rubric", "answer", "solution", "rubric+answer")
"""Views that a teacher could have instead of the run's."""


@dataclass(frozen=True)
class Context:
    """What is shown beside the questions.

    Args:
        name: Unlike that of any other context.
        view: Which parts of an example are shown.
        examples: What is shown is theirs: with another rubric than their own, that one.
        analysis: Whether the model first writes an analysis of it (`config.Views.analysis`).
    """

    name: str
    view: ViewName
    examples: Sequence[Example]
    analysis: bool = False


@dataclass(frozen=True)
class Answers:
    """What was answered in one context.

    Args:
        context: Its name.
        view: Its view.
        rows: Graded answers by the example's id; graded by the example's own rubric.
        left_out: Why an example, by its id, was not asked.
    """

    context: str
    view: ViewName
    rows: Mapping[str, Graded]
    left_out: Mapping[str, str] = field(default_factory=dict)


def contexts_of(
    examples: Sequence[Example],
    everyone: Sequence[Example],
    views: config.Views,
    placebo: config.Placebo,
    seed: int,
) -> tuple[list[Context], dict[str, str]]:
    """The teacher's view, with each placebo where it shows rubrics, and the views instead of it.

    Args:
        examples: What is asked.
        everyone: The data set that they were drawn from; placebos take criteria from all of it.
        views: Of the run.
        placebo: Of the run; its share and seed hold for the placebo of its type.
        seed: Of the other placebos.

    Returns:
        Contexts, and by name why one cannot be made.
    """
    contexts = [Context(TEACHER, views.teacher, examples, views.analysis)]
    impossible: dict[str, str] = {}
    asked = {example.id for example in examples}
    placebos = PLACEBOS.items() if "rubric" in views.teacher else ()
    for name, section_of in placebos:
        section = placebo if placebo.type == name else section_of(seed)
        try:
            everyones = with_placebo(everyone, section, PromptTemplates(views.templates))
        except DataError as error:
            impossible[name] = str(error)
            continue
        shown = [example for example in everyones if example.id in asked]
        contexts.append(Context(name, views.teacher, shown, views.analysis))
    contexts += [
        Context(view, view, examples, views.analysis)
        for view in OTHER_VIEWS
        if view not in (views.student, views.teacher)
    ]
    return contexts, impossible
