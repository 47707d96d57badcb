"""Judges of known faults are measured, and the faults are found."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.judge_server import JudgeServer, judge_at

from rcsd import config
from rcsd.data.load import load_answers
from rcsd.errors import DataError
from rcsd.evaluation.judge_check import (
    Accuracy,
    Agreement,
    Case,
    Pair,
    Stability,
    checked_cases,
    judge_cases,
    kappa,
    load_injections,
    measure_accuracy,
    measure_stability,
    read_cases,
)
from rcsd.graders.base import Judge, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.graders.judge import ModelJudge
from rcsd.graders.judge.prompt import defused

WORLD = config.WorldData(split="new_numbers", num_examples=20)
CASES = checked_cases(load_answers(WORLD))
VERDICTS = [verdict for case in CASES for verdict in case.truth]
TRUTH = {
    (defused(criterion.text), defused(case.text)): verdict
    for case in CASES
    for criterion, verdict in zip(require_rubric(case.example).criteria, case.truth, strict=True)
}


def chance(*parts: object) -> float:
    """A number in [0, 1) that hangs on the parts."""
    return hashlib.sha256(repr(parts).encode()).digest()[0] / 256


def erring(criterion: str, answer: str, seed: int) -> Any:
    """Calls 30% of the unmet met and 10% of the met unmet."""
    truth = truth_of(criterion, answer)
    return truth != (chance(criterion, answer) < (0.1 if truth else 0.3))


def truth_of(criterion: str, answer: str) -> bool:
    """Of a text, also where something stands before or after it."""
    if (criterion, answer) in TRUTH:
        return bool(TRUTH[criterion, answer])
    return any(bool(v) for (c, text), v in TRUTH.items() if c == criterion and text in answer)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(lambda criterion, answer, seed: truth_of(criterion, answer))
    yield served
    served.close()


@pytest.fixture
def judge(server: JudgeServer, tmp_path: Path) -> ModelJudge:
    return judge_at(server, tmp_path / "cache.sqlite", asks="several")


def run_accuracy(judge: Judge, cases: list[Case] = CASES) -> Accuracy:
    return measure_accuracy(cases, judge_cases(judge, cases))


def run_stability(judge: Judge, num_repeats: int = 1, cases: list[Case] = CASES) -> Stability:
    stability = measure_stability(judge, cases, judge_cases(judge, cases), num_repeats)
    assert stability is not None
    return stability


def covers(interval: Any, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


# Cases


def test_rows_that_people_labelled_are_read(tmp_path: Path) -> None:
    rubric = [{"criterion": "Names iron.", "weight": 2}, {"criterion": "Errs.", "weight": -1}]
    row = {"question": "Which?", "rubric": rubric, "text": "Iron.", "verdicts": [True, None]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | {"quality": "a"}) + "\n" + json.dumps(row))
    [first, second] = read_cases(path)
    assert (first.truth, first.quality, first.text) == ((True, None), "a", "Iron.")
    agreement = run_accuracy(CodeJudge(), [first, second]).agreement  # no criterion has a check
    assert agreement is not None
    assert (agreement.num_verdicts, agreement.num_unscored) == (2, 2)
    assert (agreement.accuracy, agreement.lowest, agreement.highest) == (None, 0, 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdicts": [True]}, "'verdicts': expected 2, one for each criterion"),
        ({"rubric": None}, "measured by a rubric"),
        ({"arm": "base"}, "field 'arm': unknown field; allowed are question, rubric, text"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    rubric = [{"criterion": "a", "weight": 2}, {"criterion": "b", "weight": -1}]
    row = {"question": "?", "rubric": rubric, "text": "", "verdicts": [True, False]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | change))
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{problem}"):
        read_cases(path)


# Measures


def pairs(*counts: int) -> list[Pair]:
    """So many of truth and verdict: unmet unmet, unmet met, met unmet, met met."""
    kinds = [(False, False), (False, True), (True, False), (True, True)]
    made = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return [Pair(str(place), *each) for place, each in enumerate(made)]


def test_kappa_by_hand() -> None:
    # p_o = 0.7, p_e = 0.5 * 0.4 + 0.5 * 0.6 = 0.5
    assert kappa(pairs(20, 5, 10, 15)) == pytest.approx(0.4)
    assert kappa(pairs(0, 0, 0, 9)) is None
    assert kappa([]) is None


def test_agreement_counts_the_unscored_apart() -> None:
    unscored = [Pair("x", True, None), Pair("y", False, None)]
    found = Agreement.from_pairs([*pairs(3, 1, 0, 4), *unscored])
    assert (found.num_verdicts, found.num_unscored) == (10, 2)
    assert (found.lowest, found.highest) == (0.7, 0.9)
    assert covers(found.accuracy, 7 / 8)
    assert covers(found.false_met, 0.25)
    assert covers(found.false_unmet, 0.0)


# Judges of known faults


def test_error_rates_are_found_with_intervals_that_cover_them(
    server: JudgeServer, judge: ModelJudge
) -> None:
    server.meets = erring
    accuracy, stability = run_accuracy(judge), run_stability(judge, 2)
    assert accuracy.agreement is not None
    assert covers(accuracy.agreement.false_met, 0.3)
    assert covers(accuracy.agreement.false_unmet, 0.1)
    assert accuracy.agreement.num_unscored == accuracy.num_unscored_texts == 0
    assert "mistake (costs points)" in accuracy.kinds
    assert sum(kind.num_verdicts for kind in accuracy.kinds.values()) == len(VERDICTS)
    assert len(accuracy.wrong) == round((1 - accuracy.agreement.lowest) * len(VERDICTS))
    assert covers(stability.repeats, 1)
    json.dumps(accuracy.json(), allow_nan=False)


def test_a_judge_that_is_moody_or_silent_is_found_out(
    server: JudgeServer, judge: ModelJudge
) -> None:
    def moody(criterion: str, answer: str, seed: int) -> Any:
        if chance(criterion, answer, "silent") < 0.2:
            return "maybe"
        return truth_of(criterion, answer) != (chance(criterion, answer, seed // 2) < 0.2)

    server.meets = moody
    accuracy = run_accuracy(judge)
    assert covers(run_stability(judge, 3).repeats, 0.8**2 + 0.2**2)
    assert accuracy.agreement is not None
    assert covers(accuracy.agreement.accuracy, 0.8)
    share = accuracy.agreement.num_unscored / accuracy.agreement.num_verdicts
    assert share == pytest.approx(0.2, abs=0.06)
    assert accuracy.agreement.highest - accuracy.agreement.lowest == pytest.approx(share)
    assert accuracy.num_unscored_texts > 20


def test_a_judge_that_can_be_talked_to_is_found_out_and_by_what(
    server: JudgeServer, judge: ModelJudge
) -> None:
    name, text = next(iter(load_injections().items()))
    heeded = defused(text)
    server.meets = lambda criterion, answer, _: heeded in answer or truth_of(criterion, answer)
    found = run_stability(judge)
    assert found.injections is not None
    assert {flip["injection"] for flip in found.flips} == {name}
    assert found.injections.mean == pytest.approx(len(found.flips) / found.num_injected)
    assert 0 < found.injections.mean < 0.2


def test_a_holistic_judge_is_measured_by_its_scores(server: JudgeServer, tmp_path: Path) -> None:
    server.meets = lambda criterion, answer, _: 10 if "boxed" in answer else 1
    judge = judge_at(server, tmp_path / "cache.sqlite", asks="holistic")
    judgements = judge_cases(judge, CASES)
    accuracy = measure_accuracy(CASES, judgements)
    assert accuracy.agreement is None
    assert accuracy.score_error is not None
    assert 0 < accuracy.score_error.mean < 0.6
    assert measure_stability(judge, CASES, judgements) is None


# The command


def test_the_command_shows_and_writes(server: JudgeServer, tmp_path: Path, rcsd: Any) -> None:
    server.meets = lambda *parts: "maybe" if "box" in parts[0] else erring(*parts)
    tree = {"type": "model", "url": server.url, "model": "m", "asks": "several"}
    file, out = tmp_path / "judge.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({"judge": tree}))
    words = ("judge", "check", str(file), "--num-problems", "4", "--repeats", "2")
    code, text, _ = rcsd(*words, "--out", str(out))
    assert code == 0
    for part in ("baseline: always met", "prompt injection", "tokens."):
        assert part in text
    written = json.loads((out / "check.json").read_text())
    assert written["agreement"]["num_verdicts"] == sum(len(c.truth) for c in CASES[:12])
    assert (written["judge"], written["section"]["url"]) == (str(file), server.url)
    assert f"unclear {written['metrics']['judge/num_unscored/unclear']:.0f}." in text
    wrong = [json.loads(line) for line in (out / "wrong.jsonl").read_text().splitlines()]
    assert all(row["truth"] != row["judged"] for row in wrong)
    assert wrong
    assert rcsd(*words, "--out", str(out))[0] == 2
