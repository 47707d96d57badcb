"""Published layouts, shapes of rubrics and chats: each kind with a small sample of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from rcsd.config.data import Format
from rcsd.data.importers import ImportReport, import_rows
from rcsd.data.importers.columns import Columns, read_mapping
from rcsd.data.importers.layouts import LAYOUTS
from rcsd.data.rows import example_from_row, row_from_example
from rcsd.errors import DataError
from rcsd.types import Example


def imported(
    folder: Path, rows: list[Any] | str, suffix: str = "jsonl", given: Columns | None = None
) -> tuple[list[Example], ImportReport]:
    path = folder / f"rows.{suffix}"
    path.write_text(rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows)))
    return import_rows(str(path), chosen=given)


def points(example: Example) -> dict[str, float]:
    return {c.text: c.weight for c in example.rubric.criteria} if example.rubric else {}


USER = [{"role": "user", "content": "Why?"}]
WEIGHED = [{"criterion": "Names it.", "weight": 4}, {"criterion": "Invents it.", "weight": -3}]
POINTED = [{"criterion": "Names it.", "points": 4}, {"criterion": "Invents it.", "points": -3}]
LEVELS = {f"score{n}_description": f"level {n}" for n in range(1, 6)}
TITLED = [{"title": "A", "description": "Names it.", "weight": 4},
          {"title": "B", "description": "Invents it.", "weight": -3}]  # fmt: skip
BOTH = {"Names it.": 4, "Invents it.": -3}

SAMPLES: Mapping[str, list[tuple[dict[str, Any], Mapping[str, float]]]] = {
    "rar": [
        ({"question": "Why?", "rubrics": {"GT": ["Essential Criteria: Names it."]}},
         {"Names it.": 1}),
        ({"question": "Why?", "rubric": [{"description": "Important Criteria: Names it.",
          "title": "It", "weight": 4}]}, {"Names it.": 4}),
    ],
    "healthbench": [
        ({"prompt": USER, "prompt_id": "a", "rubrics": POINTED, "example_tags": ["theme:x"]}, BOTH),
        ({"id": "a", "conversation": {"messages": USER}, "rubric_items":
          [{"criterion_text": "Names it.", "points": 4}], "physician_response": "So."},
         {"Names it.": 4}),
    ],
    "rubrichub": [({"prompt": USER, "ability": "x", "Rubrics": POINTED}, BOTH)],
    "researchqa": [({"query": "Why?", "rubric": [{"rubric_item": "Names it?", "type": ["X"]}]},
                    {"Names it?": 1})],
    "openrubrics": [
        ({"instruction": "Why?", "rubric": text}, {"Names it.": 1, "Is clear.": 1})
        for text in (
            "1. Names it. [Hard Rule]\n2. Is clear. [Principle]",
            "1. Names it. [Hard Rule] 2. Is clear. [Principle]",
            "** Rubric**:\n1. Names it. [Hard Rule] \r\n2. Is clear. [Principle]\r\n",
            "**1.** Names it. **[Hard Rule]**\n**2.** Is clear. [Principle]",
            "1. [Hard Rule] Names it.\n2. [Principle] Is clear.",
            "- Names it. [Hard Rule]\n- Is clear. [Principle]",
        )
    ],
    "researchrubrics": [({"prompt": "Why?", "sample_id": "s", "domain": "x", "rubrics":
                          [item | {"axis": "Explicit"} for item in WEIGHED]}, BOTH)],
    "prbench": [
        ({"task": "t", "prompt_0": "Why?", "response_0": None, "rubric": [
            {"title": "Names it.", "annotations": {"weight_class": "critically important",
             "critically_important_weight": 4, "important_weight": 9}},
            {"title": "Invents it.", "annotations": {"weight_class": "detrimental",
             "detrimental_weight": 3}}]}, BOTH),
    ],
    "profbench": [({"task_id": "p", "prompt": "Why?", "filepaths": [], "rubrics": [
        {"criterion_description": "Names it.", "criterion_weight": "Critical",
         "criterion_type": ["Reasoning"]},
        {"criterion_description": "Is brief.", "criterion_weight": "Minor"}]},
        {"Names it.": 4, "Is brief.": 2})],
    "open-instruct": [({"messages": USER, "dataset": "rubric", "ground_truth":
                        json.dumps({"query": "Why?", "rubrics": TITLED})}, BOTH)],
    "verl": [
        ({"data_source": "x", "prompt": USER, "reward_model": {"rubric": WEIGHED}}, BOTH),
        ({"data_source": "x", "prompt": USER, "reward_model":
          json.dumps({"ground_truth": json.dumps({"rubrics": WEIGHED})})}, BOTH),
        ({"data_source": "x", "prompt": USER, "extra_info": {"rubrics": POINTED}}, BOTH),
    ],
    "tinker": [({"convo": USER, "rubric_items": [{"rubric_str": "Names it.",
                 "extraction_regex": "x"}]}, {"Names it.": 1})],
    "verifiers": [
        ({"prompt": USER, "answer": "So.", "info":
          json.dumps({"criteria": ["Names it.", "Invents it."], "points_list": [4, -3]})}, BOTH),
        ({"question": "Why?", "info": {"rubric": WEIGHED}}, BOTH),
    ],
    "autorubric": [({"prompt": "Why?", "rubric": [
        {"name": "it", "weight": 4, "requirement": "Names it."},
        {"name": "no", "weight": -3, "requirement": "Invents it."}]}, BOTH)],
    "writingbench": [({"index": 3, "query": "Why?", "checklist": [
        {"name": "Length", "criteria_description": "Is brief.", "1-2": "long",
         "9-10": "one line"}]},
        {"Is brief. Highest level: one line": 1})],
    "biggen": [({"id": "b", "system_prompt": "Be.", "input": "Why?", "reference_answer": "So.",
                 "score_rubric": {"criteria": "Names it?", **LEVELS}},
                {"Names it? Highest level: level 5": 1})],
    "wildchecklists": [
        ({"prompt": "Why?", "requirements": "1) Is it? (100)\n2) Or not? (80)", "chosen": "x"},
         {"Is it?": 100, "Or not?": 80}),
        ({"instruction": "Why?", "requirements": [["Is it?", 100], ["Or not?", 80]]},
         {"Is it?": 100, "Or not?": 80}),
    ],
    "infobench": [({"id": "i", "instruction": "Why?", "input": "", "decomposed_questions":
                    ["Is it?", "Or not?"]}, {"Is it?": 1, "Or not?": 1})],
}  # fmt: skip


def test_every_format_with_a_name_has_a_sample():
    assert set(SAMPLES) == set(LAYOUTS) == set(get_args(Format)) - {"jsonl"}


@pytest.mark.parametrize(
    ("format", "row", "criteria"),
    [(format, *sample) for format, samples in SAMPLES.items() for sample in samples],
)
def test_a_published_layout_is_recognised_and_read(
    tmp_path: Path, format: str, row: dict, criteria: dict
):
    [example], report = imported(tmp_path, [row])
    assert (report.format, example.question, points(example)) == (format, "Why?", criteria)
    named, _ = import_rows(str(tmp_path / "rows.jsonl"), format)  # pyright: ignore[reportArgumentType]
    assert named == [example]


def test_parts_of_a_published_layout_have_their_places(tmp_path: Path):
    [example], _ = imported(tmp_path, [SAMPLES["biggen"][0][0] | {"capability": "planning"}])
    assert (example.id, example.solution) == ("b", "So.")
    assert example.turns == ({"role": "system", "content": "Be."},)
    assert example.tags == {"rubric_source": "biggen", "capability": "planning"}
    row = {"task": "t", "prompt_0": "A?", "response_0": "B.", "prompt_1": "C?", "response_1": None}
    [example], _ = imported(tmp_path, [SAMPLES["prbench"][0][0] | row])
    assert (example.question, [turn["content"] for turn in example.turns]) == ("C?", ["A?", "B."])
    row = SAMPLES["infobench"][0][0] | {"input": "The text."}
    assert imported(tmp_path, [row])[0][0].question == "Why?\n\nThe text."


# Shapes of a rubric in a file of one's own

SHAPES = {
    "objects": (WEIGHED, BOTH),
    "points": (POINTED, BOTH),
    "descriptions": (TITLED, BOTH),
    "texts": (["Names it.", "Is brief."], {"Names it.": 1, "Is brief.": 1}),
    "texts with points": (["Names it. (4 points)", "Invents it. (-3 points)"], BOTH),
    "pairs": ([["Names it.", 4], ["Invents it.", -3]], BOTH),
    "JSON in a cell": (json.dumps(WEIGHED), BOTH),
    "Python in a cell": (repr(WEIGHED), BOTH),
    "bullets": ("- Names it. (4 points)\n- Invents it. (-3)", BOTH),
    "numbers": ("Rubric:\n1. Names it. (4)\n2) Invents it. (-3)", BOTH),
    "points first": ("* [+4] Names it.\n* [-3] Invents it.", BOTH),
    "deeper lines": ("1. Names:\n   1. one\n   2. two\n2. Is brief.",
                     {"Names:\n   1. one\n   2. two": 1, "Is brief.": 1}),
    "a year is no points": ("- Names the year (2020)\n- Is brief.",
                            {"Names the year (2020)": 1, "Is brief.": 1}),
    "one sentence": ("The answer names it.", {"The answer names it.": 1}),
    "wrapped": ({"criteria": WEIGHED}, BOTH),
    "points by text": ({"Names it.": 4, "Invents it.": -3}, BOTH),
    "objects by name": ({"a": {"description": "Names it.", "weight": 4}}, {"Names it.": 4}),
    "texts by name": ({"a": "Names it.", "b": "Is brief."}, {"Names it.": 1, "Is brief.": 1}),
    "lists by word": ({"essential": ["Names it."], "optional": ["Is brief."]},
                      {"Names it.": 1, "Is brief.": 0.3}),
    "numbers as texts": ([{"criterion": "Names it.", "weight": "4"},
                          {"criterion": "Invents it.", "weight": "-3 points"}], BOTH),
    "percentages": ([{"criterion": "Names it.", "weight": "60%"},
                     {"criterion": "Is brief.", "weight": "40 %"}],
                    {"Names it.": 60, "Is brief.": 40}),
    "words": ([{"criterion": "Names it.", "importance": "Must-have"},
               {"criterion": "Is brief.", "importance": "low"}],
              {"Names it.": 1, "Is brief.": 0.3}),
    "all true": ([{"criterion": "Names it.", "weight": True}], {"Names it.": 1}),
    "some without": ([{"criterion": "Names it.", "weight": None},
                      {"criterion": "Is brief.", "weight": 2}], {"Names it.": 1, "Is brief.": 2}),
    "levels": ([{"criterion": "Names it.", "weight": 4, "levels": {"0": "no", "1": "by name"}}],
               {"Names it. Highest level: by name": 4}),
    "scored levels": ([{"criterion": "Names it.", "levels":
                        [{"score": 2, "description": "by name"}, {"score": 0, "label": "no"}]}],
                      {"Names it. Highest level: by name": 1}),
    "tree": ([{"criterion": "Physics.", "weight": 6, "sub_criteria": [
        {"criterion": "Names it.", "weight": 2}, {"criterion": "Uses it.", "weight": 1}]}],
        {"Physics: Names it.": 4, "Physics: Uses it.": 2}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rubric_of_any_documented_shape_is_read(tmp_path: Path, shape: str):
    rubric, criteria = SHAPES[shape]
    [example], _ = imported(tmp_path, [{"question": "Why?", "rubric": rubric}])
    assert points(example) == pytest.approx(criteria)


def weights(*values: object) -> list[dict[str, object]]:
    return [{"criterion": "Names it.", "weight": value} for value in values]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rubric": weights("60%", 1)}, "points of several kinds in one rubric: a number, a perc"),
        ({"rubric": weights(True, 1)}, "points of several kinds in one rubric: a number, true or"),
        ({"rubric": weights("high", 1)}, "points of several kinds in one rubric: a number, a word"),
        ({"rubric": weights("grand")}, r"rubric\[0\].weight'.*a number, or one of essential"),
        ({"rubric": weights(1e9)}, r"rubric\[0\].weight': expected a number of at most 1e\+06"),
        ({"rubric": weights(0)}, "0 points say nothing"),
        ({"rubric": [{"criterion": "A a", "levels": ["bad", "good"]}]}, "levels have no numbers"),
        ({"rubric": {"1": "bad", "5": "good"}}, "numbers name texts"),
        ({"rubric": "Be good.\nBe brief."}, "expected a numbered list, bullets"),
        ({"rubric": '[{"criterion": '}, "begins like JSON, and is none"),
        ({"rubric": [WEIGHED]}, r"rubric\[0\]': expected a text or an object"),
        ({"reference_answer": ["a", "b"]}, "expected one text, got 2"),
        ({"image": "cat.png"}, "images are not supported"),
        ({"binary_labels": [True]}, "meta_eval"),
        ({"filepaths": ["a.pdf"], "task_id": "t", "prompt": "Why?",
          "rubrics": SAMPLES["profbench"][0][0]["rubrics"]}, "its prompt comes with documents"),
    ],
)  # fmt: skip
def test_what_means_no_rubric_is_refused_in_a_sentence(tmp_path: Path, row: dict, message: str):
    with pytest.raises(DataError, match=message) as caught:
        imported(tmp_path, [{"question": "Why?"} | row])
    assert len(str(caught.value)) < 400


def test_a_file_of_autorubric_is_one_row_with_its_own_rubric(tmp_path: Path):
    file = SAMPLES["autorubric"][0][0] | {"name": "x", "items": [{"submission": "So."}] * 2}
    [example], report = imported(tmp_path, json.dumps(file, indent=1), "json")
    assert (points(example), report.unread_fields) == (BOTH, {"items": 1, "name": 1})


def test_a_tree_without_a_question_is_refused_by_name(tmp_path: Path):
    tree = {"id": "root", "requirements": "All.", "weight": 1, "sub_tasks": [{"id": "a"}]}
    with pytest.raises(DataError, match="a tree of PaperBench"):
        imported(tmp_path, [tree])


# Columns


def test_criteria_in_columns_and_one_criterion_a_line_are_read(tmp_path: Path):
    wide = "Question,Criterion 1,Points 1,Criterion 2,Points 2\nWhy?,Names it.,4,Invents it.,-3\n"
    wide += "How?,Says so.,1,,\n"
    examples, _ = imported(tmp_path, wide, "csv")
    assert [points(example) for example in examples] == [BOTH, {"Says so.": 1}]
    for name in ("criterion", "rubric"):
        lines = f"question,{name},weight,topic\nWhy?,Names it.,4,x\nHow?,Says so.,1,x\n"
        examples, _ = imported(tmp_path, lines + "Why?,Invents it.,-3,x\n", "csv")
        assert [points(example) for example in examples] == [BOTH, {"Says so.": 1}]


def test_guessed_columns_take_the_alternatives_of_all_rows_and_count_the_others(tmp_path: Path):
    rows = [
        {"Prompt": "Why?", "Rubrics": WEIGHED, "Answer": 4, "uid": 7.0, "level": "easy"},
        {"query": "How?", "rubric_items": POINTED, "tags": ["a", "b"]},
        {"query": "Who?"},
    ]
    examples, report = imported(tmp_path, rows)
    assert [points(example) for example in examples] == [BOTH, BOTH, {}]
    assert (examples[0].id, examples[0].reference_answer) == ("7", "4")
    assert examples[1].tags == {"tags": "a, b"}
    assert report.unread_fields == {"level": 1}
    assert report.counts["row without a rubric"] == 1
    assert report.columns["question"] == "Prompt|query"


def test_given_columns_precede_guesses_and_must_be_there(tmp_path: Path):
    row = {
        "question": "No?",
        "q": {"text": "Why?"},
        "rm": {"list": [{"is": "Names it.", "p": "so"}]},
    }
    mapping = tmp_path / "columns.yaml"
    mapping.write_text(
        "question: q.text\nrubric: rm.list\ncriterion: is\nweight: p\nweights: {so: 4}"
    )
    given = read_mapping(mapping)
    [example], report = imported(tmp_path, [row], given=given)
    assert (example.question, points(example)) == ("Why?", {"Names it.": 4})
    assert report.unread_fields == {"question": 1}
    for wrong, message in (
        (
            Columns(weight="points"),
            "no row has a column 'points' for the weight; there are question",
        ),
        (Columns(question="ask"), "no row has a column 'ask' for the question"),
    ):
        with pytest.raises(DataError, match=message):
            imported(tmp_path, [{"question": "Why?", "rubric": WEIGHED}], given=wrong)
    with pytest.raises(DataError, match="no column looks like the question; name it: --question"):
        imported(tmp_path, [{"asked": "Why?", "rubric": WEIGHED}])
    mapping.write_text("questions: q")
    with pytest.raises(DataError, match=r"columns.yaml.*questions.*allowed are question"):
        read_mapping(mapping)


# Chats

SYSTEM = {"role": "system", "content": "Be brief."}
PARTS = [{"type": "text", "text": "Why?"}, {"type": "text", "text": "Say."}]


@pytest.mark.parametrize(
    ("row", "roles", "question"),
    [
        ({"messages": [SYSTEM, *USER]}, ["system"], "Why?"),
        ({"question": "Why?", "system": "Be brief."}, ["system"], "Why?"),
        ({"messages": [{"role": "developer", "content": "x"}, *USER]}, ["system"], "Why?"),
        ({"messages": json.dumps([SYSTEM, *USER])}, ["system"], "Why?"),
        ({"messages": [{"role": "user", "content": PARTS}]}, [], "Why?\n\nSay."),
        ({"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Yes?"},
                            {"from": "human", "value": "Why?"}]}, ["user", "assistant"], "Why?"),
        ({"question": "Why?", "turns": [SYSTEM]}, ["system"], "Why?"),
    ],
)  # fmt: skip
def test_a_chat_becomes_its_last_turn_and_the_turns_before(
    tmp_path: Path, row: dict, roles: list[str], question: str
):
    [example], _ = imported(tmp_path, [row | {"rubric": WEIGHED}])
    assert ([turn["role"] for turn in example.turns], example.question) == (roles, question)
    assert example_from_row(row_from_example(example)) == example


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"role": "user", "content": [*PARTS, IMAGE]}], "images are not supported"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "data": "A" * 5000}]}],
            "text parts",
        ),
        ([*USER, {"role": "assistant", "content": "So."}], "the last turn is the assistant's"),
        ([{"role": "tool", "content": "x"}, *USER], "turns of role 'tool' are not supported"),
        ([*USER, SYSTEM, *USER], "a system turn stands after other turns"),
        ([*USER, {"role": "assistant", "content": "", "tool_calls": [1]}, *USER], "tool calls are"),
        ([3], "expected a message"),
    ],
)
def test_a_chat_that_cannot_be_asked_is_refused_in_a_sentence(
    tmp_path: Path, turns: list, message: str
):
    with pytest.raises(DataError, match=message) as caught:
        imported(tmp_path, [{"messages": turns, "rubric": WEIGHED}])
    assert len(str(caught.value)) < 400
