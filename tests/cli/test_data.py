"""``rcsd data``: each command from end to end."""

import json
import sys
from pathlib import Path

import pytest

from rcsd import cli
from rcsd.cli.terminal import console, errors
from rcsd.data.rows import read_jsonl
from rcsd.data.world.problems import examples


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """Exit code and what ``rcsd data WORDS`` wrote, without line breaks."""
    monkeypatch.setattr(sys, "argv", ["rcsd", "data", *map(str, words)])
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.setattr(errors, "width", 200)
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def rows_file(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


GOLD = ["Essential Criteria: Is right.", "Pitfall Criteria: Does not mention confusing it."]
FINE = {"question": "Why?", "rubrics": {"GT": GOLD}, "extra": 1}


def test_import_writes_rows_and_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = rows_file(tmp_path, FINE, {"question": "How?"}, name="rar.jsonl")
    out = tmp_path / "out.jsonl"
    words = ["import", source, "--format", "rar", "--out", out]
    code, text = said(monkeypatch, capsys, *words)
    assert code == 0
    for part in ("rows read", "rule: Essential", "criterion left out", "no gold rubric", "extra"):
        assert part in text
    assert json.loads(out.read_text())["tags"] == {"rubric_source": "rar:GT"}
    listing = json.loads((tmp_path / "out.jsonl.import.json").read_text())
    assert listing["dropped_rows"][0][0] == 2
    assert (listing["source"], listing["format"]) == (str(source), "rar")
    code, text = said(monkeypatch, capsys, *words)
    assert (code, "--force" in text) == (2, True)
    assert said(monkeypatch, capsys, *words, "--force")[0] == 0


def test_import_refuses_what_it_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = rows_file(tmp_path, {"question": "How?"})
    for words, message in [
        (["--format", "rar"], "no row became an example"),
        (["--format", "rhubarb"], "'rhubarb' is not one of"),
    ]:
        code, text = said(
            monkeypatch, capsys, "import", source, "--out", tmp_path / "out.jsonl", *words
        )
        assert (code, message in text) == (2, True)
    out = tmp_path / "none" / "out.jsonl"
    code, text = said(monkeypatch, capsys, "import", source, "--format", "jsonl", "--out", out)
    assert (code, "no such folder" in text) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_check_counts_errors_in_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = rows_file(tmp_path, {"question": "[b]Why?"}, {"question": "[b]Why?"})
    code, text = said(monkeypatch, capsys, "check", twice)
    assert (code, "0 errors, 1 warnings" in text) == (0, True)
    assert said(monkeypatch, capsys, "check", twice, "--strict")[0] == 1
    report = tmp_path / "check.json"
    code, text = said(
        monkeypatch, capsys, "check", twice, "--against", twice, "--json", report, "--num", 1
    )
    assert code == 1
    assert "more findings" in text
    kinds = [finding["rule"] for finding in json.loads(report.read_text())["findings"]]
    assert kinds.count("test question") == 2
    code, text = said(monkeypatch, capsys, "check", rows_file(tmp_path, "{", {"qestion": 1}))
    assert code == 1
    assert "malformed row" in text
    assert "did you mean 'question'?" in text
    assert said(monkeypatch, capsys, "check", tmp_path / "none.jsonl")[0] == 2
    assert said(monkeypatch, capsys, "check", twice, "--near", "2")[0] == 2


def test_show_prints_rows_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rubric = [
        {"criterion": "Has [bold]it[/].", "weight": 2, "title": "Has [x]"},
        {"criterion": "Boxes it.", "weight": -1.5, "check": {"type": "boxed"}},
    ]
    rich_row = {
        "id": "[red]a",
        "question": "Is [/b] markup?",
        "reference_answer": "[i]No",
        "solution": "[u]So",
        "rubric": rubric,
        "tags": {"from": "[dim]here"},
    }
    rows = rows_file(tmp_path, rich_row, *({"question": f"Number {n}?"} for n in range(2, 6)))
    code, text = said(monkeypatch, capsys, "show", rows, "--id", "[red]a")
    assert code == 0
    for part in (
        "[red]a", "[/b]", "[i]No", "[u]So", "[bold]it[/].", "Has [x]", "[boxed]", "[dim]here",
        "+2", "-1.5",
    ):  # fmt: skip
        assert part in text
    assert "Number 4?" not in said(monkeypatch, capsys, "show", rows)[1]
    assert "Number 4?" in said(monkeypatch, capsys, "show", rows, "--num", 4)[1]
    code, text = said(monkeypatch, capsys, "show", rows, "--id", "b")
    assert (code, "no row has the id 'b'" in text) == (2, True)


def test_world_writes_problems_that_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "world.jsonl"
    words = ["world", "--num", 5, "--split", "new_numbers", "--seed", 3, "--out", out]
    assert said(monkeypatch, capsys, *words)[0] == 0
    assert read_jsonl(out) == examples("new_numbers", 5, 3)
    code, text = said(monkeypatch, capsys, *words)
    assert code == 2
    assert "exists; choose another name" in text.replace("\n", " ")
    code, text = said(monkeypatch, capsys, "world", "--split", "test", "--out", out)
    assert (code, "'test' is not one of" in text) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "data/none.jsonl", "--format", "rar", "--out", "o.jsonl"], "no such file"),
        (["import", "rows.jsonl", "--format", "jsonl", "--out", "."], "it is a folder"),
        (
            ["import", "rows.jsonl", "--format", "jsonl", "--out", "rows.jsonl", "--force"],
            "is read too",
        ),
        (["world", "--out", "none/o.jsonl", "--num", "1"], "there is no such folder"),
        (["check", "rows.jsonl", "--json", "rows.jsonl"], "is read too"),
        (["check", "rows.jsonl", "--against", "t.jsonl", "--json", "t.jsonl"], "is read too"),
        (["show", "."], "cannot be read"),
    ],
)
def test_odd_paths_are_refused_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "t.jsonl"):
        rows_file(tmp_path, {"question": "Why?"}, name=name)
    code, text = said(monkeypatch, capsys, *words)
    assert (code, message in text, "well-formed" in text) == (2, True, False)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "t.jsonl"}
    assert read_jsonl("rows.jsonl")[0].question == "Why?"
