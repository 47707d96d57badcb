import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rcsd.data.fields import reason_name
from rcsd.data.importers import ImportReport, import_rows
from rcsd.errors import DataError
from rcsd.types import Criterion, Example

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"


def imported(folder: Path, format: str, *rows: object) -> tuple[list[Example], ImportReport]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return import_rows(str(path), format)  # pyright: ignore[reportArgumentType]


def criteria(example: Example) -> list[Criterion]:
    assert example.rubric is not None
    return list(example.rubric.criteria)


# RaR


@pytest.mark.skipif(not RAR.exists(), reason="needs ../shared/data")
def test_each_row_of_the_rar_sample_is_accounted_for():
    rows, report = import_rows(str(RAR), "rar")
    assert len(rows) == report.num_examples == report.num_rows == 250
    assert report.dropped_rows == ()
    assert sum(report.counts.values()) == sum(len(criteria(row)) for row in rows) == 1895
    assert sum(report.omissions.values()) == len(report.dropped_criteria) == 3


POINTS = {
    "Essential Criteria: Names it.": 1.0,
    "Important: Names it.": 0.7,
    "Optional Criteria: Names it.": 0.3,
    "Pitfall Criteria: Does not confuse it.": 0.9,
    "Pitfall Criteria: Does not mention that it holds.": -0.9,
}


def test_rar_points_follow_category_and_phrasing(tmp_path: Path):
    gold = {"question": "Why?", "rubrics": {"GT": list(POINTS)}}
    [example], report = imported(tmp_path, "rar", gold)
    assert [(c.text, c.weight, c.title) for c in criteria(example)] == [
        (text.split(": ")[1], weight, text.split(":")[0].split()[0])
        for text, weight in POINTS.items()
    ]
    assert sum(report.counts.values()) == 5
    items = [
        {"description": "Essential Criteria: Names it.", "title": "Name", "weight": 5},
        {"description": "Optional Criteria: Fails to see it.", "weight": -1},
    ]
    [example], report = imported(tmp_path, "rar", {"question": "Why?", "rubric": items})
    assert [(c.weight, c.title) for c in criteria(example)] == [(5, "Name"), (-1, "Optional")]
    assert report.counts["Optional, mistake: costs"] == 1


def test_what_an_import_leaves_out_is_listed(tmp_path: Path):
    fine, unclear = "Essential Criteria: Is right.", "Pitfall Criteria: Does not suggest it."

    def row(*gold: object, **more: object) -> dict[str, object]:
        return {"question": "Why?", "rubrics": {"GT": gold}} | more

    rows = [
        row(fine, unclear, "Nice: It is.", 3, id=1),
        row(fine, id=1),
        row(fine, question=""),
        row("Pitfall Criteria: Fails."),
        {"question": "Why?"},
        "{",
        "3",
    ]
    kept, report = imported(tmp_path, "rar", *rows)
    assert [example.id for example in kept] == ["1"]
    assert (report.num_rows, report.counts) == (7, {"Essential": 1})
    parts = ["id of an earlier", "question", "positive weight", "no gold", "JSON", "JSON object"]
    for (line, reason), number, part in zip(report.dropped_rows, range(2, 8), parts, strict=True):
        assert (line, part in reason, "rows.jsonl" in reason) == (number, True, False)
    assert [line for line, _ in report.dropped_criteria] == [1, 1, 1]
    assert "rubric[1]: unclear whether" in report.dropped_criteria[0][1]
    assert json.loads(json.dumps(asdict(report)))["num_rows"] == 7


# HealthBench


