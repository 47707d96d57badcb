"""Accuracy of a judge: its verdicts beside true ones, on labelled texts.

Legend of axes: C questions, R resamples, 4 pairs of verdicts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from rcsd.data.fields import RowModel, explain
from rcsd.data.rows import example_from_row, json_rows
from rcsd.errors import DataError
from rcsd.evaluation.statistics import (
    FloatArray,
    Interval,
    bootstrap_interval,
    resampling_weights,
)
from rcsd.graders.base import Judgement, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.types import Example, rubric_score

NUM_RESAMPLES = 4_000


@dataclass(frozen=True)
class Case:
    """A text with its true verdicts.

    Args:
        example: Question and rubric.
        text: The answer.
        truth: True verdict on each criterion; None: unknown.
        quality: Name of the answer's quality or origin; empty: unknown.
    """

    example: Example
    text: str
    truth: tuple[bool | None, ...]
    quality: str = ""

    def with_text(self, text: str) -> "Case":
        """The case of another text: truth by the checks; without a check it stays as it is."""
        checked = zip(CodeJudge().verdicts(self.example, text), self.truth, strict=True)
        truth = tuple(old if new is None else new for new, old in checked)
        return replace(self, text=text, truth=truth)


def checked_cases(answers: Sequence[tuple[Example, str, str]]) -> list[Case]:
    """Cases of examples, texts and their qualities; the truth is by the criteria's checks."""
    return [
        Case(example, text, tuple(CodeJudge().verdicts(example, text)), quality)
        for example, text, quality in answers
    ]


class LabelledRow(RowModel):
    """A labelled answer; a verdict is true, false, or null where nobody labelled one."""

    question: Any
    rubric: Any = None
    text: str
    verdicts: list[bool | None]
    quality: str = ""


def read_cases(path: Path) -> list[Case]:
    """Cases from JSON rows as `LabelledRow`.

    Raises:
        DataError: If the file cannot be read, or a row is malformed.
    """
    return [_case(row, path, line) for line, row in json_rows(path)]


def _case(row: Mapping[str, Any], path: Path, line: int) -> Case:
    try:
        read = LabelledRow.model_validate(row)
    except ValidationError as error:
        field, message = explain(error)
        raise DataError(message, path, line, field) from error
    fields = {"id": str(line), "question": read.question, "rubric": read.rubric}
    example = example_from_row(fields, path, line)
    if example.rubric is None:
        raise DataError("a judge is measured by a rubric's criteria", path, line, "rubric")
    if len(read.verdicts) != (num := len(example.rubric.criteria)):
        message = f"expected {num}, one for each criterion; got {len(read.verdicts)}"
        raise DataError(message, path, line, "verdicts")
    return Case(example, read.text, tuple(read.verdicts), read.quality)


class Pair(NamedTuple):
    """Two verdicts on one criterion of one text: the truth, and the judge's (None: unscored)."""

    question: str
    truth: bool
    verdict: bool | None


@dataclass(frozen=True)
class Agreement:
    """Agreement of a judge's verdicts with the truth. Shares are over scored verdicts.

    Args:
        num_verdicts: Number of verdicts.
        num_unscored: Number of verdicts that the judge left open.
        num_met: Scored verdicts whose truth is met.
        num_unmet: Scored verdicts whose truth is unmet.
        accuracy: Share that agrees; None: nothing was scored.
        lowest: Share of all that agrees if every unscored one is wrong.
        highest: Share of all that agrees if every unscored one is right.
        kappa: Cohen's kappa; None where judge or truth is constant.
        false_met: Share of the unmet that is called met; None: there are none.
        false_unmet: Share of the met that is called unmet; None: there are none.
    """

    num_verdicts: int
    num_unscored: int
    num_met: int
    num_unmet: int
    accuracy: Interval | None
    lowest: float
    highest: float
    kappa: Interval | None
    false_met: Interval | None
    false_unmet: Interval | None

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pair], seed: int = 0) -> "Agreement":
        """Agreement of pairs, at least one; the seed is that of the resampling."""
        scored = [pair for pair in pairs if pair.verdict is not None]
        num, num_right = len(pairs), sum(pair.verdict == pair.truth for pair in scored)
        num_unscored = num - len(scored)
        met = [(pair.question, not pair.verdict) for pair in scored if pair.truth]
        unmet = [(pair.question, bool(pair.verdict)) for pair in scored if not pair.truth]
        return cls(
            num_verdicts=num,
            num_unscored=num_unscored,
            num_met=len(met),
            num_unmet=len(unmet),
            accuracy=share([(p.question, p.verdict == p.truth) for p in scored], seed),
            lowest=num_right / num,
            highest=(num_right + num_unscored) / num,
            kappa=kappa(scored, seed),
            false_met=share(unmet, seed),
            false_unmet=share(met, seed),
        )


def share(values: Sequence[tuple[str, float]], seed: int = 0) -> Interval | None:
    """Mean of values by question, with an interval over questions; None without values."""
    if not values:
        return None
    questions, numbers = zip(*values, strict=True)
    return bootstrap_interval(
        [float(number) for number in numbers], questions, seed, num_resamples=NUM_RESAMPLES
    )


