"""Options compared by log-likelihoods."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_model, tiny_tokenizer
from torch import nn

from rcsd import config
from rcsd.cli.comparing import counts_of
from rcsd.config.base import parse
from rcsd.data.benchmarks import Cloze, Problem
from rcsd.errors import ConfigError, DataError
from rcsd.evaluation.clozes import cloze_rows, encoded_cloze, option_nats, plain_option_nats
from rcsd.evaluation.compare import question_values
from rcsd.evaluation.compare.placebos import placebo_accuracies
from rcsd.evaluation.compare.sets import AnsweredSet
from rcsd.evaluation.record import read_evaluation
from rcsd.evaluation.run import evaluate
from rcsd.graders.grade import graded_from_row, row_from_graded
from rcsd.models.policy import Policy, policy_of
from rcsd.types import Example, Grading


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of(tiny_model(), tiny_tokenizer(), config.Lora(rank=2))


def problem(number: int, reference: str = "A", question: str = "") -> Problem:
    """Of a lamp, with options of different lengths."""
    options = ("a lamp", "energy of a lamp", "watt")[: 2 + number % 2]
    context = question or f"Question: a lamp takes {number} watt. What?\nAnswer:"
    cloze = Cloze(context, tuple(f" {text}" for text in options), options)
    return Problem(f"p{number}", context, options, reference, tags={"k": "v"}, cloze=cloze)


PROBLEMS = [problem(number, "AB"[number % 2]) for number in range(5)]


class CountingTokenizer:
    """A tokenizer of characters, which opens with <s>; "ab" is one token."""

    bos_token, eos_token = "<s>", "</s>"

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        opening = [0] if add_special_tokens else []
        return opening + [ord(c) for c in text.replace("ab", "\u0100")]


def test_a_pair_is_encoded_whole_and_spaces_go_to_the_continuation() -> None:
    found = encoded_cloze(Cloze("x: ", ("a", "bc"), ("a", "bc")), CountingTokenizer())
    assert found.contexts == ((0, ord("x"), ord(":")),) * 2
    assert found.continuations == ((ord(" "), ord("a")), (ord(" "), ord("b"), ord("c")))
    opened = encoded_cloze(Cloze("<s>x", (" a",), ("a",)), CountingTokenizer())
    assert opened.contexts[0][0] == ord("<")


def test_a_token_over_the_border_belongs_to_the_context_as_in_lm_eval() -> None:
    # "xa" + "bc" is read as x, ab, c: two tokens of context, whatever they became.
    found = encoded_cloze(Cloze("xa", ("bc",), ("bc",)), CountingTokenizer())
    assert found.contexts == ((0, ord("x"), 0x100),)
    assert found.continuations == ((ord("c"),),)
    for context, continuation in (("xa", "b"), ("x", "")):
        with pytest.raises(DataError, match="adds no token"):
            encoded_cloze(Cloze(context, (continuation,), ("b",)), CountingTokenizer())


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_with_shared_contexts_agree_with_one_option_at_a_time(
    policy: Policy, packs: bool, batch_size: int
) -> None:
    assert policy.packs
    encoded = [encoded_cloze(one.cloze, policy.tokenizer) for one in PROBLEMS if one.cloze]
    fast = option_nats(encoded, replace(policy, packs=packs), batch_size)
    slow = [plain_option_nats(cloze, policy) for cloze in encoded]
    assert [len(row) for row in fast] == [2, 3, 2, 3, 2]
    for a, b in zip(fast, slow, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_the_likeliest_and_the_likeliest_for_its_length_are_graded(policy: Policy) -> None:
    rows = cloze_rows(PROBLEMS, policy, batch_size=2)
    for one, row in zip(PROBLEMS, rows, strict=True):
        per_character = [n / len(o) for n, o in zip(row.option_nats, one.options, strict=True)]
        best = row.option_nats.index(max(row.option_nats))
        best_normalised = per_character.index(max(per_character))
        assert (row.extracted, row.text) == ("ABC"[best], one.options[best])
        assert row.right is (row.extracted == one.reference)
        assert row.right_normalised is ("ABC"[best_normalised] == one.reference)
        assert (row.id, row.tags, row.score, row.verdicts) == (one.id, {"k": "v"}, None, ())
        assert f"for its length: {'ABC'[best_normalised]}" in row.reason
        assert graded_from_row(row_from_graded(row)) == row


def test_a_model_by_hand_gives_sums_of_logs(policy: Policy) -> None:
    """All tokens alike: each costs log V, so the shorter wins, and for its length the longer."""
    model = tiny_model()
    nn.init.zeros_(model.get_output_embeddings().weight)
    uniform = policy_of(model, policy.tokenizer, config.FullFineTuning())
    (row,) = cloze_rows([problem(0)], uniform, batch_size=1)
    numbers = [len(policy.tokenizer.encode(f" {text}")) for text in problem(0).options]
    log_vocabulary = math.log(uniform.vocab_size)
    assert numbers[0] < numbers[1]
    assert row.option_nats == pytest.approx([-n * log_vocabulary for n in numbers])
    assert row.extracted == "A"


def test_accuracy_for_length_is_a_metric_where_options_were_compared(policy: Policy) -> None:
    rows = cloze_rows(PROBLEMS, policy, batch_size=2)
    examples = [Example(one.id, one.question, one.reference) for one in PROBLEMS]
    assert AnsweredSet("s", examples, {"a": [rows]}, {}).metrics == ["accuracy", "accuracy_norm"]
    answered = [replace(row, option_nats=()) for row in rows]
    assert AnsweredSet("s", examples, {"a": [rows, answered]}, {}).metrics == ["accuracy"]
    found = question_values(rows, "accuracy_norm")
    assert found == {row.id: float(bool(row.right_normalised)) for row in rows}
    assert math.isnan(
        question_values([replace(rows[0], right_normalised=None)], "accuracy_norm")["p0"]
    )


def test_problems_that_do_not_fit_or_have_no_options_are_refused(policy: Policy) -> None:
    long = problem(0, question="a lamp " * 2000)
    with pytest.raises(DataError, match=r"problem 'p0' has .* tokens, the model 1024 positions"):
        cloze_rows([long], policy, batch_size=1)
    with pytest.raises(DataError, match="no options"):
        cloze_rows([replace(long, cloze=None)], policy, batch_size=1)


def test_what_guessing_gives_stands_beside_an_accuracy() -> None:
    def example(reference: str, *options: str) -> Example:
        return Example("x", "?", reference, grading=Grading("choice", options))

    found = placebo_accuracies(
        [example("B", "x", "y"), example("z", "x", "y", "z", "w"), example("C", "A", "B", "C")]
    )
    assert found == {
        "chance": pytest.approx((1 / 2 + 1 / 4 + 1 / 3) / 3),
        "majority": pytest.approx(2 / 3),
        "majority_letter": "C",
    }
    assert placebo_accuracies([example("A", "x", "y"), Example("y", "?")]) == {}
    assert placebo_accuracies([Example("y", "?", "3", grading=Grading("number"))]) == {}


def test_scoring_leaves_the_policy_as_it_was(policy: Policy) -> None:
    policy.model.train()
    cloze_rows(PROBLEMS[:1], policy, batch_size=1)
    assert policy.model.training
    assert torch.is_grad_enabled()


def test_an_evaluation_compares_options_and_says_what_guessing_gives(tmp_path: Path) -> None:
    row = {"goal": "Find it.", "sol1": "Here.", "sol2": "Look there."}
    rows = [row | {"label": label} for label in (0, 1, 0, 1, 1, 1, -1)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {"type": "task", "name": "piqa", "path": str(tmp_path / "rows.jsonl"), "partial": True}
    tree: dict[str, Any] = {
        "model": {"path": "builtin:micro"},
        "data": {"likely": task | {"ask": "loglikelihood"}, "said": task},
        "max_tokens": 4,
        "out": str(tmp_path / "out"),
    }
    with pytest.raises(ConfigError, match="take view: none"):
        parse(config.Evaluating, tree | {"view": "answer"}, "test")
    summary = evaluate(parse(config.Evaluating, tree, "test"), lambda *_: None)["sets"]
    assert list(summary["likely"]["metrics"]) == ["accuracy", "accuracy_norm"]
    assert list(summary["said"]["metrics"]) == ["accuracy"]
    for of_set in summary.values():
        assert of_set["placebo_accuracies"]["chance"] == 0.5
    assert any("guessing is right in 0.500" in line for line in counts_of({"sets": summary}))
    found = read_evaluation(tmp_path / "out")
    assert [len(row.option_nats) for row in found.sets["likely"].greedy] == [2] * 6
    assert found.record["tasks"]["likely"]["exclusions"] == {"no label": 1}
    assert found.settings["ask"] == {"likely": "loglikelihood"}
