"""Judges of known faults are measured, and the faults are found."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from rcsd.evaluation.judge_calibration.cases import ARMS, Case, read_cases, world_cases
from rcsd.evaluation.judge_calibration.measures import Pair, agreement, kappa, placebos
from rcsd.graders.judge.asking import defused
from rcsd.graders.judge.injections import injections
from tests.support.judge_server import JudgeServer, data_of

from rcsd import cli, config
from rcsd.config.base import parse
from rcsd.errors import DataError
from rcsd.evaluation.judge_calibration import Calibration, calibration
from rcsd.graders.base import rubric_of
from rcsd.graders.build import asking_judge
from rcsd.graders.code import CodeJudge
from rcsd.graders.judge import ModelJudge
from rcsd.graders.judge.server import ServerChat

CASES = world_cases(20, 0)
TRUTH = {
    (defused(criterion.text), defused(case.text)): verdict
    for case in CASES
    for criterion, verdict in zip(rubric_of(case.example).criteria, case.exact, strict=True)
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


def judge_at(server: JudgeServer, tmp_path: Path, asks: Any = "several") -> ModelJudge:
    tree = {"type": "model", "url": server.url, "model": "m", "asks": asks}
    tree["cache"] = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
    section = parse(config.Judging, {"judge": tree}, "").judge
    assert isinstance(section, config.ModelJudge)
    return asking_judge(section, ServerChat(section, first_pause=0.01))


# Cases


def test_the_worlds_answers_meet_some_criteria_and_not_others() -> None:
    verdicts = [verdict for case in CASES for verdict in case.exact]
    assert 0.3 < sum(map(bool, verdicts)) / len(verdicts) < 0.7
    assert [case.arm for case in CASES[:3]] == list(ARMS)
    assert None not in verdicts


def test_rows_that_people_labelled_are_read(tmp_path: Path) -> None:
    rubric = [{"criterion": "Names iron.", "weight": 2}, {"criterion": "Errs.", "weight": -1}]
    row = {"question": "Which?", "rubric": rubric, "text": "Iron.", "verdicts": [True, None]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | {"arm": "a"}) + "\n" + json.dumps(row))
    [first, second] = read_cases(path)
    assert (first.exact, first.arm, first.text) == ((True, None), "a", "Iron.")
    assert second.problem == first.problem
    found = calibration(CodeJudge(), [first, second], 1)  # no criterion has a check
    assert found.agreement is not None
    assert (found.agreement.num_verdicts, found.agreement.num_unscored) == (2, 2)
    assert (found.agreement.accuracy, found.agreement.lowest, found.agreement.highest) == (
        None,
        0,
        1,
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdicts": [True]}, "expected 2 of true, false and null"),
        ({"verdicts": [True, 1]}, "expected 2 of true, false and null"),
        ({"verdicts": None}, "expected 2 of"),
        ({"text": None}, "field 'text': expected a text"),
        ({"arm": 3}, "field 'arm': expected a name"),
        ({"rubric": None}, "measured by a rubric"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    rubric = [{"criterion": "a", "weight": 2}, {"criterion": "b", "weight": -1}]
    row = {"question": "?", "rubric": rubric, "text": "", "verdicts": [True, False]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | change))
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{problem}|{problem}"):
        read_cases(path)


# Measures


def pairs(*counts: int) -> list[Pair]:
    """So many of truth and given: unmet unmet, unmet met, met unmet, met met."""
    kinds = [(False, False), (False, True), (True, False), (True, True)]
    made = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return [Pair(place, *each) for place, each in enumerate(made)]


def test_kappa_by_hand() -> None:
    found = kappa(pairs(20, 5, 10, 15))
    assert found is not None  # p_o = 0.7, p_e = 0.5 * 0.4 + 0.5 * 0.6 = 0.5
    assert found.mean == pytest.approx(0.4)
    assert 0.1 < found.low < 0.4 < found.high < 0.7
    assert kappa(pairs(0, 0, 0, 9)) is None
    assert kappa([]) is None


def test_agreement_counts_the_unscored_apart() -> None:
    found = agreement([*pairs(3, 1, 0, 4), Pair("x", True, None), Pair("y", False, None)])
    assert (found.num_verdicts, found.num_unscored) == (10, 2)
    assert found.accuracy is not None
    assert found.false_met is not None
    assert found.false_unmet is not None
    assert (found.accuracy.mean, found.lowest, found.highest) == (7 / 8, 0.7, 0.9)
    assert (found.false_met.mean, found.false_unmet.mean) == (0.25, 0.0)


def test_placebos_by_hand() -> None:
    found = [each.accuracy for each in placebos([True, True, True, False])]
    assert found == [0.75, 0.25, 0.625]


# Judges of known faults


def test_checks_in_code_agree_with_themselves_in_everything() -> None:
    found = calibration(CodeJudge(), CASES, 2)
    assert found.agreement is not None
    assert found.agreement.accuracy is not None
    assert found.agreement.kappa is not None
    assert found.repeats is not None
    assert found.padding is not None
    assert found.padding.flipped is not None
    assert found.resistance is not None
    assert found.arms is not None
    assert found.agreement.accuracy.mean == found.agreement.kappa.mean == found.repeats.mean == 1
    assert found.padding.flipped.mean == 0
    assert found.resistance.num_verdicts > 20
    assert found.resistance.flips == ()
    assert found.arms.differences["truth"] == found.arms.differences["judge"]
    assert found.arms.differences["truth"].mean > 0.5
    assert found.wrong == ()
    assert found.order is None


def covers(interval: Any, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


def test_error_rates_are_found_with_intervals_that_cover_them(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.meets = erring
    judge = judge_at(server, tmp_path)
    found = calibration(judge, CASES, 2)
    assert found.agreement is not None
    assert covers(found.agreement.false_met, 0.3)
    assert covers(found.agreement.false_unmet, 0.1)
    assert found.agreement.kappa is not None
    assert 0.4 < found.agreement.kappa.mean < 0.8
    assert found.agreement.num_unscored == found.num_unscored_texts == 0
    assert {kind.title for kind in found.kinds if kind.violation} >= {"mistake"}
    assert sum(kind.agreement.num_verdicts for kind in found.kinds) == len(TRUTH_VERDICTS)
    assert len(found.wrong) == round((1 - found.agreement.lowest) * len(TRUTH_VERDICTS))
    assert found.repeats is not None
    assert found.repeats.mean == 1
    assert found.order is not None
    assert found.order.flipped is not None
    assert found.order.flipped.mean == 0
    assert found.arms is not None
    assert found.arms.differences["judge"].mean < found.arms.differences["truth"].mean
    assert found.metrics["judge/num_calls"] == len(server.asked)
    json.dumps(found.json(), allow_nan=False)


TRUTH_VERDICTS = [verdict for case in CASES for verdict in case.exact]


def test_a_judge_that_is_moody_or_silent_is_found_out(server: JudgeServer, tmp_path: Path) -> None:
    def moody(criterion: str, answer: str, seed: int) -> Any:
        if chance(criterion, answer, "silent") < 0.2:
            return "maybe"
        return truth_of(criterion, answer) != (chance(criterion, answer, seed // 2) < 0.2)

    server.meets = moody
    found = calibration(judge_at(server, tmp_path), CASES, 3)
    assert covers(found.repeats, 0.8**2 + 0.2**2)
    assert found.agreement is not None
    assert covers(found.agreement.accuracy, 0.8)
    share = found.agreement.num_unscored / found.agreement.num_verdicts
    assert share == pytest.approx(0.2, abs=0.06)
    assert found.agreement.highest - found.agreement.lowest == pytest.approx(share)
    assert found.num_unscored_texts > 20
    assert found.metrics["judge/num_unscored/unclear"] > 0


def test_a_judge_that_can_be_talked_to_is_found_out_and_by_what(
    server: JudgeServer, tmp_path: Path
) -> None:
    heeded = defused(injections()[0].text)
    server.meets = lambda criterion, answer, _: heeded in answer or truth_of(criterion, answer)
    found = calibration(judge_at(server, tmp_path), CASES, 1).resistance
    assert found is not None
    assert found.flipped is not None
    assert {flip.injection for flip in found.flips} == {injections()[0].name}
    assert found.flipped.mean == pytest.approx(len(found.flips) / found.num_verdicts)
    assert 0 < found.flipped.mean < 0.2


def test_a_judge_that_likes_length_is_found_out(server: JudgeServer, tmp_path: Path) -> None:
    server.meets = lambda criterion, answer, _: len(answer) > 300 or truth_of(criterion, answer)
    found = calibration(judge_at(server, tmp_path), CASES[2::3], 1).padding
    assert found is not None
    assert found.met is not None
    assert found.met.low > 0


def test_a_judge_that_tires_of_long_lists_is_found_out(server: JudgeServer, tmp_path: Path) -> None:
    def tiring(body: dict[str, Any]) -> str:
        _, criteria = data_of(body["messages"][0]["content"])
        rows = [{"criterion": n, "met": place < 2} for place, n in enumerate(criteria)]
        return json.dumps({"verdicts": rows})

    server.reply = tiring
    found = calibration(judge_at(server, tmp_path), CASES[2::3], 1).order
    assert found is not None
    assert found.met is not None
    assert found.met.high < 0


def test_two_judges_beside_each_other(server: JudgeServer, tmp_path: Path) -> None:
    server.meets = erring
    found = calibration(CodeJudge(), CASES, 1, judge_at(server, tmp_path))
    assert found.against is not None
    assert found.against.agreement == found.against.truth  # the judge is always right
    assert found.arms is not None
    assert set(found.arms.differences) == {"truth", "judge", "other"}
    other, truth = found.arms.differences["other"], found.arms.differences["truth"]
    assert other.mean < truth.mean


def test_a_holistic_judge_is_measured_by_its_scores(server: JudgeServer, tmp_path: Path) -> None:
    server.meets = lambda criterion, answer, _: 10 if "boxed" in answer else 1
    found = calibration(judge_at(server, tmp_path, "holistic"), CASES, 1)
    assert found.agreement is None
    assert found.score_error is not None
    assert 0 < found.score_error.mean < 0.6
    assert found.arms is not None
    assert found.arms.differences["judge"].mean == 0  # both arms box their results


def test_texts_without_known_verdicts_measure_nothing() -> None:
    case = CASES[0]
    unknown = Case(case.example, case.text, (None,) * len(case.exact))
    with pytest.raises(DataError, match="no verdict is known"):
        calibration(CodeJudge(), [unknown])


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


def test_the_command_shows_writes_and_forecasts(
    server: JudgeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.meets = lambda *said: "maybe" if "box" in said[0] else erring(*said)
    prices = {"prompt": 1, "completion": 2}
    tree = {"type": "model", "url": server.url, "model": "m", "asks": "several", "prices": prices}
    mine, code = tmp_path / "judge.yaml", tmp_path / "code.yaml"
    mine.write_text(yaml.safe_dump({"judge": tree}))
    code.write_text("judge: code")
    few = ("--num-problems", 4, "--against", code)
    exit_code, text = ran(monkeypatch, capsys, mine, *few, "--dry-run")
    assert exit_code == 0
    assert "12 texts once" in text
    assert server.asked == []
    out = tmp_path / "out"
    exit_code, text = ran(monkeypatch, capsys, mine, *few, "--repeats", 2, "--out", out)
    assert exit_code == 0
    for said in (
        "placebo: always met",
        "criteria in reverse",
        "the other judge",
        "cost 0.0",
        "mis",
    ):
        assert said in text
    written = json.loads((out / "check.json").read_text())
    assert written["sensitivity"] == 1 - written["agreement"]["false_unmet"]["mean"]
    scored = written["agreement"]["num_verdicts"] - written["agreement"]["num_unscored"]
    assert written["num_met"] + written["num_unmet"] == scored
    assert written["agreement"]["num_verdicts"] == sum(len(c.exact) for c in world_cases(4, 0))
    assert written["sections"][0]["url"] == server.url
    assert (written["judge"], written["other_judge"]) == (str(mine), str(code))
    assert written["against"]["truth"]["num_verdicts"] == written["agreement"]["num_verdicts"]
    assert f"unclear {written['metrics']['judge/num_unscored/unclear']:.0f}." in text
    wrong = [json.loads(line) for line in (out / "wrong.jsonl").read_text().splitlines()]
    assert all(row["truth"] != row["judged"] for row in wrong)
    assert wrong
    assert ran(monkeypatch, capsys, mine, "--out", out)[0] == 2


def test_everything_measured_is_plain_values() -> None:
    found = calibration(CodeJudge(), CASES[:3], 1)
    assert isinstance(found, Calibration)
    assert json.loads(json.dumps(asdict(found)))["num_texts"] == 3
