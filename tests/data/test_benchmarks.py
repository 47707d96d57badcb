"""Benchmarks: each is read in the hub's layout."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.benchmarks.readers import strip_factor
from rcsd.data.load import load_examples
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.errors import ConfigError, DataError
from rcsd.graders.answers import grade_example
from rcsd.types import LETTERS, Example, Grading

SHARED = Path(__file__).parents[3] / "shared" / "data"

GPQA = {"Question": "What decays?", "Record ID": "rec1", "Subdomain": "Nuclear"}
GPQA |= {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
MED = {"question": "Which bone?", "opa": "Ulna", "opb": "Tibia", "opc": "Rib", "opd": "Atlas"}
MED |= {"exp": "It is."}
SCI = {"problem_text": "How far?", "source": "fund", "unit": " $\\mathrm{~m}$", "answer_latex": ""}
RAR = {"question": "Why?", "reference_answer": "So.", "question_source": "s"}
CRITERION = "Essential Criteria: Says so."
PIQA = {"goal": "Open it.", "sol1": "Pull.", "sol2": "Push."}
SCIQ = {"question": "Who?", "support": " He wrote it.", "correct_answer": "Darwin"}
SCIQ |= {f"distractor{n}": f"Name {n}" for n in (1, 2, 3)}
PUBMED = {"question": "Does it?", "context": {"contexts": ["We did."]}, "long_answer": "Perhaps."}
RUBRICHUB = {
    "prompt": [{"role": "user", "content": "Why?"}], "ability": "Science",
    "Rubrics": [{"criterion": "Says so.", "points": 5}],
}  # fmt: skip
RESEARCH = {"query": "How?", "rubric": [{"rubric_item": "Does it say?", "type": ["a"]}]}


def labelled(key: str, *texts: str, question: str = "question") -> dict[str, Any]:
    labels = list("12345" if key.isdigit() else "ABCDE")[: len(texts)]
    return {question: "Which?", "choices": {"text": texts, "label": labels}, "answerKey": key}


def write(file: Path, rows: list[Any]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


# Task, file, its rows, the right options or references of both rows.
LAYOUTS: list[tuple[str, str, Any, list[str]]] = [
    ("piqa", "rows.jsonl", [PIQA | {"label": n} for n in (0, 1)], ["Pull.", "Push."]),
    (
        "arc-challenge", "rows.jsonl",
        [labelled("B", "ice", "steam"), labelled("1", "iron", "wood", "clay")], ["steam", "iron"],
    ),
    (
        "openbookqa", "rows.jsonl",
        [labelled(key, "ice", "steam", question="question_stem") for key in "AB"],
        ["ice", "steam"],
    ),
    ("sciq", "rows.jsonl", [SCIQ, SCIQ | {"support": ""}], ["Darwin", "Darwin"]),
    (
        "gpqa-diamond", "rows.jsonl",
        [GPQA | {"Record ID": n, "Correct Answer": n + "\n"} for n in ("it", "x")], ["it", "x"],
    ),
    ("medmcqa", "rows.jsonl", [MED | {"id": str(n), "cop": n} for n in (0, 3)], ["Ulna", "Atlas"]),
    (
        "pubmedqa", "rows.jsonl",
        [PUBMED | {"pubid": 1, "final_decision": x} for x in ("no", "maybe")], ["no", "maybe"],
    ),
    (
        "scibench", "rows.jsonl",
        [
            {**SCI, "answer_number": "1,200.5", "problemid": " 1 "},
            {**SCI, "answer_number": "\u22121.5", "problemid": "1", "solution": "So."},
        ],
        ["1200.5", "-1.5"],
    ),
    (
        "rar-science", "rows.jsonl",
        [{**RAR, "id": n, "rubrics": {"GT": [CRITERION]}} for n in (1, 2)], ["So.", "So."],
    ),
    (
        "rar-science", "hub.jsonl",
        [{**RAR, "rubric": [{"title": "a", "description": CRITERION, "weight": 5}]}] * 2,
        ["So.", "So."],
    ),
    ("researchqa", "test.jsonl", [RESEARCH | {"id": n} for n in ("1", "2")], []),
    ("rubrichub-science", "rows.jsonl", [RUBRICHUB | {"id": n} for n in ("1", "2")], []),
]  # fmt: skip


def section(name: str, path: Path | None = None, **changes: Any) -> config.TaskData:
    return parse(config.TaskData, {"name": name, "path": path, **changes}, "test")


@pytest.mark.parametrize(("name", "file", "rows", "right"), LAYOUTS)
def test_each_benchmark_is_read(
    tmp_path: Path, name: str, file: str, rows: Any, right: list[str]
) -> None:
    write(tmp_path / file, rows)
    examples, record = load_examples(section(name, tmp_path / file, partial=True))
    assert (len(examples), record["num_rows"], record["excluded"]) == (2, 2, [])
    assert len({example.id for example in examples}) == 2
    found = []
    for example in examples:
        grading, answer = example.grading, example.reference_answer
        assert example.tags["task"] == name
        if grading is None:
            assert example.rubric is not None
        elif grading.kind == "choice":
            assert answer is not None
            letters = {f"{a}. {b}" for a, b in zip("ABCD", grading.options, strict=False)}
            assert letters <= set(example.question.splitlines())
            assert r"letter of the right option within \boxed{}" in example.question
            answer = grading.options["ABCD".index(answer)]
        found.append(answer)
    assert found == (right or [None, None])
    with pytest.raises(DataError, match=r"2 rows, and .* was published with \d+; partial: true"):
        load_examples(section(name, tmp_path / file))
    assert len(load_examples(section(name, tmp_path / file, limit=1))[0]) == 1


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gpqa-diamond", {"question": "?"}, "field 'Question': no such column"),
        ("arc-challenge", {"question": "?", "choices": ["a", "b"]}, "field 'answerKey': no such"),
        ("arc-challenge", labelled("A", "a") | {"choices": "a"}, "'choices': expected labels"),
        ("arc-challenge", labelled("C", "a", "b"), "none of the labels"),
        ("medmcqa", MED | {"cop": 4}, "the label is option 5 of 4"),
        ("piqa", {"goal": "?", "sol1": "a", "sol2": "b", "label": 2}, "expected 0, 1, or -1"),
        ("piqa", {"goal": "?", "sol1": "a", "sol2": 3, "label": 1}, "expected 2 to 26 texts"),
        ("scibench", {"question": "?"}, "problem_text"),
        ("rubrichub-science", {"query": "?", "answer": "!"}, "prompt or messages or question"),
        ("pubmedqa", PUBMED | {"final_decision": "perhaps"}, "expected one of yes, no, maybe"),
        ("pubmedqa", PUBMED | {"context": 3, "final_decision": "no"}, "expected a list of texts"),
        ("sciq", SCIQ | {"question": None}, "expected a text, got None"),
    ],
)
def test_another_layout_is_refused_by_file_line_and_field(
    tmp_path: Path, name: str, row: dict[str, Any], message: str
) -> None:
    file = tmp_path / "rows.jsonl"
    write(file, [row])
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{message}"):
        load_examples(section(name, file, partial=True))


def test_what_cannot_be_asked_is_counted_and_listed(tmp_path: Path) -> None:
    file, good = tmp_path / "rows.jsonl", PIQA | {"label": 1}
    write(file, [good, PIQA | {"sol1": "Push. ", "label": 0}, PIQA | {"label": -1}, good])
    examples, record = load_examples(section("piqa", file, partial=True))
    assert [example.id for example in examples] == ["1", "4"]
    reasons = ["options that are the same", "no label"]
    assert record["excluded"] == [
        (str(file), n, why) for n, why in zip((2, 3), reasons, strict=True)
    ]
    assert record["exclusions"] == dict.fromkeys(reasons, 1)
    write(file, [{**SCI, "answer_number": "two", "problemid": "1"}])
    with pytest.raises(DataError, match="no row can be used; the first: the reference is not a n"):
        load_examples(section("scibench", file, partial=True))


def options(example: Example) -> tuple[str, ...]:
    assert example.grading is not None
    return example.grading.options


def test_options_are_shuffled_by_seed_and_id_alone(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    write(file, [{**MED, "id": f"m{n}", "cop": 3} for n in range(200)])
    taken = section("medmcqa", file, partial=True)
    every, record = load_examples(taken)
    assert record["options_seed"] == 0
    assert load_examples(taken.model_copy(update={"limit": 7}))[0] == every[:7]
    for one in every:
        assert one.reference_answer is not None
        assert options(one)["ABCD".index(one.reference_answer)] == "Atlas"
    places = Counter(one.reference_answer for one in every)
    assert set(places) == set("ABCD")
    assert max(places.values()) < 75  # 50 expected; 4 standard deviations are 24
    other = load_examples(taken.model_copy(update={"options_seed": 1}))[0]
    assert sum(options(a) != options(b) for a, b in zip(every, other, strict=True)) > 150
    kept = load_examples(taken.model_copy(update={"options_seed": None}))[0]
    assert {(options(one), one.reference_answer) for one in kept} == {
        (("Ulna", "Tibia", "Rib", "Atlas"), "D")
    }


def test_a_place_that_gives_the_answer_away_is_refused(tmp_path: Path) -> None:
    for name in ("gpqa-diamond", "sciq"):
        with pytest.raises(ConfigError, match="always in the same place"):
            load_examples(section(name, tmp_path, options_seed=None))


@pytest.mark.parametrize(
    ("unit", "shown"),
    [(r"$\mathrm{~m}$", r"$\mathrm{~m}$"), (r"$10^{-8} \mathrm{C}$", r"$\mathrm{C}$"),
     ("$10^4$", "$10^4$"), (" $10^{28} $", "$10^{28} $"), ("$10^6$ m", "m"), ("$", "$"),
     (r"$\mathrm{10^{-4}} \mathrm{~m}$", r"$\mathrm{~m}$")],
)  # fmt: skip
def test_a_units_factor_is_shown_only_where_it_is_all_of_the_unit(unit: str, shown: str) -> None:
    assert strip_factor(unit) == shown


def test_wrong_options_may_be_the_same_and_the_right_one_differs(tmp_path: Path) -> None:
    wrong = {f"Incorrect Answer {n}": f"beta {m}" for n, m in ((1, "2 "), (2, 2), (3, 3))}
    row = GPQA | wrong | {"Correct Answer": "it"}
    write(tmp_path / "a.jsonl", [row, row | {"Incorrect Answer 1": "it"}])
    [example], record = load_examples(section("gpqa-diamond", tmp_path / "a.jsonl", partial=True))
    assert record["exclusions"] == {"options that are the same": 1}
    assert example.grading is not None
    assert example.reference_answer is not None
    options = example.grading.options
    assert sorted(options) == ["beta 2", "beta 2", "beta 3", "it"]
    assert options[LETTERS.index(example.reference_answer)] == "it"
    write_jsonl([example], tmp_path / "written.jsonl")
    assert read_jsonl(tmp_path / "written.jsonl") == [example]
    for letter, option in zip(LETTERS, options, strict=False):
        for text in (letter, option, f"{letter}. {option}", f"Surely {option}: option {letter}."):
            assert grade_example(example, rf"\boxed{{{text}}}").verdict is (option == "it"), text


def test_a_unit_that_is_only_a_factor_is_asked_for_and_counted_in(tmp_path: Path) -> None:
    row = {**SCI, "answer_number": "5.85", "problemid": "1", "unit": " $10^4$"}
    write(tmp_path / "a.jsonl", [row])
    [example], _ = load_examples(section("scibench", tmp_path / "a.jsonl", partial=True))
    assert example.question.endswith(r"within \boxed{}, in $10^4$.")
    for answer, right in (("5.85", True), ("58500", True), (r"5.85 \times 10^4", True),
                          ("585", False)):  # fmt: skip
        assert grade_example(example, rf"\boxed{{{answer}}}").verdict is right


def test_a_number_is_asked_for_in_its_unit(tmp_path: Path) -> None:
    row = {**SCI, "answer_number": "3", "problemid": "1"}
    write(tmp_path / "a.jsonl", [row, row | {"unit": " "}])
    (first, second), _ = load_examples(section("scibench", tmp_path / "a.jsonl", partial=True))
    assert first.question == (
        "How far?\n\nReason step by step, then put the number within \\boxed{}, in $\\mathrm{~m}$."
    )
    assert first.grading == Grading("number", unit=r"$\mathrm{~m}$", tolerance=0.05)
    assert second.question.endswith(r"within \boxed{}.")
    assert (first.id, second.id) == ("fund:1", "fund:1#2")


def test_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"GPQA is gated: accept its terms .* 'hf auth login'"):
        load_examples(section("gpqa-diamond"))
    with pytest.raises(DataError, match=r"baber/piqa: .*name a local copy by path"):
        load_examples(section("piqa"))
    with pytest.raises(DataError, match=r"holds nothing of piqa's split validation: .*valid"):
        load_examples(section("piqa", tmp_path))
    with pytest.raises(ConfigError, match="piqa has no split 'test'; it has train, validation"):
        load_examples(section("piqa", tmp_path, split="test"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development files are not there")
@pytest.mark.parametrize(("name", "num_rows"), [("scibench", 346), ("rar-science", 250)])
def test_the_development_files_are_read_whole(name: str, num_rows: int) -> None:
    file = SHARED / f"{name.replace('-', '_')}_dev.jsonl"
    examples, record = load_examples(section(name, file, partial=True))
    assert (len(examples), record["num_rows"], record["excluded"]) == (num_rows, num_rows, [])
