import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from rcsd.config import JsonlData
from rcsd.data.load import require_fields
from rcsd.data.rows import example_from_row, read_jsonl, row_from_example, write_jsonl
from rcsd.data.views import view_fields
from rcsd.data.world.problems import examples
from rcsd.errors import DataError
from rcsd.types import Criterion, Example, Rubric


def written(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(x.encode() if isinstance(x, str) else x for x in lines))
    return path


# Rows


def test_a_row_becomes_an_example():
    rubric = [{"criterion": "Boxes.", "weight": 2, "check": {"type": "boxed"}}]
    row = {"id": 7, "question": "Why?", "reference_answer": "So.", "rubric": rubric}
    expected = Rubric((Criterion("Boxes.", 2, check={"type": "boxed"}),))
    assert example_from_row(row) == Example("7", "Why?", "So.", None, expected, {})


def test_files_are_read_as_they_were_written(tmp_path: Path):
    rows = [*examples("train", 20, 0), Example("é", "Nur\u2028das?")]
    write_jsonl(rows, tmp_path / "rows.jsonl")
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    assert row_from_example(rows[-1]) == {"id": "é", "question": "Nur\u2028das?"}
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_row_without_id_gets_its_line_number(tmp_path: Path):
    path = written(tmp_path, b'\xef\xbb\xbf{"question": "a"}\r', "", '{"question": "b"}', "")
    assert [example.id for example in read_jsonl(path)] == ["1", "3"]


ONE = {"criterion": "x", "weight": 1}

# Errors: each names the file, the line and the field


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"question": "a", "rubrik": []}, "rubrik", "did you mean 'rubric'? allowed are id, que"),
        ({"id": "a"}, "question", "the question is missing"),
        ({"question": " "}, "question", "a text that is not empty, got ' '"),
        ({"question": "a", "reference_answer": 3}, "reference_answer", "got 3"),
        ({"question": "a", "id": 1.5}, "id", "a text or a whole number, got 1.5"),
        ({"question": "a", "tags": {"x": 1}}, "tags.x", "expected a text, got 1"),
        ({"question": "a", "rubric": "x"}, "rubric", "expected a list, got 'x'"),
        ({"question": "a", "rubric": [ONE | {"weight": 0}]}, "rubric[0].weight", "0 says nothing"),
        ({"question": "a", "rubric": [ONE | {"check": {"type": "u"}}]}, "rubric[0].check", "'u'"),
    ],
)
def test_a_malformed_row_is_refused_where_it_is_wrong(
    tmp_path: Path, row: dict, field: str, message: str
):
    path = written(tmp_path, '{"question": "fine"}', json.dumps(row))
    with pytest.raises(DataError) as caught:
        read_jsonl(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, 2, field)
    assert str(caught.value).startswith(f"{path}:2: field '{field}': ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "a"', "invalid JSON at column 17"),
        ('["question"]', "expected a JSON object, got list"),
        ('{"question": NaN}', "NaN is not a JSON number"),
        ('{"question": "a", "question": "b"}', "field 'question': the key stands there twice"),
        (b'{"question": "\xff"}', "invalid UTF-8 at byte 15"),
        ("[" * 100_000, "invalid JSON"),
        ('{"question": "\\ud800"}', "half of a surrogate pair"),
        ('{"question": "a", "x": 1e999}', "1e999 is too large"),
    ],
)
def test_a_malformed_line_is_refused(tmp_path: Path, line: str | bytes, message: str):
    path = written(tmp_path, '{"question": "fine"}', line)
    with pytest.raises(DataError, match=message) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_files_that_hold_no_data_are_refused(tmp_path: Path):
    for path, message in {
        tmp_path / "none.jsonl": "no such file",
        tmp_path: "cannot be read: Is a directory",
        written(tmp_path, "", " "): "holds no rows",
    }.items():
        with pytest.raises(DataError, match=message):
            read_jsonl(path)


def test_repeated_ids_are_refused(tmp_path: Path):
    path = written(tmp_path, '{"question": "a", "id": "3"}', "", '{"question": "b"}')
    with pytest.raises(DataError, match=r":3: field 'id': '3' is the id of line 1 too"):
        read_jsonl(path)


def test_all_problems_of_a_file_are_in_one_error(tmp_path: Path):
    rows = [*({"question": n} for n in range(30)), {"question": "b"}, {"qestion": "c"}]
    with pytest.raises(DataError) as caught:
        read_jsonl(written(tmp_path, *map(json.dumps, rows)))
    text = str(caught.value)
    assert (caught.value.line, "31 rows are malformed" in text) == (1, True)
    assert ("line 20: field 'question'" in text, "line 21" in text) == (True, False)
    assert "30 x question: expected a text that is not empty; 1 x qestion: unknown field" in text


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b'[{"question": "a"}]', "a JSON array"),
        (b'{\n"question": "a"\n}\n', "JSON over several lines"),
        (b"question\tsolution\nb\tc\n", "a table with tabs"),
        ('{"question": "a"}\n'.encode("utf-16"), "in utf-16"),
        (gzip.compress(b'{"question": "a"}\n'), "compressed"),
        (b'{"question": "a", "rubric": "[]", "reference_answer": ""}\n' * 2, "expected a list"),
    ],
)
def test_a_file_of_another_form_names_the_import_that_reads_it(
    tmp_path: Path, content: bytes, cause: str
):
    path = tmp_path / "my rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=cause) as caught:
        read_jsonl(path)
    command = f"rcsd data import '{path}' --out rows.jsonl"
    assert (command in str(caught.value)) != (cause == "expected a list")


@pytest.mark.parametrize("absent", [None, "", " \n", math.nan])
def test_null_and_blank_text_mean_absent(absent: Any):
    row = {"id": absent, "question": "a", "reference_answer": absent, "solution": absent}
    assert example_from_row(row, line=3) == Example("3", "a")


def test_fields_that_a_table_fills_with_null_are_absent_from_a_check():
    check = {"type": "any", "checks": [{"type": "boxed", "text": None}], "value": None}
    row = {"question": "a", "rubric": [{"criterion": "A.", "weight": 1, "check": check}]}
    rubric = example_from_row(row, line=1).rubric
    assert rubric is not None
    assert rubric.criteria[0].check == {"type": "any", "checks": [{"type": "boxed"}]}


@pytest.mark.parametrize("blob", ["A" * 10**6, ["A" * 10**6], {"b64": "A" * 10**6}, [[1] * 10**6]])
def test_no_error_prints_a_blob(blob: Any):
    for field in ("question", "reference_answer", "id", "rubric", "tags", "grading"):
        if field in ("question", "reference_answer", "id") and isinstance(blob, str):
            continue
        with pytest.raises(DataError) as caught:
            example_from_row({"question": "a", field: blob})
        assert len(str(caught.value)) < 250


def test_a_missing_field_is_named_by_file_and_lines(tmp_path: Path):
    rubric = [{"criterion": "A.", "weight": 1}]
    rows = [{"question": f"{n}?"} | ({} if n in (1, 4) else {"rubric": rubric}) for n in range(6)]
    path = written(tmp_path, *map(json.dumps, rows))
    with pytest.raises(DataError, match=r"2 of 6 rows have none, also line 5") as caught:
        require_fields(JsonlData(path=path), read_jsonl(path), view_fields("rubric+answer"))
    assert str(caught.value).startswith(f"{path}:2: field 'rubric': example '2' has none, but")