def kappa(pairs: Sequence[Pair], seed: int = 0) -> Interval | None:
    r"""Cohen's kappa, with a percentile interval over questions.

    ``kappa = (p_o - p_e) / (1 - p_e)``, p_o the share of equal verdicts and p_e the share that two
    judges with these shares of met verdicts agree on by chance (Cohen, "A coefficient of agreement
    for nominal scales", Educational and Psychological Measurement 20, 1960).

    Args:
        pairs: Scored pairs.
        seed: Seed of the resampling. Resamples without a kappa are left out.

    Returns:
        None where judge or truth is constant: all agreement may be chance.
    """
    index = {question: i for i, question in enumerate(dict.fromkeys(p.question for p in pairs))}
    count_C4 = np.zeros((len(index), 4))
    for pair in pairs:
        count_C4[index[pair.question], 2 * int(pair.truth) + bool(pair.verdict)] += 1
    if not pairs or math.isnan(mean := float(_kappa(count_C4.sum(axis=0)))):
        return None
    generator = np.random.default_rng(seed)
    weight_RC = resampling_weights(len(index), NUM_RESAMPLES, generator)
    low, high = np.nanquantile(_kappa(weight_RC @ count_C4), (0.025, 0.975))
    return Interval(mean, float(low), float(high), len(index))


def _kappa(count_R4: FloatArray) -> FloatArray:
    """Kappa of counts of (truth, verdict): unmet unmet, unmet met, met unmet, met met; or NaN."""
    p_R4 = count_R4 / count_R4.sum(axis=-1, keepdims=True)
    both, truth, verdict = p_R4[..., 3], p_R4[..., 2] + p_R4[..., 3], p_R4[..., 1] + p_R4[..., 3]
    observed = p_R4[..., 0] + both
    chance = truth * verdict + (1 - truth) * (1 - verdict)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def baseline_accuracies(truths: Sequence[bool]) -> dict[str, float]:
    """Accuracy of judges that read nothing; their kappa is 0."""
    rate = sum(truths) / len(truths)
    chance = rate**2 + (1 - rate) ** 2
    return {"always met": rate, "always unmet": 1 - rate, "met at the true rate": chance}


@dataclass(frozen=True)
class CriterionKind:
    """Agreement on the criteria of one title; violations cost points."""

    title: str
    is_violation: bool
    agreement: Agreement


@dataclass(frozen=True)
class Accuracy:
    """Verdicts and scores of a judge beside true ones.

    Args:
        num_texts: Number of texts.
        num_questions: Number of their questions; intervals are over these.
        agreement: Agreement with the truth; None: the judge gives no verdicts.
        kinds: Agreement by kind of criterion.
        baselines: Accuracy of judges that read nothing.
        score_error: Mean absolute difference of scores; None: nothing was scored.
        score_bias: Mean of the judge's score minus the true one.
        num_unscored_texts: Texts without a score.
        wrong: Each verdict that differs from the truth, as a row.
    """

    num_texts: int
    num_questions: int
    agreement: Agreement | None
    kinds: tuple[CriterionKind, ...]
    baselines: dict[str, float]
    score_error: Interval | None
    score_bias: Interval | None
    num_unscored_texts: int
    wrong: tuple[dict[str, Any], ...]

    def json(self) -> dict[str, Any]:
        """All numbers as plain values, without the wrong verdicts."""
        return {name: value for name, value in asdict(self).items() if name != "wrong"}


def measure_accuracy(
    cases: Sequence[Case], judgements: Sequence[Judgement], seed: int = 0
) -> Accuracy:
    """Compare a judge's verdicts and scores, one judgement for each case, with the truth.

    Raises:
        DataError: If no true verdict of any case is known.
    """
    truths = [verdict for case in cases for verdict in case.truth if verdict is not None]
    if not truths:
        raise DataError("no true verdict is known, so there is nothing to measure a judge by")
    pairs: list[Pair] = []
    by_kind: dict[tuple[bool, str], list[Pair]] = {}
    wrong, errors = [], []
    for case, judgement in zip(cases, judgements, strict=True):
        error = judgement.score - rubric_score(require_rubric(case.example), case.truth)
        if not math.isnan(error):
            errors.append((case.example.question, error))
        for index, criterion in enumerate(require_rubric(case.example).criteria):
            truth = case.truth[index]
            if truth is None or not judgement.verdicts:
                continue
            pair = Pair(case.example.question, truth, judgement.verdicts[index])
            pairs.append(pair)
            by_kind.setdefault((criterion.weight < 0, criterion.title), []).append(pair)
            if pair.verdict != truth:
                row = {"question": pair.question, "quality": case.quality, "text": case.text}
                row |= {"criterion": criterion.text, "truth": truth, "judged": pair.verdict}
                wrong.append(row | {"reason": judgement.reasons[index]})
    return Accuracy(
        num_texts=len(cases),
        num_questions=len({case.example.question for case in cases}),
        agreement=Agreement.from_pairs(pairs, seed) if pairs else None,
        kinds=tuple(
            CriterionKind(title, is_violation, Agreement.from_pairs(of_kind, seed))
            for (is_violation, title), of_kind in sorted(by_kind.items())
        ),
        baselines=baseline_accuracies(truths),
        score_error=share([(question, abs(error)) for question, error in errors], seed),
        score_bias=share(errors, seed),
        num_unscored_texts=sum(math.isnan(each.score) for each in judgements),
        wrong=tuple(wrong),
    )
