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


def test_check_shows_findings_by_row_and_criterion(tmp_path: Path, rcsd: Any):
    rubric = [GOOD, {"criterion": "...", "weight": 1}, {"criterion": "Avoids lies.", "weight": -1}]
    path = rows_file(tmp_path, {"id": "sky", "question": "Why?", "rubric": rubric})
    code, out, _ = rcsd("rubrics", "check", path, "--json", tmp_path / "found.json")
    assert (code, "sky rubric[1]" in out, "sky rubric[2]" in out) == (1, True, True)
    assert "'...' holds no word" in out
    assert "1 rows, 1 well-formed (1 with rubric" in out
    value = json.loads((tmp_path / "found.json").read_text())
    assert [(f["rule"], f["field"]) for f in value["findings"]] == [
        ("wordless", "rubric[1]"),
        ("polarity", "rubric[2]"),
    ]


def test_gold_in_bare_words_scores_one(world: Path, rcsd: Any):
    code, out, _ = rcsd(
        "rubrics", "score", world / "same.jsonl", "--gold", world / "gold.jsonl",
        "--completions", world / "completions.jsonl", "--json", world / "score.json",
    )  # fmt: skip
    assert code == 0
    assert out.count("1.000 [1.000, 1.000]") == 4
    value = json.loads((world / "score.json").read_text())
    assert value["f1"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 20}
    assert len(value["rows"]) == 20


def test_generalities_order_nothing_and_are_counted(world: Path, rcsd: Any):
    code, out, _ = rcsd(
        "rubrics", "score", world / "vague.jsonl", "--gold", world / "gold.jsonl",
        "--completions", world / "completions.jsonl",
    )  # fmt: skip
    assert (code, "0.500 [0.500, 0.500]" in out) == (0, True)
    assert "written criteria have no verdict" in out


def test_missing_and_malformed_rubrics_are_errors(world: Path, rcsd: Any):
    rows = (world / "same.jsonl").read_text().splitlines()
    (world / "some.jsonl").write_text("\n".join(rows[:15]) + '\n{"id": "x"}\n')
    few = ("score", world / "some.jsonl", "--gold", world / "gold.jsonl")
    code, _, err = rcsd("rubrics", *few)
    assert (code, "some.jsonl:16: field 'question'" in err) == (2, True)
    (world / "some.jsonl").write_text("\n".join(rows[:15]) + "\n")
    code, _, err = rcsd("rubrics", *few)
    assert (code, "no written rubric for 5 of 20 gold ids: 'new_numbers-0-15'" in err) == (2, True)


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
    world: Path, rcsd: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
):
    monkeypatch.chdir(world)
    rows_file(world, {"id": "z", "question": "Why?", "rubric": [GOOD]}, name="other.jsonl")
    asked = {"id": "new_numbers-0-0", "question": "Why?", "rubric": [GOOD]}
    rows_file(world, asked, name="asked.jsonl")
    code, _, err = rcsd("rubrics", "score", "same.jsonl", *words)
    assert (code, message in err) == (2, True)
