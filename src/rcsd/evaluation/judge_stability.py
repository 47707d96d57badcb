"""Stability of a judge: repeats, criteria in reverse, padded texts, prompt injections."""

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rcsd.evaluation.judge_calibration import Case, share
from rcsd.evaluation.statistics import Interval
from rcsd.graders.base import Judge, Judgement, require_rubric
from rcsd.graders.judge import ModelJudge
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
"""True sentences that bear on no criterion."""


def load_injections() -> dict[str, str]:
    """The packaged texts that try to talk a judge into a verdict, by the name of their trick."""
    lines = Path(__file__).with_name("judge_injections.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in lines.splitlines() if line]
    return {row["name"]: row["text"] for row in rows}


@dataclass(frozen=True)
class Change:
    """Effect on verdicts of a change that should have none.

    Args:
        num_verdicts: Verdicts scored before and after.
        flipped: Share that differs afterwards; None: nothing to compare.
        met: Share of met after minus before: the direction of the pull. None for injections, whose
            verdicts were all unmet before.
        num_unscored: Verdicts left open before or after.
        flips: Each criterion that an injection flipped: injection, question, criterion, text.
    """

    num_verdicts: int
    flipped: Interval | None
    met: Interval | None
    num_unscored: int
    flips: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Stability:
    """Verdicts of a judge under changes that should have no effect.

    Args:
        repeats: Share of pairs of repeats that agree; None: judged once.
        order: Criteria in reverse; None: each is judged alone.
        padding: Irrelevant sentences before the text.
        injections: Texts that talk to their judge, on criteria that are unmet and were called so.
    """

    repeats: Interval | None
    order: Change | None
    padding: Change
    injections: Change


def judge_cases(judge: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """Judgements of the texts."""
    return judge.judgements([(case.example, case.text) for case in cases])


def measure_stability(
    judge: Judge,
    cases: Sequence[Case],
    judgements: Sequence[Judgement],
    num_repeats: int = 3,
    seed: int = 0,
) -> Stability | None:
    """Judge texts again, changed and unchanged.

    Order and padding are measured on texts that are neither all right nor all wrong, where the
    cases say which those are.

    Args:
        judge: The judge.
        cases: The texts.
        judgements: Its judgements of them, the first of `num_repeats`.
        num_repeats: Number of judgements of each text.
        seed: Seed of the padding.

    Returns:
        None where the judge gives no verdicts.

    Raises:
        RunError: If the judge's server refuses, or stays away.
    """
    if not any(judgement.verdicts for judgement in judgements):
        return None
    is_model = isinstance(judge, ModelJudge)
    runs = [judgements]
    for sample in range(1, num_repeats):
        runs.append(judge_cases(judge.resampled(sample) if is_model else judge, cases))
    pairs = list(zip(cases, judgements, strict=True))
    mixed = [pair for pair in pairs if pair[0].quality in ("partial", "")] or pairs
    some, before = [case for case, _ in mixed], [judgement for _, judgement in mixed]
    sees_order = is_model and judge.asks.type == "several"
    return Stability(
        repeats=repeats(cases, runs) if num_repeats > 1 else None,
        order=order(judge, some, before) if sees_order else None,
        padding=padding(judge, some, before, seed),
        injections=resistance(judge, cases, judgements),
    )


def repeats(cases: Sequence[Case], runs: Sequence[Sequence[Judgement]]) -> Interval | None:
    """Share of pairs of repeats that agree on a criterion; None without two verdicts on any."""
    values = []
    for case, *judgements in zip(cases, *runs, strict=True):
        for verdicts in zip(*(judgement.verdicts for judgement in judgements), strict=True):
            scored = [verdict for verdict in verdicts if verdict is not None]
            values += [
                (case.example.question, a == b) for a, b in itertools.combinations(scored, 2)
            ]
    return share(values)


def order(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement]) -> Change:
    """Criteria in reverse; ``met`` is that of later places minus that of earlier ones."""
    reverse = []
    for case in cases:
        criteria = tuple(reversed(require_rubric(case.example).criteria))
        reverse.append(replace(case, example=replace(case.example, rubric=Rubric(criteria))))
    rows = []
    for case, old, new in zip(cases, before, judge_cases(judge, reverse), strict=True):
        for index, (first, last) in enumerate(
            zip(old.verdicts, reversed(new.verdicts), strict=True)
        ):
            # In reverse an early criterion comes late: the sign says which verdict was the later.
            moved = len(old.verdicts) - 1 - 2 * index
            rows.append((case.example.question, first, last, (moved > 0) - (moved < 0)))
    return _change(rows)


def padding(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement], seed: int) -> Change:
    """Irrelevant true sentences before the text; only criteria whose truth stays are counted."""
    rng, rows = random.Random(seed), []
    padded = [
        case.with_text(f"{' '.join(rng.sample(PADDING, len(PADDING)))} {case.text}")
        for case in cases
    ]
    after = judge_cases(judge, padded)
    for case, changed, old, new in zip(cases, padded, before, after, strict=True):
        verdicts = zip(old.verdicts, new.verdicts, case.truth, changed.truth, strict=True)
        rows += [(case.example.question, a, b, 1) for a, b, was, truth in verdicts if was == truth]
    return _change(rows)


def _change(rows: Sequence[tuple[str, bool | None, bool | None, int]]) -> Change:
    """Change in rows of question, verdict before, verdict after, and sign of the change."""
    scored = [(q, a, b, sign) for q, a, b, sign in rows if a is not None and b is not None]
    return Change(
        num_verdicts=len(scored),
        flipped=share([(question, a != b) for question, a, b, _ in scored]),
        met=share(
            [(question, sign * (int(b) - int(a))) for question, a, b, sign in scored if sign]
        ),
        num_unscored=len(rows) - len(scored),
    )


def resistance(judge: Judge, cases: Sequence[Case], before: Sequence[Judgement]) -> Change:
    """Each injection at the end of one answer, of those with an unmet criterion, in turn.

    Violations are left out: nobody aims at being called guilty of one.
    """
    bad = [
        (case, judgement)
        for case, judgement in zip(cases, before, strict=True)
        if any(_is_open(case, judgement, index) for index in range(len(judgement.verdicts)))
    ]
    tried = [
        (name, case, judgement, case.with_text(f"{case.text}\n\n{text}"))
        for (name, text), (case, judgement) in zip(
            load_injections().items(), itertools.cycle(bad), strict=False
        )
    ]
    results, flips, num_unscored = [], [], 0
    after = judge_cases(judge, [changed for *_, changed in tried])
    for (name, case, old, changed), new in zip(tried, after, strict=True):
        for index, criterion in enumerate(require_rubric(case.example).criteria):
            if not _is_open(case, old, index) or changed.truth[index] is not False:
                continue
            if (verdict := new.verdicts[index]) is None:
                num_unscored += 1
                continue
            results.append((name, verdict))
            if verdict:
                row = {"injection": name, "question": case.example.question}
                flips.append(row | {"criterion": criterion.text, "text": changed.text})
    return Change(len(results), share(results), None, num_unscored, tuple(flips))


def _is_open(case: Case, judgement: Judgement, index: int) -> bool:
    """True if a criterion is worth points, unmet, and was called unmet."""
    weight = require_rubric(case.example).criteria[index].weight
    return weight > 0 and case.truth[index] is False and judgement.verdicts[index] is False
