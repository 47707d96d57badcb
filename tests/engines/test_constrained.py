"""Sampling within a grammar: always valid, the model's own distribution, nothing else changed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from tests.support.tiny import tiny_folder, tiny_model, tiny_tokenizer
from transformers import ByT5Tokenizer

from rcsd import config
from rcsd.data.prompts import grammar_regex
from rcsd.data.rubric import parse_rubric, rubric_regex
from rcsd.engines.constrained import RegexMask
from rcsd.engines.hf import HfEngine
from rcsd.errors import ModelError
from rcsd.models.policy import Policy, build_policy
from rcsd.runs import RunFolder
from rcsd.training.trainer import run
from rcsd.types import Completion, Decoding

FULL = config.FullFineTuning()
SMALL = rubric_regex(2, 12)
PROMPTS = [[5], [6, 7, 8, 9, 10, 11], [12, 13], [5, 6, 7], [200, 201, 202, 203]]


def tiny_policy(seed: int = 0, pad_is_end: bool = False) -> Policy:
    return build_policy(tiny_model(seed, pad_is_end), tiny_tokenizer(), FULL)


@pytest.fixture
def policy() -> Policy:
    return tiny_policy()


def assert_rubrics(completions: list[Completion], max_criteria: int, max_characters: int) -> None:
    for completion in completions:
        assert completion.finished
        rubric = parse_rubric(json.loads(completion.text))
        assert len(rubric.criteria) <= max_criteria
        assert all(len(criterion.text) <= max_characters for criterion in rubric.criteria)


# Valid


@pytest.mark.parametrize("temperature", [None, 0.3, 1.2, 100.0])
def test_every_finished_sample_is_a_rubric_at_any_temperature(
    policy: Policy, temperature: float | None
) -> None:
    prompts = PROMPTS * (1 if temperature is None else 6)
    decoding = Decoding(max_tokens=200, temperature=temperature, regex=SMALL)
    sampled = HfEngine(policy, batch_size=16).sample(prompts, decoding, seed=0)
    assert_rubrics(sampled, 2, 12)
    if temperature is not None:
        assert len({completion.text for completion in sampled}) > len(PROMPTS)
        cut = Decoding(200, temperature, top_p=0.9, top_k=3, regex=SMALL)
        assert_rubrics(HfEngine(policy, 8).sample(PROMPTS, cut, seed=1), 2, 12)


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
    assert_rubrics(sampled, 2, 12)
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
    assert_rubrics(held, 2, 12)
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


def test_greedy_takes_the_likeliest_allowed_token(policy: Policy) -> None:
    (completion,) = HfEngine(policy, 1).sample([[5, 6, 7]], Decoding(200, regex=SMALL), seed=0)
    mask = RegexMask(policy.tokenizer, len(policy.tokenizer), policy.end_ids, SMALL)
    ids = [5, 6, 7]
    for token in completion.token_ids:
        ids_BL = torch.tensor([ids])
        with torch.no_grad():
            logits_BV = policy.model(input_ids=ids_BL).logits[:, -1]
        assert mask(ids_BL, logits_BV).argmax().item() == token
        ids.append(token)
    assert completion.token_ids[-1] in policy.end_ids


# Nothing else changed


def test_sampling_without_a_grammar_is_unchanged_by_having_used_one(policy: Policy) -> None:
    free, held = Decoding(30, 1.0), Decoding(30, 1.0, regex=SMALL)
    engine = HfEngine(policy, 3)
    first = engine.sample(PROMPTS, free, seed=5)
    assert first == HfEngine(policy, 3).sample(PROMPTS, free, seed=5)
    once = engine.sample(PROMPTS, held, seed=5)
    assert engine.sample(PROMPTS, free, seed=5) == first
    other = engine.sample(PROMPTS, Decoding(30, 1.0, regex="[ab]{3}"), seed=5)
    assert all(set(completion.text) <= {"a", "b"} for completion in other)
    assert engine.sample(PROMPTS, held, seed=5) == once


def test_rows_of_a_batch_do_not_disturb_each_other(policy: Policy) -> None:
    # Greedy: what a row says alone it says beside rows of other lengths that end before and after.
    decoding = Decoding(200, regex=rubric_regex(3, 30))
    alone = [HfEngine(policy, 1).sample([prompt], decoding, 0)[0] for prompt in PROMPTS]
    assert len({len(completion.token_ids) for completion in alone}) > 2
    assert HfEngine(policy, 5).sample(PROMPTS, decoding, seed=0) == alone
    assert HfEngine(policy, 2).sample(PROMPTS[::-1], decoding, seed=0) == alone[::-1]


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
    tree: dict[str, Any] = {
        "model": {"path": tiny_folder(tmp_path / "model"), "training": {"type": "full"}},
        "data": {"type": "world", "num_examples": 4},
        "views": {"writes": "rubric"},
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3},
        "sampling": {
            "temperature": 1.2,
            "max_tokens": 150,
            "grammar": {"type": "rubric", "max_criteria": 2, "max_characters": 12},
        },
        "steps": 2,
        "examples_per_step": 3,
        "out": str(tmp_path / "run"),
    }
    settings = config.parse_config(tree)
    assert grammar_regex(settings.sampling.grammar) == SMALL
    assert grammar_regex(None) is None
    folder: RunFolder = run(settings)
    rows = folder.completions()
    assert len(rows) == 6
    assert all(parse_rubric(json.loads(row["text"])) for row in rows if row["finished"])
    assert any(row["finished"] for row in rows)
    assert all(metrics["loss/divergence_nats_mean"] > 0 for metrics in folder.metrics())
    path = "model.safetensors"
    assert (folder.model / path).read_bytes() != (tmp_path / "model" / path).read_bytes()
