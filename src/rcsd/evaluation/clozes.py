"""Which option a model finds likeliest: log-likelihoods, as lm-evaluation-harness sums them.

Options of a question share its context, which stands once in a row
(`rcsd.models.packed_attention`).

Axes: T continuation tokens of all options, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from rcsd.data.benchmarks import Cloze, Problem
from rcsd.errors import DataError
from rcsd.graders.grade import Graded, prompt_sha256
from rcsd.models.logits import log_q_of
from rcsd.models.packing import packed, padded
from rcsd.models.policy import Policy, Scorer, evaluating
from rcsd.types import LETTERS


@dataclass(frozen=True)
class EncodedCloze:
    """Token ids of a context and of each continuation after it."""

    contexts: tuple[tuple[int, ...], ...]
    continuations: tuple[tuple[int, ...], ...]


def encoded_cloze(cloze: Cloze, tokenizer: Any) -> EncodedCloze:
    """Token ids as lm-evaluation-harness's ``HFLM`` makes them.

    Spaces at the context's end move to the continuation, both are encoded as one text, and what
    goes beyond the context's own tokens is the continuation. Special tokens are those that the
    tokenizer adds by itself, unless the text begins with one; there is no chat template.

    Raises:
        DataError: If a context is empty, or a continuation adds no token.
    """
    contexts, continuations = [], []
    context = cloze.context.rstrip()
    spaces = cloze.context[len(context) :]
    first = tokenizer.eos_token if tokenizer.bos_token is None else tokenizer.bos_token
    adds = not (first and context.startswith(first))
    for continuation in cloze.continuations:
        before = tokenizer.encode(context, add_special_tokens=adds)
        whole = tokenizer.encode(context + spaces + continuation, add_special_tokens=adds)
        if not before or len(whole) <= len(before):
            raise DataError(f"{continuation!r} after {context[-40:]!r} adds no token to score")
        contexts.append(tuple(whole[: len(before)]))
        continuations.append(tuple(whole[len(before) :]))
    return EncodedCloze(tuple(contexts), tuple(continuations))


def option_nats(
    clozes: Sequence[EncodedCloze], policy: Policy, batch_size: int
) -> list[tuple[float, ...]]:
    """For each option the sum of its tokens' log-probabilities after the context, in nats.

    Args:
        clozes: Questions.
        policy: Whose probabilities, at temperature 1, over the whole vocabulary.
        batch_size: Questions of one forward pass.
    """
    scorer, found = Scorer(policy), []
    for start in range(0, len(clozes), batch_size):
        batch = clozes[start : start + batch_size]
        contexts = [ids for cloze in batch for ids in cloze.contexts]
        continuations = [ids for cloze in batch for ids in cloze.continuations]
        with evaluating(policy.model):
            if policy.packs:
                rows = packed(contexts, continuations, policy.device)
            else:
                rows = padded(contexts, continuations, policy.pad_id, policy.device)
            log_q_T = log_q_of(scorer(rows), rows.target_T, temperature=1.0)
        sums = [part.sum().item() for part in log_q_T.split([len(ids) for ids in continuations])]
        ends = list(accumulate(len(cloze.continuations) for cloze in batch))
        found += [tuple(sums[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    return found


def plain_option_nats(cloze: EncodedCloze, policy: Policy) -> tuple[float, ...]:
    """The slow sibling of `option_nats`: one option at a time, all logits of a plain forward."""
    sums = []
    for context, continuation in zip(cloze.contexts, cloze.continuations, strict=True):
        ids_1L = torch.tensor([[*context, *continuation]], device=policy.device)
        with evaluating(policy.model):
            logits_TV = policy.model(input_ids=ids_1L, use_cache=False).logits[0, :-1]
        log_q_TV = logits_TV[-len(continuation) :].float().log_softmax(-1)
        sums.append(log_q_TV.gather(1, ids_1L[0, -len(continuation) :, None]).sum().item())
    return tuple(sums)


def cloze_rows(problems: Sequence[Problem], policy: Policy, batch_size: int) -> list[Graded]:
    """The likeliest option of each problem, graded: plainly, and for its length.

    ``right`` is lm-evaluation-harness's ``acc``: the option with the highest sum; and
    ``right_normalised`` its ``acc_norm``: with the highest sum divided by the option's number of
    characters, where longer options are not punished for being long. Of equals the first counts.

    Args:
        problems: With texts for log-likelihoods.
        policy: Who is asked.
        batch_size: Problems of one forward pass.

    Raises:
        DataError: If a problem has more tokens than the model has positions, which are never cut.
    """
    clozes = [_cloze_of(problem) for problem in problems]
    encoded = [encoded_cloze(cloze, policy.tokenizer) for cloze in clozes]
    for problem, cloze in zip(problems, encoded, strict=True):
        pairs = zip(cloze.contexts, cloze.continuations, strict=True)
        longest = max(len(context) + len(own) for context, own in pairs)
        if longest > (policy.max_positions or math.inf):
            raise DataError(
                f"problem {problem.id!r} has {longest} tokens, the model {policy.max_positions} "
                "positions; take another model"
            )
    nats = option_nats(encoded, policy, batch_size)
    return [_graded(*each) for each in zip(problems, clozes, encoded, nats, strict=True)]


def _cloze_of(problem: Problem) -> Cloze:
    if problem.cloze is None:
        raise DataError(f"problem {problem.id!r} has no options whose likelihoods could differ")
    return problem.cloze


def _graded(
    problem: Problem, cloze: Cloze, encoded: EncodedCloze, nats: tuple[float, ...]
) -> Graded:
    per_character = [n / len(text) for n, text in zip(nats, cloze.choices, strict=True)]
    chosen = max(range(len(nats)), key=nats.__getitem__)
    normalised = LETTERS[max(range(len(nats)), key=per_character.__getitem__)]
    letter = LETTERS[chosen]
    said = ", ".join(f"{a} {b:.2f}" for a, b in zip(LETTERS, nats, strict=False))
    return Graded(
        problem.id,
        cloze.context,
        problem.options[chosen],
        len(encoded.continuations[chosen]),
        finished=True,
        verdicts=(),
        score=None,
        right=letter == problem.reference,
        tags=problem.tags,
        extracted=letter,
        reason=f"likeliest option; nats: {said}; for its length: {normalised}",
        prompt_sha256=prompt_sha256(encoded.contexts[chosen]),
        option_nats=nats,
        right_normalised=normalised == problem.reference,
    )
