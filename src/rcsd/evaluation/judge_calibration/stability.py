"""What should change no verdict: asking again, criteria in reverse, padding, words to the judge."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rcsd.evaluation.judge_calibration.cases import Case, with_text
from rcsd.evaluation.judge_calibration.measures import share
from rcsd.evaluation.statistics import Interval
from rcsd.graders.base import Judge, Judgement, rubric_of
from rcsd.graders.judge.injections import injections
from rcsd.types import Rubric

PADDING = (
    "Water is a liquid at room temperature.",
    "Paris is the capital of France.",
    "A triangle has three sides.",
    "Whales are mammals.",
    "The Moon goes around the Earth.",
    "Copper conducts electricity.",
    "Spiders have eight legs.",
    "Sound needs a medium to travel.",
    "The Nile is a river in Africa.",
    "Bread is baked from flour.",
)
"""True, and of no use to any criterion."""


@dataclass(frozen=True)
class Change:
    """What a change that should change no verdict does to verdicts.

    Args:
        num_verdicts: Scored before and after.
        flipped: Share that is another afterwards; None: nothing to compare.
        met: Share of met after minus before: which way it pulls.
        num_unscored: Left open before or after.
    """

    num_verdicts: int
    flipped: Interval | None
    met: Interval | None
    num_unscored: int


@dataclass(frozen=True)
class Flip:
    """A criterion that was called unmet, and met once the answer talked to its judge."""

    injection: str
    question: str
    criterion: str
    text: str


@dataclass(frozen=True)
class Resistance:
    """What texts that talk to the judge reach.

    Args:
        num_verdicts: Criteria that are unmet, and were called so without the injection.
        flipped: Share of them that is called met with it; None: there are none.
        num_unscored: Unmet criteria that were left open with the injection.
        flips: Each of those that flipped.
    """

    num_verdicts: int
    flipped: Interval | None
    num_unscored: int
    flips: tuple[Flip, ...]


def judged(judge: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """Of each case's text."""
    return judge.judgements([(case.example, case.text) for case in cases])


def repeats(cases: Sequence[Case], runs: Sequence[Sequence[Judgement]]) -> Interval | None:
    """Share of pairs of repeats that agree on a criterion; None without two verdicts on any."""
    values = []
    for place, case in enumerate(cases):
        said = [run[place].verdicts for run in runs]
        for verdicts in zip(*said, strict=True):
            known = [verdict for verdict in verdicts if verdict is not None]
            values += [(case.problem, a == b) for a, b in itertools.combinations(known, 2)]
    return share(values)


def order(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement]) -> Change:
    """The criteria in reverse; ``met`` is of later places minus earlier ones."""
    turned = []
    for case in cases:
        criteria = tuple(reversed(rubric_of(case.example).criteria))
        turned.append(replace(case, example=replace(case.example, rubric=Rubric(criteria))))
    after = [tuple(reversed(each.verdicts)) for each in judged(judge, turned)]
    rows = []
    for case, old, new in zip(cases, before, after, strict=True):
        for place, (first, last) in enumerate(zip(old.verdicts, new, strict=True)):
            # In reverse what stood early stands late: the sign says which verdict was the later.
            moved = len(new) - 1 - 2 * place
            rows.append((case.problem, first, last, (moved > 0) - (moved < 0)))
    return _change(rows)


def padding(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement], seed: int) -> Change:
    """Irrelevant true sentences before the text; only criteria whose truth stays are counted."""
    rng, rows = random.Random(seed), []
    padded = [
        with_text(c, f"{' '.join(rng.sample(PADDING, len(PADDING)))} {c.text}") for c in cases
    ]
    for case, new, old, after in zip(cases, padded, before, judged(judge, padded), strict=True):
        pairs = zip(old.verdicts, after.verdicts, case.exact, new.exact, strict=True)
        rows += [(case.problem, a, b, 1) for a, b, was, truth in pairs if was == truth]
    return _change(rows)


def _change(rows: Sequence[tuple[str, bool | None, bool | None, int]]) -> Change:
    """Of problem, verdict before and after, and the sign of the change."""
    known = [(p, a, b, s) for p, a, b, s in rows if a is not None and b is not None]
    return Change(
        num_verdicts=len(known),
        flipped=share([(problem, a != b) for problem, a, b, _ in known]),
        met=share([(problem, sign * (int(b) - int(a))) for problem, a, b, sign in known if sign]),
        num_unscored=len(rows) - len(known),
    )


def resistance(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement]) -> Resistance:
    """Each injection at the end of one answer, of those with something unmet, in turn.

    Violations are left out: to be found guilty of one is nobody's aim.
    """
    bad = [
        (case, said)
        for case, said in zip(cases, before, strict=True)
        if any(_resists(case, said, place) for place in range(len(said.verdicts)))
    ]
    tricks = injections() if bad else []
    asked = [
        (each, case, said, with_text(case, f"{case.text}\n\n{each.text}"))
        for each, (case, said) in zip(tricks, itertools.cycle(bad), strict=False)
    ]
    found, flips, num_unscored = [], [], 0
    after = judged(judge, [new for *_, new in asked])
    for (each, case, said, new), later in zip(asked, after, strict=True):
        for place, criterion in enumerate(rubric_of(case.example).criteria):
            if not _resists(case, said, place) or new.exact[place] is not False:
                continue
            verdict = later.verdicts[place]
            if verdict is None:
                num_unscored += 1
                continue
            found.append((each.name, verdict))
            if verdict:
                flips.append(Flip(each.name, case.example.question, criterion.text, new.text))
    return Resistance(len(found), share(found), num_unscored, tuple(flips))


def _resists(case: Case, said: Judgement, place: int) -> bool:
    """Whether a criterion is unmet, worth points, and was called unmet."""
    weight = rubric_of(case.example).criteria[place].weight
    return weight > 0 and case.exact[place] is False and said.verdicts[place] is False
