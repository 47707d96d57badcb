import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import DataError
from rcsd.graders.answers import (
    default_grading,
    grade,
    grade_example,
    mathematics,
)
from rcsd.graders.answers.extraction import extract_final_answer, extract_marked_answer
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import grade_text, sample_and_grade
from rcsd.graders.rewards import AnswerReward
from rcsd.io import read_rows
from rcsd.types import DEFAULT_TOLERANCE, Completion, Decoding, Example, Grading

ABCD = Grading("choice", ("5 m", "3 m", "12 kg", "None of the above"))
M = Grading("number", unit="m", tolerance=0.05)
NUMBER = Grading("number")
MATH = Grading("math")
TEXT = Grading("text")
ODD = Grading("number", unit="zorkmids")

# Rows as `rcsd eval grade` takes them, and the verdict that each must get.
ROWS = list(read_rows(Path(__file__).parent / "answers.jsonl"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["completion"][:40])
def test_an_answer_is_right_wrong_or_ungraded(row: dict):
    grading = Grading(
        row["kind"],
        tuple(row.get("options", ())),
        row.get("unit", ""),
        row.get("tolerance", DEFAULT_TOLERANCE),
    )
    found = grade(row["completion"], row["reference"], grading, row.get("finished", True))
    assert found.verdict is row["want"], found
    assert found.reason


def test_the_reason_names_the_answer_and_the_reference():
    for text, reference, grading, reason in (
        (r"\boxed{0.5 \text{ s}}", "500", M, "wrong unit: 0.5 s, requested is 500 m"),
        ("Answer: A or B", "B", ABCD, "names several options: A, B"),
        ("C", "B", ABCD, "option C, not B"),
        ("<think>5", "5", M, "the thinking never ends, so there is no final answer"),
    ):
        assert grade(text, reference, grading).reason == reason
    assert "compared as written" in grade("Answer: 12 zorkmids", "12", ODD).reason


# Extraction


def test_a_marked_answer_is_extracted():
    for text, answer in {
        r"\boxed{1} then \boxed{720 J}. The answer is 3.": "720 J",
        r"\boxed{5} and \boxed{}": None,
        r"\boxed{5}, in \boxed{}": "5",
        "Answer: 4\nAnswer: 5 m.": "5 m",
        "**Answer:** 5 m": "5 m",
        "## Final Answer:\n5 m": "5 m",
        "The answer is: **approx. 5 m**.": "approx. 5 m",
        "The answer is 720 J.\nWell done.": "720 J",
        "<think>Answer: 3</think>Answer: 4": "4",
        "<think>3</think><response>The answer is 4.</response>": "4",
        "The answer is <|begin_of_box|>4<|end_of_box|>.": "4",
        "It is 5 m.": None,
        "Answer:": None,
    }.items():
        assert extract_marked_answer(text) == answer


def test_without_a_mark_the_last_line_may_give_an_answer():
    assert extract_final_answer("It is 5 m.").answer == "It is 5 m"
    assert extract_final_answer("<think>3</think>\n<answer>\n4\n</answer>").answer == "4"
    assert extract_final_answer("<answer>3</answer> No.\n<answer>4</answer>").answer == "4"
    found = extract_final_answer("Long.\nIt is some 5 m long.", kind="number")
    assert (found.answer, found.is_unsure) == (None, True)
    assert extract_final_answer("Long.\nIt is 5", finished=False, kind="number").answer is None


# Examples


def test_a_reference_that_is_a_number_is_graded_as_one():
    for reference in ("360 J", "- 3", "1e-3 m", "0.5 mol/L", "50 %", "8 neutrons"):
        assert default_grading(reference) == NUMBER
    assert default_grading("8 apples") == Grading("number", unit="apples")
    for reference in ("5 years ago", "2 and 3", "A = i/√13", "five", "red light"):
        assert default_grading(reference) == TEXT


@pytest.mark.parametrize(
    ("text", "reference", "verdict"),
    [
        ("The answer is 363 J.", "360 J", True),
        ("Answer: 0.364 kJ", "360 J", False),
        ("The answer is 360 or 370.", "360 J", None),
        ("The answer is 8.", "8 apples", True),
        ("The answer is crimson light.", "red light", None),
    ],
)
def test_with_and_without_a_stated_grading_the_verdict_is_the_same(
    text: str, reference: str, verdict: bool | None
):
    stated = Example("1", "?", reference, grading=default_grading(reference))
    assert grade_example(stated, text).verdict is verdict
    assert grade_example(Example("1", "?", reference), text) == grade_example(stated, text)


def test_evaluation_and_reward_grade_alike():
    example = Example("1", "How far?", "500", grading=M)
    row = grade_text(example, r"\boxed{0.5 \text{ km}}")
    assert (row.right, row.extracted) == (True, r"0.5 \text{ km}")
    assert row.reason == "0.5 km is 500 m within 0.05"
    texts = [r"\boxed{0.5 \text{ km}}", r"\boxed{5}", r"\boxed{3 \text{ to } 900}"]
    scores = AnswerReward().scores([(example, Completion((), text, True)) for text in texts])
    assert scores == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)


def test_accuracy_counts_only_references_of_which_a_wrong_answer_can_be_told():
    examples = [Example("n", "?", "3 J"), Example("w", "?", "Paris")]
    texts = ("Answer: 3 J", "Answer: Paris")
    engine = ScriptedEngine([Completion((1,), text, finished=True) for text in texts])
    rows = sample_and_grade(engine, examples, [(1,), (1,)], Decoding(4), CodeJudge())
    assert [row.right for row in rows] == [True, None]
    with pytest.raises(DataError, match="reference_answer"):
        grade_example(Example("1", "Who?", grading=TEXT), "Curie")


