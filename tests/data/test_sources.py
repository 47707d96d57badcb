import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from rcsd.data.importers import import_rows
from rcsd.data.rows import read_jsonl, row_from_example
from rcsd.data.sources import Hub, read_table, refuse_unused
from rcsd.errors import ConfigError, DataError


def test_lists_folders_and_parquet_files_are_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    datasets = pytest.importorskip("datasets")
    rows = [{"id": str(n), "question": f"What is {n}?"} for n in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps([*rows, 3]))
    kept, report = import_rows(str(tmp_path / "rows.json"), "jsonl")
    assert (len(kept), report.dropped_rows) == (3, ((4, "expected a JSON object, got int"),))
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "rows.parquet"))
    assert import_rows(str(tmp_path / "rows.parquet"), "jsonl")[0] == kept
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert import_rows(str(folder), "jsonl", hub=Hub(split="train"))[0] == kept
    monkeypatch.chdir(folder)
    assert import_rows(".", "jsonl")[0] == kept
    with pytest.raises(DataError, match="no file of split 'tset'"):
        import_rows(str(folder), "jsonl", hub=Hub(split="tset"))


def test_what_cannot_be_reached_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="owner/name: cannot be loaded"):
        import_rows("owner/name", "jsonl")
    for name in ("rows.jsonl", "data/rows.jsonl", "data/rows.parquet", "./rows", "../rows"):
        with pytest.raises(DataError, match="no such file or folder"):
            import_rows(name, "jsonl")


def test_tables_lines_and_saved_sets_are_sources(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    rows = [{"id": str(n), "question": f"What\nis {n}?"} for n in range(2)]
    quoted = "".join(f'{row["id"]},"{row["question"]}"\n' for row in rows)
    (tmp_path / "rows.csv").write_text("id,question\n" + quoted)
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "keys.json").write_text(
        json.dumps({row["id"]: {"question": row["question"]} for row in rows}, indent=1)
    )
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for source in ("rows.csv", "lines.json", "keys.json", "saved", arrow):
        assert [row for _, row in read_table(str(tmp_path / source), Hub())] == rows, source
    assert [line for line, _ in read_table(str(tmp_path / "rows.csv"), Hub())] == [3, 5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"id,question\n1\n", "expected 2 columns"),
        ("rows.csv", b"id,question\n1,2,3\n", "expected 2 columns"),
        ("rows.csv", "id,é\n".encode() + b"\xff,a\n", "invalid utf-8 at byte 7"),
        ("rows.csv", b'id,question\n1,"a\n2,b\n', "is a quote not closed"),
        ("rows.csv", b"id,id\n1,2\n", "'id': the column stands there twice"),
        ("rows.json", b'{"a": 1}', "no column looks like the question"),
        ("rows.json", b'[{"question": "a"},\n]', r"rows.json:2: .*a comma before the closing"),
        ("rows.jsonl", b'{"question": "a"},\n{"question": "b"},\n', "a comma ends the line"),
        ("rows.jsonl", b"{'question': 'a'}\n{'question': 'b'}\n", "single quotes, as Python"),
        ("rows.jsonl", b'{"question": None}\n{"question": "', "Python's words"),
        ("rows.jsonl", b'{"question": "a', "runs over the end of the line"),
        ("rows.yaml", b"- question: a\n", "neither JSON nor a table"),
        ("rows.xlsx", b"PK\x03\x04\x00", "is an Excel workbook or a zip"),
        ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("rows.json", b"<!DOCTYPE html><html>", "is HTML"),
        ("rows.bin", b"\x80\x04\x95\x00\x00\x00", "is no text"),
        ("rows.json.gz", gzip.compress(b"[1]" * 99)[:20], "cannot be unpacked"),
    ],
)
def test_broken_tables_are_clear_errors(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_rows(str(tmp_path / name), "jsonl")


ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Wärme, Licht?", "reference_answer": "2,5"},
    {"id": "b", "question": "Größe?", "reference_answer": None},
]


def table(delimiter: str, end: str = "\r\n") -> str:
    """Rows as Excel writes them, with a delimiter at the end of each line and empty lines."""
    cells = [list(ROWS[0]), *([row[name] or "" for name in row] for row in ROWS)]
    quoted = [[f'"{cell}"' for cell in row] for row in cells]
    empty = delimiter * len(ROWS[0])
    return end.join([*(delimiter.join([*row, ""]) for row in quoted), empty, "", ""])


