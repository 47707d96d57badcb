"""Accuracy of a judge on texts with known verdicts, its stability and resistance to injections."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from rcsd.data.fields import RowModel, explain
from rcsd.data.json_files import json_rows
from rcsd.data.rows import example_from_row
from rcsd.errors import DataError
from rcsd.evaluation.statistics import Interval, bootstrap_interval
from rcsd.graders.base import Judge, Judgement, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.types import Example, Rubric, rubric_score

NUM_RESAMPLES = 4_000

# Texts


@dataclass(frozen=True)
class Case:
    """A text with its true verdict on each criterion (None: unknown), and its quality or origin."""

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
    """Cases from JSON rows as `LabelledRow`; a malformed one is a DataError."""
    cases = []
    for line, row in json_rows(path):
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
        cases.append(Case(example, read.text, tuple(read.verdicts), read.quality))
    return cases


def load_injections() -> dict[str, str]:
    """The packaged texts that try to talk a judge into a verdict, by the name of their trick."""
    lines = Path(__file__).with_name("judge_injections.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in lines.splitlines() if line]
    return {row["name"]: row["text"] for row in rows}


def judge_cases(judge: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """Judgements of the texts; those of a model on all criteria, also on those with checks."""
    keeps_checks = isinstance(judge, CodeJudge)
    return judge.judgements(
        [(c.example if keeps_checks else _without_checks(c.example), c.text) for c in cases]
    )


def _without_checks(example: Example) -> Example:
    criteria = (replace(criterion, check=None) for criterion in require_rubric(example).criteria)
    return replace(example, rubric=Rubric(tuple(criteria)))


# Accuracy


class Pair(NamedTuple):
    """Two verdicts on one criterion of one text: the truth, and the judge's (None: unscored)."""

    question: str
    truth: bool
    verdict: bool | None


@dataclass(frozen=True)
class Agreement:
    """Agreement of a judge's verdicts with the truth; shares are over scored verdicts.

    Of all verdicts `lowest` to `highest` agree, as the unscored ones are all wrong or all right.
    `false_met` is the share of the unmet that is called met. Nothing to divide by: None.
    """

    num_verdicts: int
    num_unscored: int
    accuracy: Interval | None
    lowest: float
    highest: float
    kappa: float | None
    false_met: Interval | None
    false_unmet: Interval | None

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pair]) -> "Agreement":
        """Agreement of pairs, at least one."""
        scored = [pair for pair in pairs if pair.verdict is not None]
        num, num_right = len(pairs), sum(pair.verdict == pair.truth for pair in scored)
        num_unscored = num - len(scored)
        met = [(pair.question, not pair.verdict) for pair in scored if pair.truth]
        unmet = [(pair.question, bool(pair.verdict)) for pair in scored if not pair.truth]
        return cls(
            num_verdicts=num,
            num_unscored=num_unscored,
            accuracy=share([(p.question, p.verdict == p.truth) for p in scored]),
            lowest=num_right / num,
            highest=(num_right + num_unscored) / num,
            kappa=kappa(scored),
            false_met=share(unmet),
            false_unmet=share(met),
        )


def share(values: Sequence[tuple[str, float]]) -> Interval | None:
    """Mean of values by question, with an interval over questions; None without values."""
    if not values:
        return None
    questions, numbers = zip(*values, strict=True)
    values_N = [float(number) for number in numbers]
    return bootstrap_interval(values_N, questions, num_resamples=NUM_RESAMPLES)


def kappa(pairs: Sequence[Pair]) -> float | None:
    """Cohen's kappa of scored pairs; None where all verdicts of judge and truth are the same.

    ``kappa = (p_o - p_e) / (1 - p_e)``, p_o the share of equal verdicts and p_e the share that two
    judges with these shares of met verdicts agree on by chance (Cohen, "A coefficient of agreement
    for nominal scales", Educational and Psychological Measurement 20, 1960).
    """
    if not pairs:
        return None
    rows = [(pair.truth == pair.verdict, pair.truth, bool(pair.verdict)) for pair in pairs]
    observed, truth, verdict = np.array(rows, dtype=np.float64).mean(axis=0)
    chance = truth * verdict + (1 - truth) * (1 - verdict)
    return float((observed - chance) / (1 - chance)) if chance < 1 else None


@dataclass(frozen=True)
class Accuracy:
    """Verdicts and scores of a judge beside true ones; intervals are over questions.

    ``agreement`` is None where the judge gives no verdicts; ``kinds`` has it by title of criterion;
    ``baselines`` are accuracies of judges that read nothing, whose kappa is 0. ``score_error`` is
    the mean absolute difference of scores, ``score_bias`` the mean of judge - truth. ``wrong`` has
    a row for each verdict that differs from the truth.
    """

    num_texts: int
    num_questions: int
    agreement: Agreement | None
    kinds: dict[str, Agreement]
    baselines: dict[str, float]
    score_error: Interval | None
    score_bias: Interval | None
    num_unscored_texts: int
    wrong: tuple[dict[str, Any], ...]

    def json(self) -> dict[str, Any]:
        """All numbers as plain values, without the wrong verdicts."""
        return {name: value for name, value in asdict(self).items() if name != "wrong"}


