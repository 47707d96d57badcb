import json
from pathlib import Path

from rcsd.data.check import Finding, check_file

LONG = "A lamp of sixty watts burns for five hours each day in the hall; how much energy is that"
NEAR = LONG.replace("that", "this")


def written(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def found(findings: tuple[Finding, ...], severity: str) -> list[tuple[str, int | None]]:
    return [(finding.rule, finding.line) for finding in findings if finding.severity == severity]


def test_every_malformed_row_is_found(tmp_path: Path):
    rows = ['{"question": ', {"question": "a", "id": 9}, {"question": " "}, {"question": "b"}]
    report = check_file(written(tmp_path, *rows, "", {"question": "c", "id": 9}))
    assert (report.num_rows, report.num_examples, report.count("error")) == (5, 2, 3)
    assert found(report.findings, "error") == [("malformed row", line) for line in (1, 3, 6)]
    messages = [finding.message for finding in report.findings if finding.severity == "error"]
    assert messages[0].startswith("invalid JSON at column 14")
    assert messages[1] == "expected a text that is not empty, got ' '"
    assert messages[2] == "'9' is the id of line 2 too; ids must differ"
    assert [f.field for f in report.findings] == [None, "question", "id"]
    assert report.num_with == {"rubric": 0, "reference_answer": 0, "solution": 0}


def test_repeated_and_similar_questions_are_found(tmp_path: Path):
    rubric = [{"criterion": "Says it.", "weight": 1}]
    far = {"question": LONG.replace("five", "six").replace("hall", "house")}
    rows = [{"question": LONG.upper() + " "}, {"question": LONG, "rubric": rubric}]
    report = check_file(written(tmp_path, {"question": LONG}, *rows, {"question": NEAR}, far))
    assert found(report.findings, "warning") == [
        ("duplicate question", 2),
        ("one question, different rubrics", 3),
        ("near-duplicate question", 4),
    ]
    assert "line 1: 0.89 of the wording" in report.findings[2].message  # 17 of 19 shingles


def test_questions_of_a_test_file_are_errors(tmp_path: Path):
    path = written(tmp_path, {"question": LONG.lower()}, {"question": NEAR})
    test = written(tmp_path, {"question": LONG}, "{", name="test.jsonl")
    findings = check_file(path, [test]).findings
    assert found(findings, "error") == [
        ("malformed row in a test file", None),
        ("test question", 1),
    ]
    assert ("near a test question", 2) in found(findings, "warning")
    assert any(f"stands in {test}, line 1" in finding.message for finding in findings)


def test_chats_with_the_same_last_turn_are_no_duplicates(tmp_path: Path):
    rows = [
        {"question": "Yes.", "turns": [{"role": "system", "content": text}]}
        for text in ("Ask about the sea.", "Plan a long garden.")
    ]
    findings = check_file(written(tmp_path, *rows)).findings
    assert found(findings, "warning") == found(findings, "error") == []