# The worker


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("9^{9^{9^9}}", "9^{9^{9^9}} + 1"), (r"\sin(9^{9^9})", r"\cos(9^{9^9})")],
)
def test_what_takes_too_long_or_too_much_is_ungraded_in_time_and_the_next_task_is_done(
    answer: str, reference: str, monkeypatch: pytest.MonkeyPatch
):
    mathematics.compare_expressions("1", "2")  # it is started
    monkeypatch.setattr(mathematics, "MAX_SECONDS", 1.0)
    begin = time.monotonic()
    verdict, reason = mathematics.compare_expressions(answer, reference)
    assert verdict is None
    assert reason.startswith("cannot be compared: it ")
    assert time.monotonic() - begin < 3
    assert mathematics.compare_expressions(r"\frac{2}{4}", "0.5")[0] is True


def test_replies_that_never_end_cost_one_time_limit_together_and_others_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
):
    mathematics.compare_expressions("1", "2")
    monkeypatch.setattr(mathematics, "MAX_SECONDS", 4.0)
    endless = [rf"\sum_{{n=1}}^{{{10**9 + k}}} \sin(n^2)" for k in range(8)]
    begin = time.monotonic()
    verdicts = mathematics.in_parallel(
        lambda answer: mathematics.compare_expressions(answer, "1 + 2")[0], [*endless, "3"]
    )
    assert verdicts == [None] * 8 + [True]
    assert time.monotonic() - begin < 8 * 4  # one after the other


def _worker_pid() -> int:
    [worker] = mathematics._pool.workers
    assert worker._process is not None
    return worker._process.pid


def test_a_worker_that_is_killed_is_started_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mathematics, "_pool", mathematics.Pool())
    assert mathematics.compare_expressions("1 + 1", "2")[0] is True
    pid = _worker_pid()
    os.kill(pid, signal.SIGKILL)
    assert mathematics.compare_expressions("1 + 2", "3")[0] is True
    assert _worker_pid() != pid
    mathematics._pool.stop()


PARENT = """
import os, signal
from rcsd.graders.answers import mathematics
mathematics.compare_expressions("1 + 1", "2")
print(mathematics._pool.workers[0]._process.pid, flush=True)
if {is_busy}:
    endless = r"\\sum_{{n=1}}^{{100000000}} \\sin(n)"
    mathematics._pool.workers[0]._connection.send(("value", endless, "", 3.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_worker_ends_with_its_parent_even_if_that_is_killed(is_busy: bool):
    parent = subprocess.run(
        [sys.executable, "-c", PARENT.format(is_busy=is_busy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    until = time.monotonic() + 15
    while time.monotonic() < until and _lives(int(parent.stdout)):
        time.sleep(0.05)
    assert not _lives(int(parent.stdout))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_forked_process_gets_a_worker_of_its_own():
    code = """
import os
from rcsd.graders.answers import mathematics
assert mathematics.compare_expressions("1 + 1", "2")[0]
pid = mathematics._pool.workers[0]._process.pid
child = os.fork()
if child == 0:
    same = mathematics.compare_expressions("1 + 3", "4")[0]
    same = same and mathematics._pool.workers[0]._process.pid != pid
    mathematics._pool.stop()
    os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert mathematics.compare_expressions("1 + 4", "5")[0]
assert mathematics._pool.workers[0]._process.pid == pid
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_grading_needs_neither_torch_nor_sympy_nor_pint_to_be_imported():
    code = (
        "import sys, rcsd.graders.answers;"
        "assert not {'torch', 'sympy', 'pint', 'latex2sympy2_extended'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Laws

PIECES = st.sampled_from(
    [r"\boxed{", "}", "{", r"\frac", "answer is ", "Answer:", "A", "(b)",
     "<think>", "</think>", "5",
     "-", "^", "\u00d7", "10", "m", " ", "\n", "/", "$", "%", "°C", "=", " or ", ",", ".", "½",
     "\\pm",
     "between ", " and ", "####", "\\text{", "kg", "1e999", "9" * 30, "\x00", "\ud800"]
)  # fmt: skip
ANY = st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join)
UNITS = ("m", r"$10^{-8} \mathrm{C}$", r" $\%$", "K", "", "zorkmids")
GRADINGS = st.sampled_from([ABCD, TEXT, None, *(Grading("number", unit=unit) for unit in UNITS)])


@settings(max_examples=150, derandomize=True, deadline=8000)
@given(ANY, ANY, GRADINGS, st.booleans())
def test_any_text_and_reference_are_graded(
    text: str, reference: str, grading: Grading | None, finished: bool
):
    if grading is ABCD:
        reference = "B"
    found = grade_example(Example("1", "?", reference, grading=grading), text, finished)
    assert found.verdict in (True, False, None)
    assert found.reason


@settings(max_examples=40, derandomize=True, deadline=None)
@given(ANY, ANY)
def test_any_mathematics_is_graded_in_time(answer: str, reference: str):
    begin = time.monotonic()
    assert grade(rf"\boxed{{{answer}}}", reference, MATH).verdict in (True, False, None)
    assert time.monotonic() - begin < 2 * mathematics.MAX_SECONDS
