"""How long a run's prompts are: its own data, words and tokenizer, without its model."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import build_prompts, limit_prompt_tokens
from rcsd.data.views import PromptTemplates
from rcsd.models.hub import model_folder
from rcsd.models.policy import Policy, load_tokenizer

MEASURED_EXAMPLES = 256
"""Examples whose prompts are made, spread over the data."""


def prompt_lengths(settings: config.Config) -> list[tuple[int, int]]:
    """Tokens of the student's and the teacher's prompt, of examples spread over the run's data.

    Those that do not fit are left out, as the run leaves them out. A teacher's prompt that holds an
    analysis is measured up to where it asks for one.

    Raises:
        UserError: If data, configuration or tokenizer cannot be had, or no example fits.
    """
    path, views = model_folder(settings.model.path), settings.views
    tokenizer = load_tokenizer(settings.model, path)
    found = AutoConfig.from_pretrained(
        path,
        revision=settings.model.revision,
        trust_remote_code=settings.model.trust_remote_code,
    )
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(found)
    policy = Policy(model, tokenizer, (), 0, 0, GenerationConfig(), packs=True, trained=frozenset())
    rows, _ = load_examples(settings.data)
    examples = with_placebo(rows, settings.rubrics.placebo, PromptTemplates(views.templates))
    chosen = examples[:: -(-len(examples) // MEASURED_EXAMPLES)]
    if not settings.has_teacher_view:
        views = views.model_copy(update={"teacher": settings.learned_view, "analysis": False})
    room = limit_prompt_tokens(
        policy.max_positions, settings.sampling.max_prompt_tokens, settings.sampling.max_tokens
    )
    prompts, _ = build_prompts(chosen, views, policy.tokenizer, room)
    return [(len(prompt.student_ids), len(prompt.teacher_ids)) for prompt in prompts]
