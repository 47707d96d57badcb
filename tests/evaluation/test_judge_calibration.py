"""Judges of known faults are measured, and the faults are found."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.judge_server import JudgeServer, data_of, judge_at

from rcsd import cli, config
from rcsd.data.load import load_answers
from rcsd.errors import DataError
from rcsd.evaluation.judge_calibration import (
    Accuracy,
    Agreement,
    Case,
    Pair,
    checked_cases,
    kappa,
    measure_accuracy,
    read_cases,
)
from rcsd.evaluation.judge_stability import (
    Stability,
    judge_cases,
    load_injections,
    measure_stability,
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
        ({"verdicts": [True, 1]}, r"'verdicts\[1\]'"),
        ({"text": None}, "field 'text'"),
        ({"rubric": None}, "measured by a rubric"),
        ({"rubric": [{"criterion": "a", "weight": 0}]}, r"'rubric\[0\]"),
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
    found = kappa(pairs(20, 5, 10, 15))
    assert found is not None  # p_o = 0.7, p_e = 0.5 * 0.4 + 0.5 * 0.6 = 0.5
    assert found.mean == pytest.approx(0.4)
    assert 0.1 < found.low < 0.4 < found.high < 0.7
    assert kappa(pairs(0, 0, 0, 9)) is None
    assert kappa([]) is None


def test_agreement_counts_the_unscored_apart() -> None:
    unscored = [Pair("x", True, None), Pair("y", False, None)]
    found = Agreement.from_pairs([*pairs(3, 1, 0, 4), *unscored])
    assert (found.num_verdicts, found.num_unscored) == (10, 2)
    assert (found.num_met, found.num_unmet) == (4, 4)
    assert covers(found.accuracy, 7 / 8)
    assert (found.lowest, found.highest) == (0.7, 0.9)
    assert covers(found.false_met, 0.25)
    assert covers(found.false_unmet, 0.0)


# Judges of known faults


def test_checks_in_code_agree_with_themselves_in_everything() -> None:
    accuracy, stability = run_accuracy(CodeJudge()), run_stability(CodeJudge(), 2)
    assert accuracy.agreement is not None
    assert accuracy.agreement.accuracy is not None
    assert accuracy.agreement.kappa is not None
    assert stability.repeats is not None
    assert stability.padding.flipped is not None
    assert accuracy.agreement.accuracy.mean == accuracy.agreement.kappa.mean == 1
    assert (stability.repeats.mean, stability.padding.flipped.mean) == (1, 0)
    assert stability.injections.num_verdicts > 20
    assert (stability.injections.flips, accuracy.wrong, stability.order) == ((), (), None)


def test_error_rates_are_found_with_intervals_that_cover_them(
    server: JudgeServer, judge: ModelJudge
) -> None:
    server.meets = erring
    accuracy, stability = run_accuracy(judge), run_stability(judge, 2)
    assert accuracy.agreement is not None
    assert covers(accuracy.agreement.false_met, 0.3)
    assert covers(accuracy.agreement.false_unmet, 0.1)
    assert accuracy.agreement.kappa is not None
    assert 0.4 < accuracy.agreement.kappa.mean < 0.8
    assert accuracy.agreement.num_unscored == accuracy.num_unscored_texts == 0
    assert {kind.title for kind in accuracy.kinds if kind.is_violation} >= {"mistake"}
    assert sum(kind.agreement.num_verdicts for kind in accuracy.kinds) == len(VERDICTS)
    assert len(accuracy.wrong) == round((1 - accuracy.agreement.lowest) * len(VERDICTS))
    assert stability.repeats is not None
    assert stability.order is not None
    assert stability.order.flipped is not None
    assert (stability.repeats.mean, stability.order.flipped.mean) == (1, 0)
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
    found = run_stability(judge).injections
    assert found.flipped is not None
    assert {flip["injection"] for flip in found.flips} == {name}
    assert found.flipped.mean == pytest.approx(len(found.flips) / found.num_verdicts)
    assert 0 < found.flipped.mean < 0.2


def test_a_judge_that_likes_length_is_found_out(server: JudgeServer, judge: ModelJudge) -> None:
    server.meets = lambda criterion, answer, _: len(answer) > 300 or truth_of(criterion, answer)
    met = run_stability(judge, 1, CASES[2::3]).padding.met
    assert met is not None
    assert met.low > 0


def test_a_judge_that_tires_of_long_lists_is_found_out(
    server: JudgeServer, judge: ModelJudge
) -> None:
    def tiring(body: dict[str, Any]) -> str:
        _, criteria = data_of(body["messages"][0]["content"])
        rows = [{"criterion": n, "met": place < 2} for place, n in enumerate(criteria)]
        return json.dumps({"verdicts": rows})

    server.reply = tiring
    order = run_stability(judge, 1, CASES[2::3]).order
    assert order is not None
    assert order.met is not None
    assert order.met.high < 0


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


def ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    monkeypatch.setattr("rcsd.cli.terminal.console._width", 200)
    monkeypatch.setattr(sys, "argv", ["rcsd", "judge", "check", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_the_command_shows_and_writes(
    server: JudgeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.meets = lambda *parts: "maybe" if "box" in parts[0] else erring(*parts)
    prices = {"prompt": 1, "completion": 2}
    tree = {"type": "model", "url": server.url, "model": "m", "asks": "several", "prices": prices}
    file = tmp_path / "judge.yaml"
    file.write_text(yaml.safe_dump({"judge": tree}))
    few = ("--num-problems", 4)
    out = tmp_path / "out"
    exit_code, text = ran(monkeypatch, capsys, file, *few, "--repeats", 2, "--out", out)
    assert exit_code == 0
    for part in ("baseline: always met", "criteria in reverse", "prompt injection", "cost 0.0"):
        assert part in text
    written = json.loads((out / "check.json").read_text())
    assert written["agreement"]["num_verdicts"] == sum(len(c.truth) for c in CASES[:12])
    assert (written["judge"], written["section"]["url"]) == (str(file), server.url)
    assert f"unclear {written['metrics']['judge/num_unscored/unclear']:.0f}." in text
    wrong = [json.loads(line) for line in (out / "wrong.jsonl").read_text().splitlines()]
    assert all(row["truth"] != row["judged"] for row in wrong)
    assert wrong
    assert ran(monkeypatch, capsys, file, "--out", out)[0] == 2
