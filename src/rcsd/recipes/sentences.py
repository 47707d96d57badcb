"""What a pipeline's numbers say, in sentences, for better or worse."""

from collections.abc import Mapping, Sequence

from rcsd.data.placebos import EMPTY, PARTIAL
from rcsd.evaluation.report import Difference
from rcsd.evaluation.rubric_agreement import Agreement, compare_agreements
from rcsd.evaluation.statistics import Interval

GIVEN = ", before the warm start"
"""What is added to an arm's name before the warm start."""

Estimates = dict[tuple[str, str, str], Interval]
"""Interval of each arm, set and metric."""


def findings_of(
    name: str,
    estimates: Estimates,
    differences: Sequence[Difference],
    written: Mapping[str, Mapping[str, Agreement]],
) -> list[str]:
    """What the numbers say on the first set, for better or worse."""
    sentences = []
    scores = {
        arm: interval
        for (arm, n, metric), interval in estimates.items()
        if (n, metric) == (name, "score")
    }
    gaps = {d.label: d.interval for d in differences if (d.split, d.metric) == (name, "score")}
    place = name.replace("_", " ")
    if f"base{GIVEN}" in scores:
        sentences.append(
            f"Before the warm start the model scores {_said(scores[f'base{GIVEN}'])} without a "
            f"rubric and {_said(scores[f'teacher{GIVEN}'])} when it is shown its own."
        )
    if "teacher" in scores:
        sentences.append(
            f"Headroom: shown its rubric, the model that distillation starts from scores "
            f"{_said(scores['teacher'])} on {place}; without, {_said(scores['base'])}; with "
            f"another problem's rubric, {_said(scores['teacher, shuffled rubric'])}."
        )
    if "learned" in written and "direct" in written:
        sentences.append(_of_writer(written["learned"][name], written["direct"][name]))
    for arm in _DISTILLED_WITH:
        if arm in scores:
            sentences.append(_of_arm(arm, scores[arm], gaps))
    return sentences


def _of_writer(learned: Agreement, direct: Agreement) -> str:
    change = compare_agreements(learned, direct)
    order = ""
    if learned.verdict_agreement is not None and direct.verdict_agreement is not None:
        order = (
            f"; they order answers as gold does in {_said(learned.verdict_agreement)} of the "
            f"pairs, before it in {_said(direct.verdict_agreement)}"
        )
    return (
        f"Stage 1: the trained writer's rubrics match gold with an F1 of {_said(learned.f1)}, the "
        f"untrained one's with {_said(direct.f1)}, a change of {_said(change.f1)}{order}."
    )


_DISTILLED_WITH = {
    "gold": "with gold rubrics",
    "learned": "with the trained writer's rubrics",
    "direct": "with the untrained writer's rubrics",
    "generic": "with one generic rubric for all, a placebo,",
    "shuffled": "with shuffled rubrics, a placebo,",
    "random": "with rubrics of random criteria, a placebo,",
    "reduced": "with a part of each rubric",
    "noisy": "with rubrics of which a part is replaced at random",
}


def _of_arm(arm: str, score: Interval, gaps: Mapping[str, Interval]) -> str:
    """What one arm reaches, what it gains, and whether that comes from what rubrics say."""
    sentence = (
        f"Distilled {_DISTILLED_WITH[arm]} the student, shown no rubric, scores {_said(score)}"
    )
    gain = gaps.get(f"{arm} - base")
    if gain is not None:
        sentence += f", a gain of {_said(gain)}"
    over_empty = {p: gaps[f"{arm} - {p}"] for p in EMPTY if f"{arm} - {p}" in gaps}
    if gain is not None and over_empty:
        placebos = " and of ".join(f"{p} rubrics {_said(i)}" for p, i in over_empty.items())
        # Over each of them: the strongest placebo decides.
        holds = gain.low > 0 and all(interval.low > 0 for interval in over_empty.values())
        sentence += f"; over the placebo of {placebos}, so " + (
            "what the rubrics say helps" if holds else "no help of the rubrics' content is shown"
        )
    over_partial = {p: gaps[f"{arm} - {p}"] for p in PARTIAL if f"{arm} - {p}" in gaps}
    if over_partial:
        parts = " and over ".join(f"{p} ones {_said(i)}" for p, i in over_partial.items())
        sentence += f"; with whole rubrics over {parts}"
    return sentence + "."


def _said(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
