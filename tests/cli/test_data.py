"""``rcsd data``: each command from end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_folder, tiny_tokenizer

from rcsd.data.rows import read_jsonl
from rcsd.data.world.problems import examples

Said = Callable[..., tuple[int, str]]
GOLD = ["Essential Criteria: Is right.", "Pitfall Criteria: Does not mention confusing it."]
FINE = {"question": "Why?", "rubrics": {"GT": GOLD}, "extra": 1}


@pytest.fixture
def said(rcsd: Any) -> Said:
    """Exit code of ``rcsd data WORDS``, and everything that it printed."""

    def run(*words: object) -> tuple[int, str]:
        code, out, err = rcsd("data", *words)
        return code, out + err

    return run


def rows_file(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder / name


def test_import_writes_rows_and_what_was_done(tmp_path: Path, said: Said) -> None:
    source = rows_file(tmp_path, FINE, {"question": "How?"}, name="rar.jsonl")
    out = tmp_path / "out.jsonl"
    words = ["import", source, "--format", "rar", "--out", out]
    code, text = said(*words)
    assert code == 0
    for part in (
        "rows read",
        "(--pitfalls)",
        "rule: Essential",
        "criterion left out",
        "no gold rubric",
        "extra",
    ):
        assert part in text
    assert json.loads(out.read_text())["tags"] == {"rubric_source": "rar:GT"}
    listing = json.loads((tmp_path / "out.jsonl.import.json").read_text())
    assert listing["dropped_rows"][0][0] == 2
    assert (listing["source"], listing["format"]) == (str(source), "rar")
    code, text = said(*words)
    assert (code, "--force" in text) == (2, True)
    assert said(*words, "--force")[0] == 0


def test_check_counts_errors_in_its_exit_code(tmp_path: Path, said: Said) -> None:
    twice = rows_file(tmp_path, *[{"question": "[b]Why?"}] * 50)
    report = tmp_path / "check.json"
    code, text = said("check", twice)
    assert (code, "0 errors, 49 warnings" in text, "more findings" in text) == (0, True, True)
    assert said("check", twice, "--strict")[0] == 1
    assert said("check", twice, "--against", twice, "--json", report)[0] == 1
    kinds = [finding["rule"] for finding in json.loads(report.read_text())["findings"]]
    assert kinds.count("test question") == 50
    code, text = said("check", rows_file(tmp_path, "{", {"qestion": 1}))
    assert (code, "malformed row" in text, "did you mean 'question'?" in text) == (1, True, True)


def test_world_writes_problems_that_can_be_read_back(tmp_path: Path, said: Said) -> None:
    out = tmp_path / "world.jsonl"
    words = ["world", "--num", 5, "--split", "new_numbers", "--seed", 3, "--out", out]
    assert said(*words)[0] == 0
    assert read_jsonl(out) == examples("new_numbers", 5, 3)
    code, text = said(*words)
    assert (code, "exists; choose another name" in text) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "rows.jsonl", "--format", "rar", "--out", "o.jsonl"], "no row became"),
        (["import", "rows.jsonl", "--format", "rhubarb", "--out", "o.jsonl"], "not one of"),
        (["import", "rows.jsonl", "--format", "jsonl", "--out", "no/o.jsonl"], "no such folder"),
        (
            ["import", "rows.jsonl", "--format", "jsonl", "--out", "rows.jsonl", "--force"],
            "is read too",
        ),
        (["check", "rows.jsonl", "--against", "t.jsonl", "--json", "t.jsonl"], "is read too"),
        (["check", "none.jsonl"], "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "t.jsonl"):
        rows_file(tmp_path, {"question": "Why?"}, name=name)
    code, text = said(*words)
    assert (code, message in text, "well-formed" in text) == (2, True, False)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "t.jsonl"}
    assert read_jsonl("rows.jsonl")[0].question == "Why?"


def test_show_prints_rows_as_they_are(tmp_path: Path, said: Said) -> None:
    rubric = [
        {"criterion": "Has [bold]it[/].", "weight": 2, "title": "Has [x]"},
        {"criterion": "Boxes it.", "weight": -1.5, "check": {"type": "boxed"}},
    ]
    row = {"id": "[red]a", "question": "Is [/b] markup?", "reference_answer": "[i]No"}
    row |= {"solution": "[u]So", "rubric": rubric, "tags": {"from": "[dim]here"}}
    rows = rows_file(tmp_path, row, *({"question": f"Number {n}?"} for n in range(2, 6)))
    code, text = said("show", rows, "--id", "[red]a")
    parts = ("[red]a", "[/b]", "[i]No", "[u]So", "[bold]it[/].", "Has [x]", "[boxed]", "[dim]here")
    assert code == 0
    assert [part for part in (*parts, "+2", "-1.5") if part not in text] == []
    assert "Number 4?" not in said("show", rows)[1]
    assert "Number 4?" in said("show", rows, "--num", 4)[1]
    code, text = said("show", rows, "--id", "b")
    assert (code, "no row has the id 'b'" in text) == (2, True)


def test_repeated_ids_are_left_out_with_exit_code_1(tmp_path: Path, said: Said) -> None:
    rows = rows_file(tmp_path, *({"id": "a", "question": f"{n}?"} for n in range(3)))
    code, text = said("import", rows, "--out", tmp_path / "out.jsonl")
    assert (code, "Ids stand there twice: 2 rows" in text) == (1, True)
    assert "'a' is the id of an earlier row" in text
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 1
    code, text = said("import", rows, "--out", tmp_path / "b.jsonl", "--split", "test")
    assert (code, "is a file, which has none" in text) == (2, True)


def test_commands_say_which_import_reads_a_file(tmp_path: Path, said: Said) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"question": "Why?"}]))
    for command in ("check", "show"):
        code, text = said(command, tmp_path / "rows.json")
        assert code == 2
        assert f"rcsd data import {tmp_path}/rows.json --out rows.jsonl" in text


def test_check_finds_control_tokens_and_missing_rubrics(tmp_path: Path, said: Said) -> None:
    model, rubric = tiny_folder(tmp_path / "model"), [{"criterion": "A.", "weight": 1}]
    token = tiny_tokenizer().eos_token
    rows = [{"question": f"Number {n}?", "rubric": rubric} for n in range(3)]
    rows += [{"question": f"What does {token} mean?"}]
    code, text = said("check", rows_file(tmp_path, *rows), "--model", model)
    assert (code, f"holds {token}, a control token" in text) == (0, True)
    assert "1 of 4 rows have none: lines 4" in text