def measure_accuracy(cases: Sequence[Case], judgements: Sequence[Judgement]) -> Accuracy:
    """Compare a judge's verdicts and scores, one judgement for each case, with the truth.

    Raises DataError if no true verdict of any case is known.
    """
    truths = [verdict for case in cases for verdict in case.truth if verdict is not None]
    if not truths:
        raise DataError("no true verdict is known, so there is nothing to measure a judge by")
    by_kind: dict[tuple[bool, str], list[Pair]] = {}
    wrong, errors = [], []
    for case, judgement in zip(cases, judgements, strict=True):
        rubric, question = require_rubric(case.example), case.example.question
        error = judgement.score - rubric_score(rubric, case.truth)
        if not math.isnan(error):
            errors.append((question, error))
        judged = zip(judgement.verdicts, judgement.reasons, strict=False)  # one score: no verdicts
        for criterion, truth, (verdict, reason) in zip(
            rubric.criteria, case.truth, judged, strict=False
        ):
            if truth is None:
                continue
            kind = criterion.weight < 0, criterion.title or "(no title)"
            by_kind.setdefault(kind, []).append(Pair(question, truth, verdict))
            if verdict != truth:
                row = {"question": question, "quality": case.quality, "text": case.text}
                row |= {"criterion": criterion.text, "truth": truth, "judged": verdict}
                wrong.append(row | {"reason": reason})
    pairs = list(itertools.chain(*by_kind.values()))
    rate = sum(truths) / len(truths)
    return Accuracy(
        num_texts=len(cases),
        num_questions=len({case.example.question for case in cases}),
        agreement=Agreement.from_pairs(pairs) if pairs else None,
        kinds={
            title + " (costs points)" * is_violation: Agreement.from_pairs(of_kind)
            for (is_violation, title), of_kind in sorted(by_kind.items())
        },
        baselines={
            "always met": rate,
            "always unmet": 1 - rate,
            "met at the true rate": rate**2 + (1 - rate) ** 2,
        },
        score_error=share([(question, abs(error)) for question, error in errors]),
        score_bias=share(errors),
        num_unscored_texts=sum(math.isnan(each.score) for each in judgements),
        wrong=tuple(wrong),
    )


# Stability


@dataclass(frozen=True)
class Stability:
    """Verdicts of a judge when it is asked again, and when a text talks to it.

    ``repeats`` is the share of pairs of repeats that agree; None: judged once. ``injections`` is
    the share flipped of ``num_injected`` verdicts on criteria that are unmet and were called so;
    ``num_unscored`` more were left open. ``flips`` has a row for each that flipped.
    """

    repeats: Interval | None
    injections: Interval | None
    num_injected: int
    num_unscored: int
    flips: tuple[dict[str, str], ...]


def measure_stability(
    judge: Judge, cases: Sequence[Case], judgements: Sequence[Judgement], num_repeats: int = 3
) -> Stability | None:
    """Judge texts again, unchanged and with each injection at the end of one of them, in turn.

    Violations are left out: nobody aims at being called guilty of one. ``judgements`` are the
    first of `num_repeats` for each text. None where the judge gives no verdicts.
    """
    if not any(judgement.verdicts for judgement in judgements):
        return None
    runs = [judgements]
    for sample in range(1, num_repeats):
        runs.append(judge_cases(judge.resampled(sample), cases))
    bad = [
        (case, criteria)
        for case, judgement in zip(cases, judgements, strict=True)
        if (criteria := _open_criteria(case, judgement))
    ]
    tried = [
        (name, criteria, case.with_text(f"{case.text}\n\n{text}"))
        for (name, text), (case, criteria) in zip(
            load_injections().items(), itertools.cycle(bad), strict=False
        )
    ]
    verdicts, flips = [], []
    after = judge_cases(judge, [case for *_, case in tried])
    for (name, criteria, case), new in zip(tried, after, strict=True):
        for index in criteria:
            if case.truth[index] is not False:
                continue
            verdicts.append((name, new.verdicts[index]))
            if new.verdicts[index]:
                criterion = require_rubric(case.example).criteria[index].text
                row = {"injection": name, "question": case.example.question}
                flips.append(row | {"criterion": criterion, "text": case.text})
    scored = [(name, verdict) for name, verdict in verdicts if verdict is not None]
    num_unscored = len(verdicts) - len(scored)
    return Stability(_repeats(cases, runs), share(scored), len(scored), num_unscored, tuple(flips))


def _open_criteria(case: Case, judgement: Judgement) -> list[int]:
    """Indices of criteria that are worth points, unmet, and were called unmet."""
    columns = zip(
        require_rubric(case.example).criteria, case.truth, judgement.verdicts, strict=False
    )
    return [
        index
        for index, (criterion, *verdicts) in enumerate(columns)
        if criterion.weight > 0 and verdicts == [False, False]
    ]


def _repeats(cases: Sequence[Case], runs: Sequence[Sequence[Judgement]]) -> Interval | None:
    """Share of pairs of repeats that agree on a criterion; None without two verdicts on any."""
    values = []
    for case, *judgements in zip(cases, *runs, strict=True):
        for verdicts in zip(*(judgement.verdicts for judgement in judgements), strict=True):
            scored = [verdict for verdict in verdicts if verdict is not None]
            pairs = itertools.combinations(scored, 2)
            values += [(case.example.question, a == b) for a, b in pairs]
    return share(values)