LINES = "\n".join(map(json.dumps, ROWS))
DUMPED = json.dumps(ROWS, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", table(",").encode()),
        ("rows.CSV", table(";").encode("utf-8-sig")),
        ("rows.csv", ("sep=;\r\n" + table(";")).encode()),
        ("rows.csv", table(";").encode("cp1252")),
        ("rows.csv", table("\t").encode("utf-16")),
        ("rows.txt", table("\t").encode("utf-16-le")),
        ("rows.tsv", table("\t", "\n").encode()),
        ("rows.TAB", table("\t").encode()),
        ("rows.jsonl", DUMPED.encode()),
        ("rows.JSON", DUMPED.encode("utf-16")),
        ("rows.jsonl", json.dumps(ROWS, indent=1).encode()),
        ("rows.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
        ("rows.jsonl", "".join(map(json.dumps, ROWS)).encode()),
        ("rows.jsonl", LINES.replace("\n", "\r").encode()),
        ("rows", LINES.replace("null", "NaN").encode()),
        ("rows.json", json.dumps({"name": "x", "data": ROWS}).encode()),
        ("rows.jsonl", LINES.encode().replace(b"\\u00e4", b"\xe4")),
        ("rows.json.gz", gzip.compress(DUMPED.encode())),
        ("rows.csv.gz", gzip.compress(table(",").encode())),
        ("rows.jsonl.bz2", bz2.compress(LINES.encode())),
        ("rows.jsonl.xz", lzma.compress(LINES.encode())),
        ("named_wrongly.jsonl", gzip.compress(LINES.encode())),
    ],
)
def test_a_file_is_read_by_what_it_holds(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    assert [row for _, row in read_table(str(tmp_path / name), Hub())] == ROWS


def test_zstandard_and_both_forms_of_arrow_are_read(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.output_stream(str(tmp_path / "rows.jsonl.zst"), compression="zstd") as stream:
        stream.write(LINES.encode())
    data = pyarrow.Table.from_pylist(ROWS)
    for name, new in (("a.arrow", pyarrow.ipc.new_stream), ("a.feather", pyarrow.ipc.new_file)):
        with new(str(tmp_path / name), data.schema) as writer:
            writer.write_table(data)
    for path in tmp_path.iterdir():
        assert [row for _, row in read_table(str(path), Hub())] == ROWS, path


def test_the_encoding_that_is_assumed_is_in_the_report(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(table(";").encode("cp1252"))
    _, report = import_rows(str(tmp_path / "rows.csv"), "jsonl")
    assert report.counts["rows.csv: read as cp1252 (Windows), since it is no UTF-8"] == 1


def test_our_rows_survive_datasets_and_pandas(tmp_path: Path):
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    rubric = [
        {"criterion": "A.", "weight": 2, "title": "T", "check": {"type": "boxed"}},
        {"criterion": "B.", "weight": -1.5, "check": {"type": "contains", "text": "x"}},
    ]
    rows = [
        {
            "question": "Why?",
            "reference_answer": "Four",
            "rubric": rubric,
            "tags": {"level": "easy"},
        },
        {"question": "How?", "rubric": [{"criterion": "C.", "weight": 1}], "tags": {"topic": "b"}},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = import_rows(str(path), "jsonl")[0]
    data, frame = datasets.Dataset.from_list(rows), pandas.read_json(path, lines=True)
    data.to_parquet(tmp_path / "datasets.parquet")
    data.to_json(tmp_path / "datasets.jsonl")
    data.save_to_disk(tmp_path / "saved")
    frame.to_parquet(tmp_path / "pandas.parquet")
    frame.rename(index={0: 3}).to_parquet(tmp_path / "index.parquet")
    frame.to_json(tmp_path / "pandas.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "pandas.json", orient="records")
    for column in ("rubric", "tags"):
        frame[column] = frame[column].map(json.dumps)
    frame.to_csv(tmp_path / "pandas.csv", index=False)
    for name in sorted(path.name for path in tmp_path.iterdir()):
        found = import_rows(str(tmp_path / name), "jsonl")[0]
        bare = [{**row_from_example(example), "id": ""} for example in found]
        assert bare == [{**row_from_example(e), "id": ""} for e in expected], name
    assert [example.question for example in read_jsonl(tmp_path / "datasets.jsonl")] == [
        "Why?",
        "How?",
    ]


def test_files_of_a_folder_keep_their_own_columns_lines_and_splits(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text('{"question": "a", "tags": {"x": "1"}}\n')
    (tmp_path / "train-2.csv").write_text("question,reference_answer\nb,2\n")
    (tmp_path / "test.jsonl").write_text('{"question": "c"}\n')
    (tmp_path / "README.md").write_text("# Rows")
    places = [place for place, _ in read_table(str(tmp_path), Hub())]
    assert places == ["train-2.csv:2", "train.jsonl:1"]
    [(place, row)] = read_table(str(tmp_path), Hub(split="test"))
    assert (place, row) == (1, {"question": "c"})
    assert len(list(read_table(str(tmp_path), Hub(files="t*.jsonl")))) == 2
    with pytest.raises(DataError, match="no files of rows by the pattern"):
        list(read_table(str(tmp_path), Hub(files="*.parquet")))


def test_a_file_of_other_columns_in_a_folder_is_named(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"question": "a"}\n')
    (tmp_path / "b.jsonl").write_text('{"completion": "a", "label": 1}\n')
    with pytest.raises(DataError, match=r"its file b.jsonl .*choose files with --files"):
        import_rows(str(tmp_path), "jsonl")
    assert len(import_rows(str(tmp_path), "jsonl", Hub(files="a*"))[0]) == 1


def test_a_split_is_taken_or_refused(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"dev": one, "train": one.select([0])}).save_to_disk(tmp_path / "both")
    both = str(tmp_path / "both")
    assert [row for _, row in read_table(both, Hub())] == ROWS[:1]
    assert [row for _, row in read_table(both, Hub(split="dev"))] == ROWS
    with pytest.raises(DataError, match="there are dev, train"):
        list(read_table(both, Hub(split="test")))
    (tmp_path / "rows.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match=r"--split: .*rows.jsonl is a file, which has none"):
        refuse_unused(str(tmp_path / "rows.jsonl"), Hub(split="test"))
    with pytest.raises(ConfigError, match=r"--revision: .* is a folder, which has none"):
        refuse_unused(both, Hub(revision="main"))


def test_ids_of_rows_without_one_follow_their_content(tmp_path: Path):
    rows = [{"question": "a"}, {"question": "b"}, {"question": "a"}, {"question": "b", "id": 2.0}]
    for name, order in (("one.jsonl", (0, 1, 2, 3)), ("two.jsonl", (3, 1, 0))):
        (tmp_path / name).write_text("".join(json.dumps(rows[index]) + "\n" for index in order))
    first, second = (
        [example.id for example in import_rows(str(tmp_path / name), "jsonl")[0]]
        for name in ("one.jsonl", "two.jsonl")
    )
    assert first == [first[0], first[1], f"{first[0]}-2", "2"]
    assert second == ["2", first[1], first[0]]
