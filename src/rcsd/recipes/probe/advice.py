"""What the measurements advise: rules over numbers, each with its reason.

The thresholds are ours: conventions to be overruled by who knows better, not estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rcsd.data.placebos import EMPTY
from rcsd.recipes.probe.contexts import OTHER_VIEWS, STUDENT, TEACHER
from rcsd.recipes.probe.gains import MIN_QUESTIONS, Counts, Gain, Headroom, Sensitivity, said
from rcsd.recipes.probe.leakage import Leakage
from rcsd.recipes.probe.ranking import Ranking
from rcsd.recipes.probe.results import Measured

Verdict = Literal["train", "fix the rubrics", "use another context", "don't", "cannot tell"]

MIN_SENSITIVITY = 0.5
"""Where less than half of the headroom hangs on what rubrics say, surely, they are to be mended."""

CHANCE = 0.5
"""AUC of a teacher that orders completions as a coin would."""

MAX_LEAKING_SHARE = 0.05
"""Where more rubrics hold their reference answer, a gain may be the answer's and not the rubric's.
Half of RaR's gold rubrics do."""

MAX_CUT_SHARE = 0.1
"""Where more answers are cut off at the token limit, scores tell of the limit."""

MIN_TEACHER_MASS = 0.9
"""A loss on a support with less of the teacher's mass is about another distribution."""

MIN_COSINE = 0.9
"""A clip whose gradient points further away changes what is learned, not how fast."""

SOLVED = 0.95
"""Who scores so much without help has nothing left to gain."""


