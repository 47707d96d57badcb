"""``rcsd rubrics check`` and ``score``: tables, JSON, exit codes, errors."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import FULL_STYLE, examples, redraw_draft, written_answer
from rcsd.types import Criterion, Example, Rubric

Said = tuple[int, str, str]


GOOD = {"criterion": "Names scattering.", "weight": 2}


def rows_file(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def bare(row: Example) -> Example:
    assert row.rubric is not None
    criteria = tuple(Criterion(c.text, c.weight) for c in row.rubric.criteria)
    return replace(row, rubric=Rubric(criteria))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Gold, the same in bare words, generalities, and completions of the rubric world."""
    gold = examples("new_numbers", 20, 0)
    write_jsonl(gold, tmp_path / "gold.jsonl")
    write_jsonl([bare(row) for row in gold], tmp_path / "same.jsonl")
    vague = Rubric((Criterion("Is right.", 3), Criterion("Is great.", 1)))
    write_jsonl([replace(row, rubric=vague) for row in gold], tmp_path / "vague.jsonl")
    texts = [
        {"id": row.id, "text": written_answer(redraw_draft(row), choices, FULL_STYLE), "score": 1}
        for row in gold
        for choices in redraw_draft(row).workings
    ]
    random.Random(0).shuffle(texts)
    rows_file(tmp_path, *texts, name="completions.jsonl")
    return tmp_path


def test_check_shows_each_rule_and_an_example_by_row_and_criterion(tmp_path: Path, said: Any):
    rubric = [GOOD, {"criterion": "...", "weight": 1}, {"criterion": "Avoids lies.", "weight": -1}]
    path = rows_file(tmp_path, {"id": "sky", "question": "Why?", "rubric": rubric})
    code, out, _ = said("check", path, "--json", tmp_path / "found.json")
    assert code == 1
    assert "'sky' rubric[1]: '...' holds no word" in out
    assert "'sky' rubric[2]" in out
    assert "1 rows, 1 well-formed, 1 with a rubric; 3 criteria." in out
    value = json.loads((tmp_path / "found.json").read_text())
    assert [(f["rule"], f["field"]) for f in value["findings"]] == [
        ("wordless", "rubric[1]"),
        ("polarity", "rubric[2]"),
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--fail-on", "warning"], 1),
        (["--fail-on", "warning", "--min-criteria", "1"], 0),
        (["--fail-on", "never", "--max-criteria", "1"], 0),
    ],
)
def test_the_exit_code_follows_from_the_severity(
    tmp_path: Path, said: Any, words: list[str], code: int
):
    path = rows_file(tmp_path, {"question": "Why?", "rubric": [GOOD]})
    assert said("check", path, *words)[0] == code


def test_gold_in_bare_words_scores_one(world: Path, said: Any):
    code, out, _ = said(
        "score", world / "same.jsonl", "--gold", world / "gold.jsonl",
        "--completions", world / "completions.jsonl", "--json", world / "score.json",
    )  # fmt: skip
    assert code == 0
    assert out.count("1.000 [1.000, 1.000]") == 4
    assert "20 of 20 gold rows have a rubric" in out
    value = json.loads((world / "score.json").read_text())
    assert value["written"]["matched_by"] == "checks"
    assert value["written"]["f1"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 20}
    assert len(value["written"]["rows"]) == 20
    assert value["before"] is None


def test_a_paired_difference_is_shown_with_what_came_before(world: Path, said: Any):
    code, out, _ = said(
        "score", world / "same.jsonl", "--gold", world / "gold.jsonl",
        "--before", world / "vague.jsonl", "--completions", world / "completions.jsonl",
    )  # fmt: skip
    assert code == 0
    assert "+1.000 [+1.000, +1.000]" in out
    assert "+0.500 [+0.500, +0.500]" in out  # generalities order nothing: 1/2
    assert "before: 20 of 20 gold rows" in out
    assert "20 written criteria have no verdict" in out  # "Is great."


def test_missing_rubrics_are_an_error_unless_they_are_allowed(world: Path, said: Any):
    rows = (world / "same.jsonl").read_text().splitlines()
    (world / "some.jsonl").write_text("\n".join(rows[:15]) + '\n{"id": "x"}\n')
    few = ("score", world / "some.jsonl", "--gold", world / "gold.jsonl")
    code, _, err = said(*few)
    assert (code, "some.jsonl:16: field 'question'" in err) == (2, True)
    (world / "some.jsonl").write_text("\n".join(rows[:15]) + "\n")
    code, _, err = said(*few)
    assert (code, "no written rubric for 5 of 20 gold ids: 'new_numbers-0-15'" in err) == (2, True)
    code, out, _ = said(*few, "--allow-missing")
    assert (code, "15 of 20 gold rows have a rubric" in out) == (0, True)
    assert "0.750 [" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gold", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--gold", "gold.jsonl", "--completions", "same.jsonl"], "field 'text'"),
        (["--gold", "other.jsonl"], "no rubric is of a gold row"),
        (["--gold", "asked.jsonl"], "asks another question"),
    ],
)
def test_what_does_not_fit_is_explained(
    world: Path, said: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
):
    monkeypatch.chdir(world)
    rows_file(world, {"id": "z", "question": "Why?", "rubric": [GOOD]}, name="other.jsonl")
    asked = {"id": "new_numbers-0-0", "question": "Why?", "rubric": [GOOD]}
    rows_file(world, asked, name="asked.jsonl")
    code, _, err = said("score", "same.jsonl", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["check"], ["score", "--gold", "rows.jsonl"]])
@pytest.mark.parametrize(
    ("json", "message"),
    [
        ("rows.jsonl", "rows.jsonl: is read too"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path,
    said: Any,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    json: str,
    message: str,
):
    monkeypatch.chdir(tmp_path)
    path = rows_file(tmp_path, {"id": "a", "question": "Why?", "rubric": [GOOD]})
    before = path.read_text()
    code, out, err = said(*command, "rows.jsonl", "--json", json)
    assert (code, out, message in err) == (2, "", True)
    assert path.read_text() == before
