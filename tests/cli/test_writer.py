"""``rcsd rubrics write``: end to end on a tiny model, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import run_file
from tests.support.tiny import tiny_folder

from rcsd.data.rows import read_jsonl

ROWS = [
    {"id": f"q{n}", "question": f"{n} + 2?", "reference_answer": f"{n + 2}", "tags": {"n": "a"}}
    for n in range(5)
]
SMALL = ["writing.max_tokens=100", "writing.grammar={max_criteria: 2, max_characters: 12}"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model, and questions without rubrics."""
    tiny_folder(tmp_path / "model")
    write_rows(tmp_path / "questions.jsonl", ROWS)
    return tmp_path


def write_rows(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def words_of(
    folder: Path, *more: object, model: str = "model", out: str = "out.jsonl"
) -> list[Any]:
    where = ["--model", folder / model, "--data", folder / "questions.jsonl", "--out", folder / out]
    return ["rubrics", "write", *where, *SMALL, *more]


def counts(out: str) -> dict[str, int]:
    """The printed counts, by what they count."""
    parts = [line.split(maxsplit=1) for line in out.splitlines()]
    return {part[1]: int(part[0]) for part in parts if len(part) == 2 and part[0].isdigit()}


def writer_file(folder: Path, **changes: Any) -> str:
    """A YAML file of a stage 1."""
    views = {"writes": "rubric", "student": "answer", "teacher": "rubric+answer"}
    grammar = {"type": "rubric", "max_criteria": 2, "max_characters": 12}
    rows = [{**row, "rubric": [{"criterion": "Says it.", "weight": 1}]} for row in ROWS]
    sampling = {"max_tokens": 30, "grammar": grammar}
    return run_file(folder, rows, views=views, sampling=sampling, **changes)


def test_write_gives_every_row_a_rubric_and_says_what_happened(folder: Path, rcsd: Any) -> None:
    code, out, err = rcsd(*words_of(folder))
    assert code == 0
    assert counts(out) == {
        "rows": 5,
        "with a rubric": 5,
        "of these found in the cache": 0,
        "cut off at the token limit, whole criteria kept": 0,
        "drawn more than once": 0,
        "held to one short criterion": 0,
        "left out, since the prompt does not fit": 0,
    }
    assert f"Rubrics: {folder / 'out.jsonl'}" in out
    assert "write rubrics" in err
    rows = read_jsonl(folder / "out.jsonl")
    assert [row.id for row in rows] == [row["id"] for row in ROWS]
    for row, given in zip(rows, ROWS, strict=True):
        assert row.rubric is not None
        assert [row.question, row.reference_answer] == list(given.values())[1:3]
        assert row.tags["n"] == "a"
        assert row.tags["rubric_source"].startswith(str(folder / "model"))
    report = json.loads((folder / "out.jsonl.written.json").read_text())
    assert report["settings"]["grammar"]["max_criteria"] == 2
    assert report["num_written"] == 5


def test_an_existing_file_is_kept_unless_forced(folder: Path, rcsd: Any) -> None:
    (folder / "out.jsonl").write_text("mine")
    code, _, err = rcsd(*words_of(folder))
    assert (code, "--force" in err) == (2, True)
    assert (folder / "out.jsonl").read_text() == "mine"
    assert rcsd(*words_of(folder, "--force"))[0] == 0
    assert len(read_jsonl(folder / "out.jsonl")) == 5
    before = (folder / "questions.jsonl").read_text()
    code, _, err = rcsd(*words_of(folder, "--force", out="questions.jsonl"))
    assert (code, "would be overwritten" in err) == (2, True)
    assert (folder / "questions.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["writing.max_tokens=10"], "writing.max_tokens: Input should be greater than or equal to"),
        (["writing.veiw=none"], "writing.veiw: unknown key; did you mean 'view'"),
        (["--data", "/nowhere.jsonl"], "there is no such file"),
        (["--model", "/nowhere"], "cannot load '/nowhere'"),
    ],
)
def test_a_wrong_option_is_explained(
    folder: Path, rcsd: Any, more: list[str], message: str
) -> None:
    code, _, err = rcsd(*words_of(folder, *more))
    assert (code, message in err) == (2, True)
    assert not (folder / "out.jsonl").exists()


def test_a_trained_writer_writes_with_the_view_that_it_was_trained_with(
    folder: Path, rcsd: Any
) -> None:
    lora = {"type": "lora", "rank": 2, "alpha": 4}
    model = {"path": str(folder / "model"), "training": lora}
    code, out, _ = rcsd("train", writer_file(folder, model=model), "optim.lr=1e-2")
    assert code == 0
    assert str(folder / "run" / "model") in out
    code, _, _ = rcsd(*words_of(folder, model="run"))
    assert code == 0
    report = json.loads((folder / "out.jsonl.written.json").read_text())
    assert report["settings"]["view"] == "answer"
    assert report["writer"] == str(folder / "run")
    # The untrained model is another writer.
    code, out, _ = rcsd(*words_of(folder, "writing.view=answer", out="direct.jsonl"))
    assert counts(out)["of these found in the cache"] == 0


def test_a_run_that_has_not_ended_writes_by_its_newest_checkpoint(folder: Path, rcsd: Any) -> None:
    assert rcsd("train", writer_file(folder))[0] == 0
    (folder / "run" / "model").rename(folder / "moved")
    code, out, _ = rcsd(*words_of(folder, model="run"))
    assert (code, "run, step 1\n" in out) == (0, True)
    (folder / "run" / "checkpoints").rename(folder / "moved" / "checkpoints")
    code, _, err = rcsd(*words_of(folder, model="run", out="other.jsonl"))
    assert (code, "no model and no checkpoint yet; go on with --resume" in err) == (2, True)
