"""Sampling within a grammar: always valid, the model's own distribution."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import settings
from transformers import ByT5Tokenizer

from rcsd import config
from rcsd.data.prompts import grammar_regex
from rcsd.data.rubric import parse_rubric
from rcsd.data.rubric_grammar import rubric_regex
from rcsd.engines.constrained import RegexMask
from rcsd.engines.hf import HfEngine
from rcsd.errors import ModelError
from rcsd.models.policy import Policy, build_policy
from rcsd.training.trainer import run
from rcsd.types import Completion, Decoding

FULL = config.FullFineTuning()
SMALL = rubric_regex(2, 12)
PROMPTS = [[5], [6, 7, 8, 9, 10, 11], [12, 13], [5, 6, 7], [200, 201, 202, 203]]


@pytest.fixture
def policy() -> Policy:
    return build_policy(tiny_model(), tiny_tokenizer(), FULL)


def assert_rubrics(completions: list[Completion]) -> None:
    for completion in completions:
        assert completion.finished
        rubric = parse_rubric(json.loads(completion.text))
        assert len(rubric.criteria) <= 2
        assert all(len(criterion.text) <= 12 for criterion in rubric.criteria)


# Valid


@pytest.mark.parametrize("temperature", [None, 0.3, 1.2, 100.0])
def test_every_finished_sample_is_a_rubric_at_any_temperature(
    policy: Policy, temperature: float | None
) -> None:
    prompts = PROMPTS * (1 if temperature is None else 6)
    decoding = Decoding(max_tokens=200, temperature=temperature, regex=SMALL)
    sampled = HfEngine(policy, batch_size=16).sample(prompts, decoding, seed=0)
    assert_rubrics(sampled)
    if temperature is not None:
        assert len({completion.text for completion in sampled}) > len(PROMPTS)
        cut = Decoding(200, temperature, top_p=0.9, top_k=3, regex=SMALL)
        assert_rubrics(HfEngine(policy, 8).sample(PROMPTS, cut, seed=1))


def test_a_sample_that_the_token_limit_cuts_off_is_the_beginning_of_a_rubric(
    policy: Policy,
) -> None:
    for max_tokens in (1, 5, 20):
        decoding = Decoding(max_tokens, 5.0, regex=SMALL)
        for completion in HfEngine(policy, 8).sample(PROMPTS, decoding, seed=0):
            assert completion.finished == (completion.token_ids[-1] in policy.end_ids)
            assert completion.finished or len(completion.token_ids) == max_tokens
            assert not completion.finished or max_tokens > 5
            text = completion.text.rstrip("\ufffd")
            assert regex.fullmatch(SMALL, text, partial=True), text


@pytest.mark.parametrize("pad_is_end", [False, True])
def test_any_end_token_ends_a_rubric_also_where_it_is_the_pad_token(pad_is_end: bool) -> None:
    model, tokenizer = tiny_model(pad_is_end=pad_is_end), tiny_tokenizer()
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|system|>")]
    model.generation_config.eos_token_id = ends
    policy = build_policy(model, tokenizer, FULL)
    assert set(policy.end_ids) == set(ends)
    decoding = Decoding(200, 5.0, regex=SMALL)
    sampled = HfEngine(policy, 32).sample(PROMPTS * 6, decoding, seed=0)
    assert_rubrics(sampled)
    assert {completion.token_ids[-1] for completion in sampled} == set(ends)
    for completion in sampled:
        assert not set(completion.token_ids[:-1]) & set(ends)


def test_logits_that_are_wider_than_the_vocabulary_are_masked_to_it() -> None:
    model, width = tiny_model(), len(tiny_tokenizer())
    torch.manual_seed(0)
    model.resize_token_embeddings(width + 77, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[width:] *= 100
    policy = build_policy(model, tiny_tokenizer(), FULL)
    free = HfEngine(policy, 8).sample(PROMPTS, Decoding(20, 5.0), seed=0)
    assert max(max(c.token_ids) for c in free) >= width
    held = HfEngine(policy, 8).sample(PROMPTS, Decoding(200, 5.0, regex=SMALL), seed=0)
    assert_rubrics(held)
    assert max(max(c.token_ids) for c in held) < width


# The model's own distribution


def test_the_mask_leaves_allowed_scores_as_they_are_and_gives_the_others_no_probability(
    policy: Policy,
) -> None:
    tokenizer = tiny_tokenizer()
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    special = [n for n, token in tokenizer.added_tokens_decoder.items() if token.special]
    # Bytes that are no character by themselves cannot be judged by their text.
    judged = [n for n, text in enumerate(texts) if "\ufffd" not in text and n not in special]
    written = ids_of('[{"criterion": "Adds.", "weight": -3}, {"criterion": "')
    mask = RegexMask(tokenizer, len(tokenizer), policy.end_ids, SMALL)
    num_free = 0
    for length in range(len(written) + 1):
        ids_BL = torch.tensor([[5, 6, 7, *written[:length]]])
        with torch.no_grad():
            logits_BV = policy.model(input_ids=ids_BL).logits[:, -1]
        masked_V, logits_V = mask(ids_BL, logits_BV)[0], logits_BV[0]
        before = tokenizer.decode(written[:length])
        allowed = [n for n in judged if regex.fullmatch(SMALL, before + texts[n], partial=True)]
        longest = max((texts[n] for n in allowed), key=len)
        if all(longest.startswith(texts[n]) for n in allowed):
            # The text goes on in one way; of the ways to cut it into tokens some may be refused.
            allowed = [n for n in allowed if masked_V[n].isfinite()]
            assert written[length] in allowed
        else:
            num_free += 1
        refused = [n for n in [*judged, *special] if n not in set(allowed)]
        assert torch.equal(masked_V[allowed], logits_V[allowed])
        assert masked_V[refused].eq(-math.inf).all()
        assert masked_V.softmax(-1)[refused].sum() == 0
        masses_V = logits_V.exp() * masked_V.isfinite()
        torch.testing.assert_close(masked_V.softmax(-1), masses_V / masses_V.sum())
    assert 4 < num_free < len(written)


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


# Errors


@pytest.mark.parametrize(("tokenizer", "width"), [(ByT5Tokenizer(), 384), (tiny_tokenizer(), 10)])
def test_a_tokenizer_in_python_and_logits_narrower_than_the_vocabulary_are_refused(
    tokenizer: Any, width: int
) -> None:
    with pytest.raises(ModelError, match="the tokenizer cannot be masked"):
        RegexMask(tokenizer, width, [1], SMALL)


@pytest.mark.parametrize("expression", ["(", rubric_regex(200, 300)])
def test_a_language_that_cannot_be_followed_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ModelError, match="cannot be followed; lower its max_criteria") as error:
        RegexMask(tiny_tokenizer(), len(tiny_tokenizer()), [1], expression)
    assert len(str(error.value)) < 250


def test_the_most_criteria_that_the_documentation_promises_can_be_followed() -> None:
    tokenizer = tiny_tokenizer()
    mask = RegexMask(tokenizer, len(tokenizer), [1], rubric_regex(80, 300))
    allowed = mask(torch.tensor([[5]]), torch.zeros(1, len(tokenizer))) == 0
    shown = [tokenizer.decode([token]) for token in allowed.nonzero()[:, 1].tolist()]
    assert shown
    assert all('[{"criterion": "'.startswith(text) for text in shown)


def test_a_token_that_was_drawn_past_the_mask_is_an_error_not_an_end() -> None:
    tokenizer = tiny_tokenizer()
    mask = RegexMask(tokenizer, len(tokenizer), [1], "ab")
    scores = torch.zeros(1, len(tokenizer))
    mask(torch.tensor([[5]]), scores)
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    mask(torch.tensor([[5, a]]), scores)
    with pytest.raises(ModelError, match="which the grammar refuses"):
        mask(torch.tensor([[5, a, a]]), scores)
    mask = mask.fresh(1)
    mask(torch.tensor([[5]]), scores)
    mask(torch.tensor([[5, a]]), scores)
    assert mask(torch.tensor([[5, a, b]]), scores)[0].isfinite().nonzero().tolist() == [[1]]


# Training


def test_a_run_with_a_grammar_samples_rubrics_and_its_weights_move(tmp_path: Path) -> None:
    grammar = {"type": "rubric", "max_criteria": 2, "max_characters": 12}
    sampling = {"temperature": 1.2, "max_tokens": 150, "grammar": grammar}
    held = settings(tmp_path, "run", views={"writes": "rubric"}, sampling=sampling, steps=2)
    assert grammar_regex(held.sampling.grammar) == SMALL
    folder = run(held)
    rows = folder.completions()
    assert all(parse_rubric(json.loads(row["text"])) for row in rows if row["finished"])
    assert any(row["finished"] for row in rows)
    assert all(metrics["loss/divergence_nats_mean"] > 0 for metrics in folder.metrics())
    path = "model.safetensors"
    assert (folder.model / path).read_bytes() != (tmp_path / "model" / path).read_bytes()