@dataclass(frozen=True)
class Advice:
    """What to do.

    Args:
        verdict: In a word.
        reasons: Why, with the numbers.
        warnings: What else to look at.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def advice_on(measured: Measured) -> Advice:
    """The verdict; the first rule that holds decides.

    1. Fewer than `MIN_QUESTIONS` questions can be graded: cannot tell.
    2. The teacher's view has no headroom (its interval reaches 0). Where another view has some
       (its interval lies above 0): use another context, the one with the most. Else: don't.
    3. Its headroom is not shown to be more than an empty placebo's, or surely less than
       `MIN_SENSITIVITY` of it hangs on what the rubrics say: fix the rubrics.
    4. Else: train.
    """
    verdict, reasons = _verdict(measured)
    return Advice(verdict, tuple(reasons), tuple(_warnings(measured)))


def _verdict(measured: Measured) -> tuple[Verdict, list[str]]:
    headroom = measured.headroom
    own = headroom.gain(TEACHER)
    num = 0 if own is None else own.gain.n
    if own is None or num < MIN_QUESTIONS:
        return "cannot tell", [
            f"Questions graded with and without the teacher's view: {num}; a verdict needs "
            f"{MIN_QUESTIONS}: give criteria checks, questions numeric reference answers, or "
            "raise --num-examples."
        ]
    reasons = [
        f"In the student's view the {headroom.metric} is {said(own.without)}, in the teacher's "
        f"{said(own.shown)}: headroom {said(own.gain)} over {num} questions."
    ]
    if own.gain.low <= 0:
        return _without_headroom(headroom, own, reasons)
    unread = _unread(measured.sensitivities)
    if unread:
        return "fix the rubrics", [
            *reasons,
            *unread,
            "As far as these questions show, the model reacts to there being a rubric more than to "
            "what it says. Ask more of them (--num-examples), let criteria name what a question "
            "asks for, or let the model learn to follow rubrics first (method: {type: sft, view: "
            "rubric}).",
        ]
    return "train", reasons + [
        f"Of the headroom {said(found.share)} is lost with {found.placebo} rubrics: the model "
        "reads what they say."
        for found in measured.sensitivities
        if found.placebo == "shuffled" and found.share is not None
    ]


def _without_headroom(
    headroom: Headroom, own: Gain, reasons: list[str]
) -> tuple[Verdict, list[str]]:
    harm = "the teacher's view makes answers worse" if own.gain.high < 0 else "none is shown"
    reasons.append(f"There is no headroom to learn from: {harm}.")
    gains = {view: gain for view in OTHER_VIEWS if (gain := headroom.gain(view)) is not None}
    helpful = {
        view: gain.gain
        for view, gain in gains.items()
        if gain.gain.low > 0 and gain.gain.n >= MIN_QUESTIONS
    }
    if helpful:
        best = max(helpful, key=lambda view: helpful[view].mean)
        reasons.append(
            f"The view '{best}' has headroom {said(helpful[best])}: set views.teacher={best}."
        )
        return "use another context", reasons
    if own.without.mean >= SOLVED:
        reasons.append("The model answers so well already that little is left to gain.")
    else:
        reasons.append(
            "No other view helps either. Let the model learn to follow rubrics first (method: "
            "{type: sft, view: rubric}), or take a stronger one."
        )
    return "don't", reasons


def _unread(sensitivities: Sequence[Sensitivity]) -> list[str]:
    """What speaks for a model that does not read its rubrics."""
    reasons = []
    for found in sensitivities:
        if found.placebo in EMPTY and found.gap.low <= 0:
            reasons.append(
                f"Its own rubrics are not shown to help more than {found.placebo} ones: the "
                f"difference is {said(found.gap)}."
            )
        if (
            found.placebo == "shuffled"
            and found.share is not None
            and found.share.high < MIN_SENSITIVITY
        ):
            reasons.append(
                f"Of the headroom only {said(found.share)} is lost with shuffled rubrics."
            )
    return reasons


def _warnings(measured: Measured) -> list[str]:
    return [
        *_of_ranking(measured.rankings),
        *_of_leakage(measured.leakage),
        *_of_limits(measured.headroom),
        *_of_loss(measured),
    ]


def _of_ranking(rankings: Sequence[Ranking]) -> list[str]:
    own = next((found for found in rankings if found.teacher == TEACHER), None)
    if own is None or own.by_sum is None:
        return [
            "No question has sampled completions of different scores: whether the teacher ranks "
            "them cannot be told."
        ]
    warnings = []
    if own.by_sum.low <= CHANCE:
        warnings.append(
            f"The teacher is not shown to rank completions better than chance: AUC "
            f"{said(own.by_sum)} over {own.num_pairs} pairs."
        )
    return warnings + [
        "The teacher is not shown to rank completions better than one that sees "
        f"{found.teacher} rubrics: its lead is {said(found.lead)}."
        for found in rankings
        if found.lead is not None and found.lead.low <= 0
    ]


def _of_leakage(found: Leakage) -> list[str]:
    if found.share is None or found.share <= MAX_LEAKING_SHARE:
        return []
    return [
        f"{found.num_leaking} of {found.num_rubrics} rubrics hold or quote their reference answer: "
        "a gain may be the answer's; see 'rcsd rubrics check'."
    ]


def _of_limits(headroom: Headroom) -> list[str]:
    counts: dict[str, Counts] = {STUDENT: headroom.student}
    counts |= {c.context: c.counts for c in headroom.contexts if c.context == TEACHER}
    return [
        f"In the {name}'s view {found.num_cut} of {found.num_answers} answers are cut off at the "
        "token limit: raise max_tokens."
        for name, found in counts.items()
        if found.num_cut > MAX_CUT_SHARE * found.num_answers
    ]


def _of_loss(measured: Measured) -> list[str]:
    warnings = [
        f"The loss sees {mass.teacher_mass:.2f} of the teacher's mass with k = {mass.k}: raise "
        "method.support.k."
        for mass in measured.top_k_mass
        if mass.k == measured.configured_k and mass.teacher_mass < MIN_TEACHER_MASS
    ]
    for effect in measured.clips:
        if effect.configured and effect.cosine is not None and effect.cosine < MIN_COSINE:
            warnings.append(
                f"The clip '{effect.clip}' turns the gradient: its cosine with the unclipped one "
                f"is {effect.cosine:.2f}."
            )
    return warnings
