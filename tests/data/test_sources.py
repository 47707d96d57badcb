import json
from pathlib import Path

import pytest

from rcsd.data.importers import import_rows
from rcsd.data.sources import Hub, read_table
from rcsd.errors import DataError


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
    with pytest.raises(DataError, match=r"cannot be loaded \(split 'tset'"):
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
        ("rows.csv", b"id\n\xff\n", "invalid UTF-8 at byte 4"),
        ("rows.json", b'{"a": 1}', "expected a JSON list of objects, got dict"),
    ],
)
def test_broken_tables_are_clear_errors(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_rows(str(tmp_path / name), "jsonl")
