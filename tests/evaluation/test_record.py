"""Folders of evaluations: what is written, read, summed up, made arms of, and refused."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.views import PromptTemplates
from rcsd.errors import DataError
from rcsd.evaluation.arms import common_sets, parse_arms, read_arms
from rcsd.evaluation.record import (
    EvalRecord,
    EvaluatedModel,
    SetAnswers,
    read_record,
    summarize,
    unfinished_folder,
    write_record,
)
from rcsd.graders.grade import Graded, grade_text
from rcsd.types import Criterion, Example, Rubric, UnitRule

SAYS = Rubric((Criterion("Says 4.", 1, "value"),))


def question(id: str, **changes: Any) -> Example:
    return replace(Example(id, f"{id}?", "4", None, SAYS, {"template": id[0]}), **changes)


def answer(id: str, score: float, right: bool | None, **changes: Any) -> Graded:
    row = Graded(id, f"{id}?", "4", 3, True, (score == 1,), score, right, {"template": id[0]})
    return replace(row, **changes)


def made(
    path: Path,
    scores: Sequence[float] = (0, 1),
    digest: str = "base",
    seed: int | None = None,
    examples: Sequence[Example] | None = None,
    name: str = "own",
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Path:
    """A folder of an evaluation whose greedy answers have these scores."""
    asked = [question(f"q{n}") for n in range(len(scores))] if examples is None else examples
    rows = [
        replace(answer(e.id, score, score == 1), **(changes or {}).get(e.id, {}))
        for e, score in zip(asked, scores, strict=True)
    ]
    sampled = [row for row in rows for _ in range(settings.get("num_samples", 0))]
    tree = {"model": {"path": "m"}, "data": {name: {"type": "jsonl", "path": "x"}}, "out": "o"}
    settled = parse(config.EvalConfig, tree | settings, "test")
    kept = rows if settled.greedy else []
    record = {"template_sha256": PromptTemplates(None).hashes(), "data_sha256": {name: "0"}}
    model = EvaluatedModel("m", digest, seed)
    sets = {name: SetAnswers(asked, kept, sampled)}
    with unfinished_folder(path, {}) as folder:
        write_record(EvalRecord(path, model, sets, settled, record), {}, folder)
    return path


# By hand


def test_a_summary_has_means_intervals_and_counts():
    asked = [question("a1"), question("a2"), question("b1"), question("b2", reference_answer="x")]
    rows = [
        answer("a1", 1, True, num_tokens=5),
        answer("a2", 0, False, finished=False),
        answer("b1", 1, True),
        answer("b2", math.nan, None, verdicts=(None,), unscored=("no verdict: prose",)),
    ]
    found = summarize({"own": SetAnswers(asked, rows, ())}, seed=0)["sets"]["own"]
    assert (found["num_questions"], found["num_samples"]) == (4, 0)
    score = found["metrics"]["score"]
    assert score["num_left_out"] == 1
    assert score["by_question"] == {"mean": pytest.approx(2 / 3), "low": 0.0, "high": 1.0, "n": 3}
    assert found["greedy"] == {
        "num_completions": 4,
        "num_unscored": 1,
        "num_ungraded": 1,
        "unscored_reasons": {"no verdict": 1},
        "truncated_share": 0.25,
        "length_tokens_mean": 3.5,
    }
    assert "sampled" not in found
    ungraded = summarize({"own": SetAnswers(asked[3:], rows[3:], ())}, seed=0)["sets"]["own"]
    empty = {"by_question": None, "num_left_out": 1, "bounds": [0.0, 1.0]}
    assert ungraded["metrics"]["score"] == empty


def test_an_accuracy_stands_beside_that_with_ungraded_answers_as_wrong():
    asked = [
        *(question(id) for id in ("a1", "a2", "a3", "a4")),
        question("x", reference_answer="?"),
    ]
    rows = [answer("a1", 1, True), answer("a2", 1, True), answer("a3", 0, False)]
    rows += [answer("a4", 1, None), answer("x", 1, None)]
    found = summarize({"own": SetAnswers(asked, rows, rows)}, seed=0)["sets"]["own"]["metrics"]
    for metric in ("accuracy", "accuracy_avg@1"):
        assert found[metric]["by_question"]["mean"] == pytest.approx(2 / 3)
        [(rule, of)] = found[metric]["by_rule"].items()
        # A text that code cannot grade is in neither.
        assert (rule, of["num_left_out"]) == ("ungraded as wrong", 0)
        assert (of["by_question"]["mean"], of["by_question"]["n"]) == (2 / 4, 4)
    assert all("by_rule" not in found[metric] for metric in ("score", "score_avg@1", "pass@1"))


def test_an_accuracy_stands_beside_those_by_number_alone_and_with_the_unit_required():
    asked = [question(f"q{n}", reference_answer="4 m") for n in range(4)]
    texts = ("4 m", "4", "4 kg", "5 m")
    rows = [grade_text(e, text) for e, text in zip(asked, texts, strict=True)]
    shares: dict[UnitRule, float] = {"accept_absent": 2 / 4, "ignore": 3 / 4, "require": 1 / 4}
    for units, accuracy in shares.items():
        by_units = [row.by_units(units) for row in rows]
        summary = summarize({"own": SetAnswers(asked, by_units, ())}, seed=0, units=units)
        assert summary["units"] == units
        found = summary["sets"]["own"]["metrics"]["accuracy"]
        assert found["by_question"]["mean"] == accuracy
        by_rule = {rule: of["by_question"]["mean"] for rule, of in found["by_rule"].items()}
        rules = {"number alone": 3 / 4, "unit required": 1 / 4}
        assert by_rule == {"ungraded as wrong": accuracy} | rules


def test_a_summary_of_samples_has_one_value_a_question():
    rows = [answer("a1", 1, True), answer("a1", 0, False), *[answer("b1", 1, True)] * 2]
    answers = SetAnswers([question("a1"), question("b1")], (), rows)
    found = summarize({"own": answers}, seed=0)["sets"]["own"]
    means = {name: of["by_question"]["mean"] for name, of in found["metrics"].items()}
    assert means == {"score_avg@2": 0.75, "accuracy_avg@2": 0.75, "pass@1": 0.75, "pass@2": 1.0}
    assert all(of["by_question"]["n"] == 2 for of in found["metrics"].values())


def test_words_of_the_command_name_arms_and_their_seeds():
    arms = parse_arms(["gold=a,b", "runs/mine/eval", "gold=c"])
    assert arms == {"gold": [Path("a"), Path("b"), Path("c")], "mine": [Path("runs/mine/eval")]}


def test_seeds_of_an_arm_come_in_their_order(tmp_path: Path):
    new = [made(tmp_path / f"s{n}", [1, n], str(n), seed=1 - n) for n in (0, 1)]
    [answered], notes = common_sets(read_arms({"base": [made(tmp_path / "base")], "new": new}))
    assert [[row.score for row in seed] for seed in answered.greedy["new"]] == [[1, 1], [1, 0]]
    assert (answered.sampled, notes) == ({}, [])


def test_what_differs_between_arms_is_said(tmp_path: Path):
    folders = {
        "a": [made(tmp_path / "a", num_samples=2)],
        "b": [made(tmp_path / "b", view="rubric")],
    }
    [answered], notes = common_sets(read_arms(folders))
    assert answered.metrics == ["score", "accuracy"]
    assert 'The arms differ in view: a: "none", b: "rubric".' in notes
    assert "The arms differ in num_samples: a: 2, b: 0." in notes


def test_one_judge_is_the_same_wherever_it_is_asked_and_whatever_it_may_cost(tmp_path: Path):
    judge = {"type": "model", "url": "http://gpu1:8000/v1", "model": "m"}
    moved = judge | {"url": "http://gpu2:8000/v1", "max_calls": 9, "cache": "other.sqlite"}
    folders = {
        "a": [
            made(tmp_path / f"a{n}", digest=f"a{n}", judge=one, seed=n)
            for n, one in enumerate((judge, moved))
        ],
        "b": [made(tmp_path / "b", digest="b", judge=judge | {"model": "n"})],
    }
    read = read_arms(folders)
    _, notes = common_sets(read)
    assert 'The arms differ in judge.model: a: "m", b: "n".' in notes


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=x,"], "expected"),
        (["a="], "expected"),
        (["one", "one=two"], "two arms would be called 'one'"),
    ],
)
def test_words_that_name_no_arms_are_refused(words: list[str], message: str):
    with pytest.raises(DataError, match=message):
        parse_arms(words)


def test_folders_that_are_no_seeds_of_one_arm_are_refused(tmp_path: Path):
    same = [made(tmp_path / "a"), made(tmp_path / "b")]
    with pytest.raises(DataError, match="same weights"):
        read_arms({"x": same})
    other = [same[0], made(tmp_path / "c", digest="c", view="rubric")]
    with pytest.raises(DataError, match="differ in view"):
        read_arms({"x": other})
    assert read_arms({"x": same[:1], "y": other[1:]})


def test_rows_of_an_earlier_version_have_no_verdicts_on_numbers_and_units(tmp_path: Path):
    path = made(tmp_path / "a")
    rows = [json.loads(line) for line in (path / "completions.jsonl").read_text().splitlines()]
    names = {"number_right", "unit_verdict"}
    older = [{key: row[key] for key in row.keys() - names} for row in rows]
    (path / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in older))
    [row, _] = read_record(path).sets["own"].greedy
    assert (row.number_right, row.unit_verdict) == (None, None)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([question("q1"), question("q0")], "same order"),
        ([question("q0"), question("q2")], "lacks 1 of 2, the first: 'q1'"),
        ([question("q0"), question("q1", question="else?")], "'q1' has another question, 'else"),
        (
            [question("q0"), question("q1", rubric=Rubric((Criterion("Other.", 1),)))],
            "'q1' has another rubric",
        ),
    ],
)
def test_other_questions_are_named(tmp_path: Path, others: list[Example], message: str):
    folders = {"a": [made(tmp_path / "a")], "b": [made(tmp_path / "b", examples=others)]}
    with pytest.raises(DataError, match=f"set 'own' of .*b has not the questions of .*{message}"):
        common_sets(read_arms(folders))


def test_a_set_that_one_folder_lacks_is_not_compared_and_said(tmp_path: Path):
    folders = {"a": [made(tmp_path / "a")], "b": [made(tmp_path / "b", name="else")]}
    with pytest.raises(DataError, match=r"nothing in common.*'own' is not compared: .*b lacks it"):
        common_sets(read_arms(folders))


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no evaluation \(no eval\.json\)"):
        read_record(tmp_path)
    path = made(tmp_path / "a")
    completions = path / "completions.jsonl"
    first, second = completions.read_text().splitlines()
    completions.write_text(first + "\n")
    with pytest.raises(DataError, match=r"'own' needs 2 completions .* has 1"):
        read_record(path)
    completions.write_text(f"{first}\n{second.replace('verdicts', 'verdict')}\n")
    with pytest.raises(DataError, match=r"broken \('verdicts'\)"):
        read_record(path)
