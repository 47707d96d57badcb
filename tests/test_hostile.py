"""Hostile input: whatever stands in a file or a reply, it is read as it is or refused in words."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rcsd.config import Config, parse_config
from rcsd.config.base import MAX_NODES, read_tree
from rcsd.config.data import Format
from rcsd.data.checks import parse_check
from rcsd.data.importers import import_rows
from rcsd.data.rows import FIELDS, read_jsonl, read_rows, write_jsonl
from rcsd.data.rubric import parse_completion, parse_rubric, rubric_rows
from rcsd.data.written import read_completions
from rcsd.engines.sample_cache import SampleCache
from rcsd.errors import ConfigError, DataError, UserError
from rcsd.graders.answers import grade, grade_example
from rcsd.graders.answers.extraction import extract_marked_answer
from rcsd.graders.checks import met
from rcsd.graders.grade import read_graded
from rcsd.recipes.write_rubrics import decode_rubric
from rcsd.types import Example, Grading, rubric_score

# Of a property: conftest.py asks for more where slow tests run too.
NUM_CASES = int(os.environ.get("RCSD_NUM_CASES", "60"))

LARGE = [10**400, -(10**400), 1e308, 5e-324, -0.0, 2**53 + 1, math.nan, math.inf]
NUMBERS = st.integers() | st.floats() | st.sampled_from(LARGE)
ODD = ["", " ", "\0", "\ufeff", "\ud800", "\u2028", "\x85", "\U0010ffff", "a" * 5000, r"\boxed{"]
TEXTS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from([*ODD, "1e999"])
KEYS = st.sampled_from([*FIELDS, "criterion", "weight", "title", "check", "type", "value"]) | TEXTS


LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS


def nested(leaf: Any, keys: Any, max_leaves: int = 8) -> Any:
    """Lists and dictionaries of leaves."""
    return st.recursive(
        leaf,
        lambda part: st.lists(part, max_size=4) | st.dictionaries(keys, part, max_size=4),
        max_leaves=max_leaves,
    )


JSON = nested(LEAVES, KEYS, max_leaves=12)
CHECKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["contains", "matches", "number", "unit", "any", "not", "boxed"])},
    optional={
        **dict.fromkeys(("text", "unit"), TEXTS),
        **dict.fromkeys(("value", "tolerance"), NUMBERS),
        **dict.fromkeys(("check", "checks"), JSON),
        "pattern": TEXTS | st.sampled_from(["(", "(a+)+$", "(?i)\\p{L}", "a{1,99999}"]),
    },
)
CRITERIA = st.fixed_dictionaries(
    {"criterion": TEXTS | JSON, "weight": NUMBERS | JSON},
    optional={"title": TEXTS, "check": CHECKS | JSON, "points": NUMBERS},
)
RUBRICS = st.lists(CRITERIA, max_size=4) | JSON
TAGS = st.dictionaries(TEXTS, TEXTS) | JSON
ROWS = st.fixed_dictionaries(
    {"question": TEXTS | JSON},
    optional={"id": TEXTS | NUMBERS | JSON, "reference_answer": TEXTS | JSON}
    | {"rubric": RUBRICS, "tags": TAGS, "else": JSON},
)


@st.composite
def lines(draw: Any) -> bytes:
    """A line of a file: JSON, mostly, and then broken somewhere, sometimes."""
    row = draw(ROWS | JSON)
    text = json.dumps(row, ensure_ascii=draw(st.booleans()))
    raw = text.encode("utf-8", "surrogatepass")
    for how in draw(st.lists(st.sampled_from(BREAKS), max_size=2)):
        raw = how(raw)
    return raw.replace(b"\n", b" ")


BREAKS: list[Callable[[bytes], bytes]] = [
    lambda raw: b"\xef\xbb\xbf" + raw,
    lambda raw: raw[: len(raw) // 2],
    lambda raw: raw + b"\0",
    lambda raw: raw.replace(b'"question"', b'"id": 1, "question"', 1),
    lambda raw: raw[:-1] + b', "question": "again"}',
    lambda raw: b"[" * 20_000 + raw,
    lambda raw: raw.replace(b"1", b"9" * 5000, 1),
    lambda raw: raw.replace(b"e", b"\xff", 1),
    lambda raw: raw + b" " * 100_000,
    lambda raw: raw + b"\r",
]


def bounded(factor: float = 1) -> Any:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    suppressed = [*checks, HealthCheck.function_scoped_fixture]
    return settings(max_examples=int(NUM_CASES * factor), suppress_health_check=suppressed)


@bounded()
@given(st.lists(lines(), min_size=1, max_size=3))
@example([b'{"question": "a", "rubric": [{"criterion": "x", "weight": 1' + b"0" * 400 + b"}]}"])
@example([b'{"question": "a", "rubric": [{"criterion": "\\ud800", "weight": 1}]}'])
@example([b'{"question": "a", "id": "\\udfff"}'])
@example([b'{"question": "a", "tags": {"\\ud800": "a"}}'])
def test_a_row_is_read_as_it_stands_or_refused_by_file_and_line(
    tmp_path: Path, rows: list[bytes]
) -> None:
    path, copy = tmp_path / "rows.jsonl", tmp_path / "copy.jsonl"
    path.write_bytes(b"\n".join(rows))
    found, refused = tried(read_jsonl, path)
    if isinstance(refused, DataError):
        assert refused.path == path
        assert str(refused).startswith(str(path))
    else:
        parts = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        questions = [json.loads(part)["question"] for part in parts if part.strip()]
        assert questions == [e.question for e in found]
        write_jsonl(found, copy)
        assert read_jsonl(copy) == found
    tried(read_rows, path)
    tried(read_completions, [path], [Example("1", "?")])


def tried(read: Callable[..., Any], *arguments: Any) -> tuple[Any, UserError | None]:
    """What it returns, or what it refuses in words; anything else that it raises goes on."""
    try:
        return read(*arguments), None
    except UserError as error:
        return None, error


@bounded()
@given(RUBRICS, st.lists(st.booleans(), min_size=4, max_size=4))
@example([{"criterion": "a", "weight": 10**400}], [True] * 4)
@example([{"criterion": "a", "weight": 1e308}, {"criterion": "b", "weight": 1e308}], [True] * 4)
def test_a_rubric_is_valid_and_scored_or_refused(value: Any, verdicts: list[bool]) -> None:
    rubric, refused = tried(parse_rubric, value)
    if rubric is None:
        assert str(refused)
        return
    assert parse_rubric(json.loads(json.dumps(rubric_rows(rubric)))) == rubric
    num_criteria = len(rubric.criteria)
    assert 0 <= rubric_score(rubric, (verdicts * num_criteria)[:num_criteria]) <= 1


@bounded()
@given(CHECKS | JSON, TEXTS)
@example({"type": "number", "value": 10**400}, "1")
@example({"type": "matches", "pattern": "(a|aa)+$"}, "a" * 60 + "b")
def test_a_check_decides_or_is_refused_and_never_hangs(value: Any, text: str) -> None:
    _, refused = tried(parse_check, value)
    if refused is None:
        tried(met, value, text)


PIECES = [r"\boxed{", "}", "Answer: ", "the answer is ", "12", "-", "1e999", "10^999", " * 10^"]
PIECES += ["\n", "$", r"\frac{1}{", "²", "{,}", "1,000", " kg m^2", "…", "\ud800", "٣", "x"]
ANSWERS = st.lists(st.sampled_from(PIECES) | TEXTS, max_size=8).map("".join)


@bounded()
@given(ANSWERS, ANSWERS)
def test_any_completion_is_graded(text: str, reference: str) -> None:
    assert extract_marked_answer(text) != ""
    row = Example("1", "?", reference)
    assert grade_example(row, text).verdict in (True, False, None)


KINDS = {
    "choice": ("B", Grading("choice", ("10 °C", "25 °C", "3 °C"))),
    "number": ("5", Grading("number", unit="m")),
    "text": ("oxygen", Grading("text")),
}


MARKS = ["{", "}", "[", " ", "\n", "\\", "$", "**", " - ", r"\boxed{", r"\frac{", '{"a": ']
WORDS = ["1,000", "1.1.", "10^", "= 5 ", "a" * 50, "A. ", "Answer: ", "the answer is B ", "<think>"]


@pytest.mark.parametrize("piece", [*MARKS, *WORDS])
def test_long_replies_take_no_longer_than_their_length(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    begin = time.process_time()
    parse_completion(text, True)
    parse_completion(text, False)
    extract_marked_answer(text)
    for reference, grading in KINDS.values():
        grade(text, reference, grading)
    # Seconds where the time goes by the length, and minutes where it goes by its square.
    assert time.process_time() - begin < 20


JSON_PARTS = ['[{"criterion": "a", "weight": 1}', '{"criterion": "', '"weight": ', "]", "}", ", "]
JSON_PARTS += ["[", "1", "</think>", "```json\n", "```", "\\", r"\times", '"', "\n", "NaN", "1e999"]
JSON_PARTS += ["\\ud800"]
REPLIES = st.lists(st.sampled_from(JSON_PARTS) | TEXTS, max_size=10).map("".join)


@bounded()
@given(REPLIES | RUBRICS.map(lambda rubric: json.dumps(rubric)), st.booleans())
@example('[{"criterion": "\\ud800", "weight": 1}]', True)
@example('[{"criterion": "a", "weight": 1' + "0" * 5000 + "}]", True)
def test_what_a_model_writes_is_a_rubric_of_its_words_or_refused(text: str, finished: bool) -> None:
    rubric = parse_completion(text, finished)
    if rubric is not None:
        json.dumps(rubric_rows(rubric), ensure_ascii=False, allow_nan=False).encode()
        assert all(c.text in text or "\\" in text for c in rubric.criteria)


WORDS_OF_OTHERS = "question rubric rubrics Rubrics prompt messages criterion points tags weight "
WORDS_OF_OTHERS += "title role description reward_model id Learned GT reference_answer rubric_list "
MORE_WORDS_OF_OTHERS = """instruction query content messages turns levels sub_criteria input weight
annotations weight_class score_rubric criteria score1_description ground_truth extra_info prompt_0
response_0 criterion_1 weight_1 system from value id tags answer"""
FIELDS_OF_OTHERS = st.sampled_from([*WORDS_OF_OTHERS.split(), *MORE_WORDS_OF_OTHERS.split()])
FOREIGN = st.dictionaries(
    FIELDS_OF_OTHERS,
    nested(LEAVES | st.sampled_from(["user", "a [5]", "[{}]"]), FIELDS_OF_OTHERS),
    max_size=5,
)


@pytest.mark.parametrize("format", ["rar", "healthbench", "prbench", "biggen", "verl", "jsonl"])
@bounded(0.5)
@given(st.lists(FOREIGN, min_size=1, max_size=2))
def test_foreign_rows_are_read_or_refused(
    format: Format, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    imported, refused = tried(import_rows, str(path), format)
    if refused is None:
        found, report = imported
        assert report.num_examples + len(report.dropped_rows) == report.num_rows == len(rows)
        write_jsonl(found, out)
        assert read_jsonl(out) == found


RUN = {
    "model": {"path": "builtin:micro"},
    "data": {"type": "jsonl", "path": "rows.jsonl"},
    "method": {"type": "distill", "clip": {"type": "none"}, "support": {"type": "full"}},
    "optim": {"lr": 1e-3, "betas": [0.9, 0.95]},
    "sampling": {"max_tokens": 8},
    "evaluation": {"sets": {"a": {"type": "world", "num_examples": 1}}},
    **{"steps": 1, "out": "runs/x"},
}
SECTIONS = [*RUN, "views"]
NAMES = st.sampled_from([*SECTIONS, "type", "path", "lr", "sets", "terms", "rewards"])
PARTS = nested(LEAVES | st.dates() | st.binary(max_size=3), NAMES | TEXTS | st.integers())


@bounded(2)
@given(st.dictionaries(st.sampled_from(SECTIONS), PARTS, min_size=1, max_size=3), st.booleans())
@example({"optim": {"lr": math.inf}}, False)
@example({"out": "a\0b"}, False)
@example({"out": "\ud800"}, False)
@example({"steps": 10**5000}, False)
@example({"steps": 10**5000, "optim": {"lr": [10**5000]}}, False)
@example({"model": {"chat_template_kwargs": {"a": math.nan}}}, True)
@example({"model": {"chat_template_kwargs": {"a": {1: b"x"}}}}, True)
@example({"model": {1: 2}}, False)
def test_a_tree_is_a_configuration_or_refused(changes: dict[str, Any], inside: bool) -> None:
    tree: dict[str, Any] = {**RUN}
    for name, change in changes.items():
        merges = inside and isinstance(change, dict) and isinstance(RUN.get(name), dict)
        tree[name] = {**tree[name], **change} if merges else change
    found, refused = tried(parse_config, tree)
    if refused is not None:
        assert str(refused).startswith("config")
    else:
        assert isinstance(found, Config)
        record = json.dumps(found.model_dump(mode="json"), allow_nan=False)
        assert parse_config(json.loads(record)) == found


YAML_PARTS = ["model:", "  path: x", "steps: 1", "&a ", "*a", "<<: *a"]
YAML_PARTS += ["!!python/object:os.system ls", "!!binary x", "!!set {a, a}", "!!timestamp x"]
YAML_PARTS += ["2001-99-99", "? [a]", ": b", "- ", "{", "}", "[", "]", "|", ">", "%YAML 9.9", "---"]
YAML_PARTS += ["...", "0x", "1:99:99", "=", "~", "'", '"', "\t", "a: 1", "a: 2", '"\\0"']
YAML_PARTS += ['"\\ud800"', "!!float nan", "!!int 09", "!!int 0b"]
YAML = st.lists(st.sampled_from([*YAML_PARTS, "\ufeff"]) | TEXTS, max_size=10).flatmap(
    lambda parts: st.sampled_from(["\n", " ", ""]).map(lambda glue: glue.join(parts))
)


@bounded(2)
@given(YAML, st.text(max_size=10))
@example("a: 2001-99-99", "")
@example("a: !!timestamp x", "a=!!bool x")
@example("1: a", "a=b")
@example("a: " + "[" * 3000, "")
@example("a: &a [*a]", "")
@example("a: 0x" + "f" * 9000, "")
@example("a: !!int 09", "a.b=*x")
@example("a: 1", "a=2001-99-99")
def test_a_yaml_file_is_a_tree_or_refused_by_name(tmp_path: Path, text: str, override: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    tree, refused = tried(read_tree, path, [override] if override else [])
    if refused is not None:
        assert str(path) in str(refused) or "override" in str(refused)
    else:
        assert isinstance(tree, dict)
        with pytest.raises(ConfigError):
            parse_config(tree)


def tree_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return read_tree(path, [])


def test_aliases_that_grow_beyond_bounds_are_refused(tmp_path: Path) -> None:
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} values"):
        tree_of(tmp_path, "\n".join(laughs))
    with pytest.raises(ConfigError, match="stands within what it stands for"):
        tree_of(tmp_path, "a: &a [1, *a]")


def test_aliases_and_merges_of_a_file_s_own_size_are_taken(tmp_path: Path) -> None:
    text = "a: &a {b: 1, c: 2}\nd: &d {<<: *a, b: 3}\ne: {<<: [*d, *a], f: *a}"
    assert tree_of(tmp_path, text) == yaml.safe_load(text)


TWICE, NO_CONSTRUCTOR = r"(?s)run.yaml.*stands there twice.*line \d", "not determine a constructor"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", TWICE),
        ("a: {b: 1, 'b': 2}", TWICE),
        ("x: &x {a: 1}\ny: {<<: *x, b: 1, b: 2}", TWICE),
        ("a: !!python/object/apply:os.system [ls]", NO_CONSTRUCTOR),
        ("a: !!python/name:os.system", NO_CONSTRUCTOR),
        ("a: !mine {}", NO_CONSTRUCTOR),
    ],
)
def test_doubled_keys_and_tags_of_objects_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tree_of(tmp_path, text)


GRADED = "id question text num_tokens finished verdicts score right tags"
PRODUCTS = [
    st.fixed_dictionaries({}, optional={name: JSON for name in names.split()})  # noqa: C420 (types)
    for names in (GRADED, "key rubric num_attempts cut held_short")
]


@bounded(2)
@given(st.lists(st.one_of(*PRODUCTS, JSON), max_size=2))
def test_a_broken_product_is_read_or_refused(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "1-of-1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    graded, refused = tried(read_graded, path)
    assert str(refused) if graded is None else len(graded) == len(rows)
    tried(SampleCache(tmp_path, decode_rubric).read)
