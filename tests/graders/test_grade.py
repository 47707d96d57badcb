"""Grading of a file of answers."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rcsd import config
from rcsd.cli import eval
from rcsd.errors import DataError
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import Graded, grade_file, judge_rows
from rcsd.graders.rewards import build_rewards
from rcsd.types import Completion, Criterion, Example, Rubric

ROWS = [
    {"completion": "0.5 km", "reference": "500", "unit": "m", "kind": "number", "id": 7},
    {"completion": "B", "reference": "A", "options": ["x", "y"], "kind": "choice"},
    {"completion": "A or B", "reference": "A", "options": ["x", "y"], "kind": "choice"},
    {"completion": "33", "reference": "30", "tolerance": 0.2, "kind": "number"},
    {"completion": "The answer is 3", "reference": "3", "kind": "number", "finished": False},
    {"completion": "sugar", "reference": "salt", "kind": "text", "unit": None},
]


def _written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_keep_their_keys_and_get_verdicts_and_counts_are_printed(tmp_path: Path):
    app = typer.Typer()
    app.command()(eval.grade)
    file, out = _written(tmp_path / "a.jsonl", ROWS), tmp_path / "b.jsonl"
    result = CliRunner().invoke(app, [str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["verdict"] for row in rows] == [True, False, None, True, False, None]
    assert [{k: row[k] for k in was} for row, was in zip(rows, ROWS, strict=True)] == ROWS
    assert rows[0]["extracted"] == "0.5 km"
    assert all(row["reason"] for row in rows)
    assert "right 2, wrong 2, ungraded 2" in result.output
    assert "ungraded 1: names several options" in result.output


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("Light and heat.", True),
        ("<think>Light?</think>Light and heat.", True),
        ("<think>Light?</think>Heat.", False),
        ("<think>Light? It was cut o", False),
    ],
)
def test_judges_read_the_answer_without_its_thinking(text: str, met: bool) -> None:
    rubric = Rubric((Criterion("Names light.", 1, check={"type": "contains", "text": "light"}),))
    example = Example("a", "What is it?", rubric=rubric)
    row = Graded("a", example.question, text, 3, True, (), None, None)
    [judged] = judge_rows([row], [example], CodeJudge())
    assert (judged.verdicts, judged.text) == ((met,), text)
    [reward] = build_rewards([config.RubricReward()], [example])
    [score] = reward.scores([(example, Completion((1,), text, True))])
    assert score == float(met)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": None}, "a.jsonl:2: field 'completion': the completion is missing"),
        ({"reference": 3}, "a.jsonl:2: field 'reference': expected a text"),
        ({"kind": "essay"}, "a.jsonl:2: field 'kind': 'essay'"),
        (
            {"finished": "no"},
            "a.jsonl:2: field 'finished': input should be a valid boolean, got 'no'",
        ),
        ({"tolerance": 2}, "a.jsonl:2: field 'tolerance'"),
        ({"reference": "Z"}, "a.jsonl:2: field 'options'"),
        ({"options": ["x", "x"]}, "a.jsonl:2: field 'options': 'x' stands there twice"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_written(
    tmp_path: Path, change: dict[str, object], message: str
):
    file = _written(tmp_path / "a.jsonl", [ROWS[0], ROWS[1] | change])
    with pytest.raises(DataError) as error:
        grade_file(file, tmp_path / "b.jsonl")
    assert message in str(error.value)
    assert not (tmp_path / "b.jsonl").exists()
    with pytest.raises(DataError, match="overwritten"):
        grade_file(file, file)
