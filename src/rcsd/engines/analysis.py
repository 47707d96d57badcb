"""Analyses of the teacher's view, written once by the frozen weights and cached on disk."""

from collections.abc import Sequence
from dataclasses import asdict

from rcsd import config
from rcsd.data.prompts import REQUESTS, PromptPair
from rcsd.data.views import PromptTemplates, build_conversation, continued_ids, user_turn
from rcsd.distributed import Ranks
from rcsd.engines.base import Engine
from rcsd.engines.sample_cache import SampleCache, request_key
from rcsd.errors import DataError
from rcsd.io import cache_folder
from rcsd.models.policy import Policy
from rcsd.types import Decoding, completion_from_row

BATCH = 256
"""Analyses sampled between two writes to the cache."""


def with_analyses(
    prompts: Sequence[PromptPair],
    views: config.Views,
    policy: Policy,
    engine: Engine,
    max_tokens: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (one process alone)
) -> tuple[list[PromptPair], int]:
    """Teacher prompts that continue after the teacher's own analysis, token for token as sampled.

    Must be called while the policy has the frozen weights, whose fingerprint is part of the key.
    All ranks sample greedily what the cache lacks; the main one has the cache. Returned beside the
    prompts: how many analyses were cut off at ``views.max_analysis_tokens``. Raises DataError if a
    prompt with its analysis exceeds ``max_tokens``, or the cache is broken.
    """
    templates = PromptTemplates(views.templates)
    store = SampleCache(cache_folder() / "analyses", completion_from_row)
    decoding, weights = Decoding(max_tokens=views.max_analysis_tokens), policy.weights_sha256
    keys = [request_key(weights, pair.teacher_ids, decoding, 0) for pair in prompts]
    by_key = {key: pair.teacher_ids for key, pair in zip(keys, prompts, strict=True)}
    ranks.on_main(store.read)
    missing = ranks.on_main(lambda: [key for key in by_key if key not in store])
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        completions = engine.sample([by_key[key] for key in batch], decoding, seed=0)
        if ranks.is_main:
            store.put({key: asdict(c) for key, c in zip(batch, completions, strict=True)})
    analyses = ranks.on_main(lambda: [store[key] for key in keys])

    continued, num_cut = [], 0
    request, analysis_request = REQUESTS[views.writes]
    now = user_turn("answer_now" if request == "answer" else "write_rubric_now", templates)
    for pair, analysis in zip(prompts, analyses, strict=True):
        num_cut += not analysis.finished
        turn = analysis.token_ids[:-1] if analysis.finished else analysis.token_ids
        conversation = build_conversation(analysis_request, pair.example, views.teacher, templates)
        ids = continued_ids(policy.tokenizer, conversation, list(turn), now, views.teacher_kwargs)
        if len(ids) > max_tokens:
            raise DataError(
                f"example {pair.example.id!r}: with its analysis the teacher's prompt has "
                f"{len(ids)} tokens, and there is room for {max_tokens}; lower "
                "views.max_analysis_tokens or sampling.max_prompt_tokens",
                field="views.analysis",
            )
        continued.append(PromptPair(pair.example, pair.student_ids, tuple(ids)))
    return continued, num_cut
