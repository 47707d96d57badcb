"""What a judge is worth: measured against verdicts that are known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rcsd.errors import DataError
from rcsd.evaluation.judge_calibration.cases import Case
from rcsd.evaluation.judge_calibration.measures import (
    Agreement,
    Pair,
    Placebo,
    agreement,
    placebos,
    share,
)
from rcsd.evaluation.judge_calibration.stability import (
    Change,
    Resistance,
    judged,
    order,
    padding,
    repeats,
    resistance,
)
from rcsd.evaluation.statistics import Interval, paired_difference
from rcsd.graders.base import Judge, Judgement, rubric_of
from rcsd.graders.judge import ModelJudge
from rcsd.types import rubric_score


@dataclass(frozen=True)
class Kind:
    """Agreement on the criteria of one title.

    Args:
        title: Of the criteria; empty: they have none.
        violation: Whether they cost points.
        agreement: With the truth.
    """

    title: str
    violation: bool
    agreement: Agreement


@dataclass(frozen=True)
class Arms:
    """What a judge makes of a comparison of two arms: first minus second, on the same questions.

    Args:
        first: An arm.
        second: Another.
        differences: Of mean scores, by who judged: ``truth``, ``judge`` and ``other``.
        num_questions: That all of them scored in both arms.
    """

    first: str
    second: str
    differences: dict[str, Interval]
    num_questions: int


@dataclass(frozen=True)
class Against:
    """Two judges beside each other.

    Args:
        agreement: The other's verdicts compared with the judge's, where the judge has one.
        truth: The other's verdicts compared with the truth.
    """

    agreement: Agreement
    truth: Agreement


@dataclass(frozen=True)
class Calibration:
    """Everything that was measured of a judge.

    Args:
        num_texts: That were judged.
        num_problems: They answer; intervals are over these.
        agreement: With the truth; None: the judge gives no verdicts.
        kinds: The same by kind of criterion.
        placebos: What is reached without reading.
        score_error: Mean of the absolute difference of scores; None: nothing was scored.
        score_bias: Mean of the judge's score minus the true one.
        num_unscored_texts: Without a score.
        repeats: Share of pairs of repeats that agree; None: asked once, or no verdicts.
        order: The criteria in reverse; None: each is asked for alone, or there are no verdicts.
        padding: Irrelevant sentences in the text.
        resistance: To texts that talk to the judge.
        against: Another judge; None: there is none.
        arms: What the judges make of a comparison; None: there are no two arms.
        metrics: What judging took.
        wrong: Each verdict that is not the truth, as a row.
    """

    num_texts: int
    num_problems: int
    agreement: Agreement | None
    kinds: tuple[Kind, ...]
    placebos: tuple[Placebo, ...]
    score_error: Interval | None
    score_bias: Interval | None
    num_unscored_texts: int
    repeats: Interval | None
    order: Change | None
    padding: Change | None
    resistance: Resistance | None
    against: Against | None
    arms: Arms | None
    metrics: dict[str, float]
    wrong: tuple[dict[str, Any], ...]

    def json(self) -> dict[str, Any]:
        """All numbers, as plain values; wrong verdicts left out.

        ``sensitivity``, the share of the met that is called met, and ``specificity``, the share of
        the unmet that is called unmet, come with ``num_met`` and ``num_unmet``, the verdicts
        behind them.
        """
        row = asdict(self)
        del row["wrong"]
        found = self.agreement
        if found is None or found.false_met is None or found.false_unmet is None:
            return row
        return row | {
            "sensitivity": 1 - found.false_unmet.mean,
            "num_met": found.num_met,
            "specificity": 1 - found.false_met.mean,
            "num_unmet": found.num_unmet,
        }


def calibration(
    judge: Judge,
    cases: Sequence[Case],
    num_repeats: int = 3,
    other: Judge | None = None,
    seed: int = 0,
) -> Calibration:
    """Measure a judge on texts whose verdicts are known.

    Args:
        judge: Is measured.
        cases: The texts.
        num_repeats: How often each text is judged, at least 1.
        other: Is compared with it.
        seed: Of the padding and the intervals.

    Raises:
        DataError: If no verdict of any case is known.
        RunError: If a judge's server refuses, or stays away.
    """
    truths = [verdict for case in cases for verdict in case.exact if verdict is not None]
    if not truths:
        raise DataError("no verdict is known, so there is nothing to measure a judge by")
    runs = [judged(_resampled(judge, sample), cases) for sample in range(num_repeats)]
    said = runs[0]
    has_verdicts = any(judgement.verdicts for judgement in said)
    # Padding and order are tried on what is neither all right nor all wrong, where there is such.
    tried = [place for place, case in enumerate(cases) if case.arm in ("partial", "")]
    tried = tried or list(range(len(cases)))
    some, before = [cases[p] for p in tried], [said[p] for p in tried]
    others = None if other is None else judged(other, cases)
    errors = _score_errors(cases, said)
    return Calibration(
        num_texts=len(cases),
        num_problems=len({case.problem for case in cases}),
        agreement=agreement(_pairs(cases, said), seed) if has_verdicts else None,
        kinds=_kinds(cases, said, seed) if has_verdicts else (),
        placebos=placebos(truths),
        score_error=share([(problem, abs(error)) for problem, error in errors], seed),
        score_bias=share(errors, seed),
        num_unscored_texts=sum(math.isnan(each.score) for each in said),
        repeats=repeats(cases, runs) if num_repeats > 1 else None,
        order=order(judge, some, before) if has_verdicts and _sees_order(judge) else None,
        padding=padding(judge, some, before, seed) if has_verdicts else None,
        resistance=resistance(judge, cases, said) if has_verdicts else None,
        against=_against(cases, said, others, seed) if has_verdicts and others else None,
        arms=_arms(cases, {"judge": said} | ({"other": others} if others else {}), seed),
        metrics=judge.metrics() if isinstance(judge, ModelJudge) else {},
        wrong=tuple(_wrong(cases, said)),
    )


def _resampled(judge: Judge, sample: int) -> Judge:
    """A judge in code says the same again."""
    return judge.resampled(sample) if isinstance(judge, ModelJudge) else judge


def _sees_order(judge: Judge) -> bool:
    return isinstance(judge, ModelJudge) and judge.asks.type == "several"


def _rows(cases: Sequence[Case], said: Sequence[Judgement]) -> list[tuple[Case, int, Pair, str]]:
    """Case, place of the criterion, both verdicts and the reason, where the truth is known."""
    rows = []
    for case, judgement in zip(cases, said, strict=True):
        for place, truth in enumerate(case.exact if judgement.verdicts else ()):
            if truth is not None:
                pair = Pair(case.problem, truth, judgement.verdicts[place])
                rows.append((case, place, pair, judgement.reasons[place]))
    return rows


def _pairs(cases: Sequence[Case], said: Sequence[Judgement]) -> list[Pair]:
    return [pair for _, _, pair, _ in _rows(cases, said)]


def _kinds(cases: Sequence[Case], said: Sequence[Judgement], seed: int) -> tuple[Kind, ...]:
    pairs: dict[tuple[bool, str], list[Pair]] = {}
    for case, place, pair, _ in _rows(cases, said):
        criterion = rubric_of(case.example).criteria[place]
        pairs.setdefault((criterion.weight < 0, criterion.title), []).append(pair)
    found = sorted(pairs.items())
    return tuple(Kind(title, cost, agreement(of, seed)) for (cost, title), of in found)


def _wrong(cases: Sequence[Case], said: Sequence[Judgement]) -> list[dict[str, Any]]:
    return [
        {
            "question": case.example.question,
            "arm": case.arm,
            "criterion": rubric_of(case.example).criteria[place].text,
            "text": case.text,
            "truth": pair.truth,
            "judged": pair.given,
            "reason": reason,
        }
        for case, place, pair, reason in _rows(cases, said)
        if pair.given != pair.truth
    ]


def _true_score(case: Case) -> float:
    return rubric_score(rubric_of(case.example), case.exact)


def _score_errors(cases: Sequence[Case], said: Sequence[Judgement]) -> list[tuple[str, float]]:
    errors = [
        (case.problem, judgement.score - _true_score(case))
        for case, judgement in zip(cases, said, strict=True)
    ]
    return [(problem, error) for problem, error in errors if not math.isnan(error)]


def _against(
    cases: Sequence[Case], said: Sequence[Judgement], others: Sequence[Judgement], seed: int
) -> Against | None:
    """None where the other gives no verdicts, or the two have none in common to compare."""
    ours = [Case(c.example, c.text, s.verdicts) for c, s in zip(cases, said, strict=True)]
    between, truth = _pairs(ours, others), _pairs(cases, others)
    if not between or not truth:
        return None
    return Against(agreement(between, seed), agreement(truth, seed))


def _arms(cases: Sequence[Case], said: Mapping[str, Sequence[Judgement]], seed: int) -> Arms | None:
    """Of the first two arms; one text of each arm a question, the first."""
    names = list(dict.fromkeys(case.arm for case in cases if case.arm))[:2]
    if len(names) < 2:
        return None
    scores = {"truth": [_true_score(case) for case in cases]}
    scores |= {who: [judgement.score for judgement in of] for who, of in said.items()}
    places: dict[tuple[str, str], int] = {}
    for place, case in enumerate(cases):
        places.setdefault((case.problem, case.arm), place)
    pairs: list[tuple[int, int]] = []
    for problem in dict.fromkeys(case.problem for case in cases):
        first, second = (places.get((problem, name)) for name in names)
        if first is not None and second is not None:
            pairs.append((first, second))
    pairs = [
        pair for pair in pairs if not any(math.isnan(of[p]) for of in scores.values() for p in pair)
    ]
    if not pairs:
        return None
    differences = {
        who: paired_difference([of[a] for a, _ in pairs], [of[b] for _, b in pairs], seed)
        for who, of in scores.items()
    }
    return Arms(names[0], names[1], differences, len(pairs))