def healthbench_row(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    rubrics = [
        {"criterion": "Names a doctor.", "points": 5, "tags": ["axis:accuracy"]},
        {"criterion": "Doubles the dose.", "points": -3, "tags": []},
    ]
    return {
        "prompt": messages or [{"role": "user", "content": "Is it safe?"}],
        "prompt_id": "abc",
        "rubrics": rubrics,
        "example_tags": ["theme:hedging", "physician_agreed_category:x"],
        "ideal_completions_data": None,
        "canary": "healthbench:1",
    } | more


def test_healthbench_rows_are_read(tmp_path: Path):
    ideal = {"ideal_completion": "Ask.", "ideal_completions_group": "Group 1"}
    [example], report = imported(
        tmp_path, "healthbench", healthbench_row(ideal_completions_data=ideal)
    )
    assert (example.id, example.question, example.solution) == ("abc", "Is it safe?", "Ask.")
    assert [c.weight for c in criteria(example)] == [5, -3]
    assert example.tags == {
        "rubric_source": "healthbench",
        "theme": "hedging",
        "physician_agreed_category": "x",
    }
    assert report.unread_fields == {"canary": 1}
    assert report.counts["points below 0: a mistake"] == 1


def test_several_turns_are_kept_and_a_chat_that_the_assistant_ends_is_refused(tmp_path: Path):
    turns = (("user", "I ache."), ("assistant", "Where?"), ("user", "Here."))
    rows = [healthbench_row(*turns), healthbench_row(*turns[:2], prompt_id="def")]
    [example], report = imported(tmp_path, "healthbench", *rows)
    assert (example.question, [turn["role"] for turn in example.turns]) == (
        "Here.",
        ["user", "assistant"],
    )
    assert report.refusals == {"prompt: the last turn is the assistant's": 1}


# RubricHub

HUB_CRITERION = {
    "criterion": "Divides 3.87 g.",
    "points": 10,
    "tags": {"function": "", "parameters": "", "verifier": "llm"},
}


def test_rubrichub_rows_are_read(tmp_path: Path):
    ruled = {**HUB_CRITERION, "tags": {"function": "no_comma", "verifier": "rule"}}
    prompt = [{"role": "user", "content": "Moles?"}]
    row = {
        "prompt": prompt,
        "data_source": "Science",
        "ability": "Science",
        "reward_model": {"ground_truth": "", "rubrics": [HUB_CRITERION], "style": "rubric"},
        "extra_info": {"prompt": prompt},
        "Rubrics": [HUB_CRITERION, ruled],
    }
    exported = {"question": "Grams?", "id": "7", "rubrics": [HUB_CRITERION]}
    nested = {
        "messages": prompt,
        "reward_model": json.dumps({"ground_truth": "0.1", "rubrics": [HUB_CRITERION]}),
    }
    first, second, third = imported(tmp_path, "rubrichub", row, exported, nested)[0]
    assert [(c.text, c.weight) for c in criteria(first)] == [("Divides 3.87 g.", 10)] * 2
    assert first.tags["ability"] == "Science"
    assert (second.id, second.question) == ("7", "Grams?")
    assert third.reference_answer == "0.1"
    report = imported(tmp_path, "rubrichub", row)[1]
    assert report.counts["criterion with a function of RubricHub: text alone"] == 1
    assert report.unread_fields == {"extra_info": 1}


# ResearchQA and OpenRubrics


def test_researchqa_rows_are_read(tmp_path: Path):
    item = {"rubric_item": "Does it cite X?", "type": ["Citation", "Impact"]}
    row = {"id": "1.2", "query": "How?", "field": "Biology", "date": "2021-01-01"}
    [example], report = imported(tmp_path, "researchqa", {**row, "rubric": [item, {"type": []}]})
    assert criteria(example) == [Criterion("Does it cite X?", 1.0, "Citation, Impact")]
    assert example.tags == {
        "rubric_source": "researchqa",
        "field": "Biology",
        "date": "2021-01-01",
    }
    assert report.dropped_criteria[0][1].startswith("rubric[1].rubric_item")
    with pytest.raises(DataError, match="field 'query': the question is missing"):
        imported(tmp_path, "researchqa", {"rubric": [item]})
    with pytest.raises(DataError, match="field 'rubric': the rubric is missing"):
        imported(tmp_path, "researchqa", row)


def test_openrubrics_rows_are_read(tmp_path: Path):
    text = "1. The response names five.\n   All differ. [Hard Rule]\n2. It is clear. [Principle]\n"
    [example], _ = imported(tmp_path, "openrubrics", {"instruction": "Name.", "rubric": text})
    assert criteria(example) == [
        Criterion("The response names five.\n   All differ.", 1.0, "Hard Rule"),
        Criterion("It is clear.", 1.0, "Principle"),
    ]


# What is not as in the data set is named


def openrubrics_row(rubric: str | None) -> dict[str, Any]:
    return {"instruction": "Name.", "rubric": rubric}


ASKED = {"question": "a"}


@pytest.mark.parametrize(
    ("format", "row", "message"),
    [
        ("healthbench", healthbench_row(prompt=[]), "field 'prompt': the question is missing"),
        ("healthbench", healthbench_row(prompt=3), "field 'prompt': expected a text or a list"),
        ("healthbench", healthbench_row(("tool", "x")), r"prompt\[0\]': turns of role 'tool'"),
        ("healthbench", healthbench_row(rubrics=[{"criterion": "a", "points": 0}]),
         r"rubric\[0\]\.weight: 0 points say nothing"),
        ("healthbench", healthbench_row(rubrics=[{"criterion": "a b", "points": -1}]),
         "at least one criterion with a pos"),
        ("rubrichub", {"query": "a", "answer": "b"}, "a row of sft_RuFT"),
        ("rubrichub", {"rubrics": [HUB_CRITERION]}, "expected prompt or messages or question"),
        ("rubrichub", ASKED, "expected Rubrics or rubrics or reward_model.rubrics"),
        ("rubrichub", ASKED | {"rubrics": [3]}, r"field 'rubrics\[0\]': expected a text or an obj"),
        ("openrubrics", openrubrics_row("Be good.\nBe brief."), "expected a numbered list"),
        ("openrubrics", openrubrics_row("1. a [Principle]\n3. b [Principle]"), r"got \[1, 3\]"),
    ],
)  # fmt: skip
def test_a_row_of_another_layout_is_refused(tmp_path: Path, format: str, row: dict, message: str):
    with pytest.raises(DataError, match=message):
        imported(tmp_path, format, row)


def test_reasons_are_counted_without_what_differs():
    for reason, name in {
        "field 'rubric[3].weight': expected a, got 'x'": "rubric[].weight: expected a",
        "rubric[3]: cut off: '{'": "rubric[]: cut off",
        "field 'id': '7' is the id of an earlier row": "id: … is the id of an earlier row",
    }.items():
        assert reason_name(reason) == name
