"""``rcsd rubrics train`` and ``write``: end to end on a tiny model, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.tiny import tiny_folder

from rcsd.config import Model
from rcsd.data.rows import read_jsonl
from rcsd.data.rubric import rubric_rows
from rcsd.models.save import load_trained
from rcsd.runs import RunFolder

ROWS = [
    {
        "id": f"q{n}",
        "question": f"What is {n} + 2?",
        "reference_answer": f"{n + 2}",
        "tags": {"n": "a"},
    }
    for n in range(5)
]
SMALL = ["--max-tokens", "100", "--max-criteria", "2", "--max-characters", "12"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model, and questions without rubrics."""
    tiny_folder(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def write_rows(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def words_of(
    folder: Path, *more: object, model: str = "model", out: str = "out.jsonl"
) -> list[Any]:
    where = ["--model", folder / model, "--data", folder / "rows.jsonl", "--out", folder / out]
    return ["write", *where, *SMALL, *more]


def counts(out: str) -> dict[str, int]:
    """The printed counts, by what they count."""
    parts = [line.split(maxsplit=1) for line in out.splitlines()]
    return {part[1]: int(part[0]) for part in parts if len(part) == 2 and part[0].isdigit()}


def run_file(folder: Path, name: str = "run", **changes: Any) -> Path:
    """A YAML file of a stage 1 that does not say what is written."""
    gold = [{"criterion": "Says it.", "weight": 1}]
    write_rows(folder / "gold.jsonl", [{**row, "rubric": gold} for row in ROWS])
    tree: dict[str, Any] = {
        "model": {"path": str(folder / "model"), "training": {"type": "full"}},
        "data": {"type": "jsonl", "path": str(folder / "gold.jsonl")},
        "views": {"student": "answer", "teacher": "rubric+answer"},
        "method": {"type": "distill"},
        "optim": {"lr": 0.001},
        "sampling": {
            "max_tokens": 30,
            "grammar": {"type": "rubric", "max_criteria": 2, "max_characters": 12},
        },
        "steps": 1,
        "examples_per_step": 2,
        "out": str(folder / name),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree | changes))
    return path


# write


def test_write_gives_every_row_a_rubric_and_says_what_happened(folder: Path, said: Any) -> None:
    code, out, err = said(*words_of(folder))
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
        assert (row.question, row.reference_answer) == (
            given["question"],
            given["reference_answer"],
        )
        assert row.tags["n"] == "a"
        assert row.tags["rubric_source"].startswith(str(folder / "model"))
    report = json.loads((folder / "out.jsonl.written.json").read_text())
    assert report["settings"]["grammar"]["max_criteria"] == 2
    assert report["num_written"] == 5
    code, _, err = said("check", folder / "out.jsonl", "--fail-on", "never")
    assert (code, err) == (0, "")


def test_options_reach_the_decoding(folder: Path, said: Any) -> None:
    more = ["--temperature", 1.2, "--top-p", 0.9, "--seed", 7, "--view", "answer"]
    code, _, _ = said(*words_of(folder, *more, "--batch-size", 2, "--max-prompt-tokens", 300))
    assert code == 0
    settings = json.loads((folder / "out.jsonl.written.json").read_text())["settings"]
    assert settings == {
        "view": "answer",
        "temperature": 1.2,
        "top_p": 0.9,
        "top_k": None,
        "max_tokens": 100,
        "max_prompt_tokens": 300,
        "grammar": {"type": "rubric", "max_criteria": 2, "max_characters": 12},
        "templates": None,
        "seed": 7,
    }


def test_an_existing_file_is_kept_unless_forced(folder: Path, said: Any) -> None:
    (folder / "out.jsonl").write_text("mine")
    code, _, err = said(*words_of(folder))
    assert (code, "--force" in err) == (2, True)
    assert (folder / "out.jsonl").read_text() == "mine"
    assert said(*words_of(folder, "--force"))[0] == 0
    assert len(read_jsonl(folder / "out.jsonl")) == 5
    before = (folder / "rows.jsonl").read_text()
    code, _, err = said(*words_of(folder, "--force", out="rows.jsonl"))
    assert (code, "would be overwritten" in err) == (2, True)
    assert (folder / "rows.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-tokens", "10"], "max_tokens: Input should be greater than or equal to 64"),
        (
            ["--max-criteria", "300"],
            "grammar.max_criteria: Input should be less than or equal to 64",
        ),
        (["--data", "/nowhere.jsonl"], "there is no such file"),
        (["--model", "/nowhere"], "cannot load '/nowhere'"),
    ],
)
def test_a_wrong_option_is_explained(
    folder: Path, said: Any, more: list[str], message: str
) -> None:
    code, _, err = said(*words_of(folder, *more))
    assert code == 2
    assert message in err
    assert not (folder / "out.jsonl").exists()


# train


def test_a_trained_writer_writes_with_the_view_that_it_was_trained_with(
    folder: Path, said: Any
) -> None:
    lora = {"type": "lora", "rank": 2, "alpha": 4}
    model = {"path": str(folder / "model"), "training": lora}
    code, out, _ = said("train", run_file(folder, model=model), "optim.lr=1e-2")
    assert code == 0
    assert str(folder / "run" / "model") in out
    record = RunFolder(folder / "run").read_record()
    assert record["config"]["views"]["writes"] == "rubric"
    assert record["config"]["optim"]["lr"] == 1e-2
    code, _, _ = said(*words_of(folder, model="run"))
    assert code == 0
    report = json.loads((folder / "out.jsonl.written.json").read_text())
    assert report["settings"]["view"] == "answer"
    assert report["writer"] == str(folder / "run")
    # Another view than the trained one is the user's to ask for.
    assert said(*words_of(folder, "--view", "none", model="run", out="none.jsonl"))[0] == 0
    report = json.loads((folder / "none.jsonl.written.json").read_text())
    assert report["settings"]["view"] == "none"
    # The untrained model is another writer.
    code, out, _ = said(*words_of(folder, "--view", "answer", out="direct.jsonl"))
    assert counts(out)["of these found in the cache"] == 0
    policy, name = load_trained(Model(path=str(folder / "run")))
    assert (policy.has_adapters, name) == (False, str(folder / "run"))
    assert all(rubric_rows(row.rubric) for row in read_jsonl(folder / "out.jsonl") if row.rubric)


def test_a_run_that_has_not_finished_cannot_write(folder: Path, said: Any) -> None:
    assert said("train", run_file(folder))[0] == 0
    (folder / "run" / "model").rename(folder / "moved")
    code, _, err = said(*words_of(folder, model="run"))
    assert (code, "no model yet; finish the run with --resume" in err) == (2, True)


def test_train_writes_rubrics_and_resumes(folder: Path, said: Any) -> None:
    views = {"student": "none", "teacher": "rubric"}
    assert said("train", run_file(folder, views=views))[0] == 0
    assert RunFolder(folder / "run").read_record()["config"]["views"]["writes"] == "rubric"
    code, _, err = said("train", run_file(folder, views=views))
    assert (code, "--resume" in err) == (2, True)
    assert said("train", run_file(folder, views=views), "--resume")[0] == 0


def test_train_refuses_a_file_or_an_override_that_says_answers(folder: Path, said: Any) -> None:
    path = run_file(folder, views={"writes": "answer", "teacher": "rubric"})
    for words in ([path], [run_file(folder, "other"), "views.writes=answer"]):
        code, _, err = said("train", *words)
        assert (code, "is for 'rcsd train'" in err) == (2, True)
    assert not (folder / "run").exists()
    assert said("train", path, "views.writes=rubric")[0] == 0
