"""The probe's verdict: rules over its numbers, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rcsd.data.placebos import EMPTY
from rcsd.recipes.probe_numbers import (
    MIN_QUESTIONS,
    OTHER_VIEWS,
    STUDENT,
    TEACHER,
    Gain,
    Headroom,
    Leakage,
    Ranking,
    Sensitivity,
    as_text,
)

Verdict = Literal["train", "fix the rubrics", "use another context", "don't", "cannot tell"]

MIN_SENSITIVITY = 0.5
"""Content sensitivity below which, surely, rubrics are to be fixed."""
CHANCE = 0.5
"""AUC of a random order."""
MAX_LEAKING_SHARE = 0.05
"""Share of rubrics with their reference answer above which a gain may be the answer's. Half of
RaR's gold rubrics have it."""
MAX_CUT_SHARE = 0.1
"""Share of answers cut off at the token limit above which scores measure the limit."""
SOLVED = 0.95
"""Mean without help above which little is left to gain."""


@dataclass(frozen=True)
class Measured:
    """Everything that the verdict rests on.

    Args:
        headroom: Of all contexts.
        sensitivities: By placebo; empty if the teacher's view has no rubric.
        rankings: The teacher's first; empty if nothing can be graded.
        leakage: Of the rubrics.
    """

    headroom: Headroom
    sensitivities: Sequence[Sensitivity]
    rankings: Sequence[Ranking]
    leakage: Leakage


@dataclass(frozen=True)
class Advice:
    """A verdict, its reasons with their numbers, and warnings."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def advise(measured: Measured) -> Advice:
    """The verdict of the first rule that holds. Thresholds are conventions, not estimates.

    1. Fewer than `MIN_QUESTIONS` questions are graded: cannot tell.
    2. The interval of the teacher view's headroom reaches 0. If another view's lies above 0: use
       another context, the one with the most. Else: don't.
    3. The headroom is not above an empty placebo's, or less than `MIN_SENSITIVITY` of it, surely,
       depends on the content: fix the rubrics.
    4. Else: train.
    """
    verdict, reasons = _verdict(measured)
    warnings = [
        *_ranking_warnings(measured.rankings),
        *_leakage_warnings(measured.leakage),
        *_limit_warnings(measured.headroom),
    ]
    return Advice(verdict, tuple(reasons), tuple(warnings))


def _verdict(measured: Measured) -> tuple[Verdict, list[str]]:
    headroom = measured.headroom
    own = headroom.gain(TEACHER)
    num = 0 if own is None else own.gain.n
    if own is None or num < MIN_QUESTIONS:
        return "cannot tell", [
            f"Questions graded with and without the teacher's view: {num}; a verdict needs "
            f"{MIN_QUESTIONS}. Add checks to criteria or numeric reference answers, or raise "
            "--num-examples."
        ]
    reasons = [
        f"Headroom {as_text(own.gain)} over {num} questions: the {headroom.metric} is "
        f"{as_text(own.without)} in the student's view, {as_text(own.with_context)} in the "
        "teacher's."
    ]
    if own.gain.low <= 0:
        return _without_headroom(headroom, own, reasons)
    unread = _unread(measured.sensitivities)
    if unread:
        return "fix the rubrics", [
            *reasons,
            *unread,
            "The model reacts to the presence of a rubric more than to its content. Measure more "
            "questions (--num-examples), write criteria that name what each question demands, or "
            "train the model to follow rubrics first (method: {type: sft, view: rubric}).",
        ]
    return "train", reasons + [
        f"{as_text(found.share)} of the headroom is lost with {found.placebo} rubrics: the model "
        "reads their content."
        for found in measured.sensitivities
        if found.placebo == "shuffled" and found.share is not None
    ]


def _without_headroom(
    headroom: Headroom, own: Gain, reasons: list[str]
) -> tuple[Verdict, list[str]]:
    harm = "the teacher's view makes answers worse" if own.gain.high < 0 else "its interval has 0"
    reasons.append(f"No headroom to learn from: {harm}.")
    gains = {view: gain.gain for view in OTHER_VIEWS if (gain := headroom.gain(view)) is not None}
    helpful = {
        view: gain for view, gain in gains.items() if gain.low > 0 and gain.n >= MIN_QUESTIONS
    }
    if helpful:
        best = max(helpful, key=lambda view: helpful[view].mean)
        reasons.append(
            f"The view '{best}' has headroom {as_text(helpful[best])}: set views.teacher={best}."
        )
        return "use another context", reasons
    if own.without.mean >= SOLVED:
        reasons.append("The model already answers well: little is left to gain.")
    else:
        reasons.append(
            "No other view helps. Train the model to follow rubrics first (method: {type: sft, "
            "view: rubric}), or take a stronger one."
        )
    return "don't", reasons


def _unread(sensitivities: Sequence[Sensitivity]) -> list[str]:
    """Evidence that the model does not read its rubrics."""
    reasons = []
    for found in sensitivities:
        if found.placebo in EMPTY and found.gap.low <= 0:
            reasons.append(
                f"The own rubrics do not help more than {found.placebo} ones: difference "
                f"{as_text(found.gap)}."
            )
        share = found.share if found.placebo == "shuffled" else None
        if share is not None and share.high < MIN_SENSITIVITY:
            reasons.append(f"Only {as_text(share)} of the headroom is lost with shuffled rubrics.")
    return reasons


def _ranking_warnings(rankings: Sequence[Ranking]) -> list[str]:
    own = next((found for found in rankings if found.teacher == TEACHER), None)
    if own is None or own.by_sum is None:
        return ["No question has completions of different scores, so no ranking is measured."]
    warnings = []
    if own.by_sum.low <= CHANCE:
        warnings.append(
            f"The teacher does not rank completions better than chance: AUC "
            f"{as_text(own.by_sum)} over {own.num_pairs} pairs."
        )
    return warnings + [
        f"The teacher does not rank completions better than one with {found.teacher} rubrics: "
        f"lead {as_text(found.lead)}."
        for found in rankings
        if found.lead is not None and found.lead.low <= 0
    ]


def _leakage_warnings(found: Leakage) -> list[str]:
    if found.share is None or found.share <= MAX_LEAKING_SHARE:
        return []
    return [
        f"{found.num_leaking} of {found.num_rubrics} rubrics hold or quote their reference answer: "
        "a gain may be the answer's; see 'rcsd rubrics check'."
    ]


def _limit_warnings(headroom: Headroom) -> list[str]:
    counts = {STUDENT: headroom.student}
    counts |= {c.context: c.counts for c in headroom.contexts if c.context == TEACHER}
    return [
        f"In the {name}'s view {found.num_cut} of {found.num_answers} answers are cut off at the "
        "token limit: raise max_tokens."
        for name, found in counts.items()
        if found.num_cut > MAX_CUT_SHARE * found.num_answers
    ]
