"""The policy: a model that is trained, its tokenizer, and how both are loaded."""

import datetime
import functools
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from torch import nn
from transformers import AutoTokenizer, GenerationConfig

from rcsd import config
from rcsd.data.thinking import CompletionText
from rcsd.data.views import (
    check_chat_template,
    check_template_kwargs,
    dated_template,
    prints_date,
    prompt_ids,
    turn_end_id,
)
from rcsd.errors import ModelError
from rcsd.models.adapters import adapted, coverage, load_adapter, merged
from rcsd.models.cpu_linear import set_linear_backend, use_fast_linear
from rcsd.models.loading import Source, load_weights, refuse_damaged, refuse_quantized
from rcsd.models.scorer import causal_lm
from rcsd.models.self_test import check_model, enable_packing, use_scoring_mode


@dataclass(frozen=True)
class Policy:
    """A model that is trained, and what goes with it.

    The model in memory has a bare generation config, since penalties and the like would make
    samples that are not the policy's; its own is kept here, for saving.
    """

    model: Any  # a causal language model of transformers, with adapters around it for LoRA
    tokenizer: Any  # of transformers, with a chat template
    end_ids: tuple[int, ...]  # tokens that end a completion
    turn_end_id: int  # the one with which the chat template ends an assistant's turn
    pad_id: int  # may be an end token
    generation_config: GenerationConfig
    packs: bool  # whether the model takes packed rows (`rcsd.models.packed_attention`)
    trained: frozenset[str]  # names of the trained parameters, also with adapters switched off
    date: datetime.date | None = None  # the day that the chat template prints, if it prints one
    notes: tuple[str, ...] = ()  # sentences on what was loaded that a user should know

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model was made for, or None where it does not say."""
        section = self.model.config.get_text_config()
        longest = getattr(section, "max_position_embeddings", None)
        rope = getattr(section, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope":
            # Beyond this length a pass takes other factors for all of its rows, short ones too.
            return rope.get("original_max_position_embeddings", longest)
        return longest

    @property
    def vocab_size(self) -> int:
        """Width of the logits, which may exceed the tokenizer's."""
        return self.model.config.get_text_config().vocab_size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if n in self.trained}

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Fingerprint of the weights that are not adapters, as they were when first asked for."""
        return weights_fingerprint(self.model)

    @functools.cached_property
    def text(self) -> CompletionText:
        """Converts the token ids of a prompt and its completion to the completion's text."""
        return CompletionText(self.tokenizer)

    @property
    def has_adapters(self) -> bool:
        """True if switching adapters off gives the initial weights back."""
        return isinstance(self.model, PeftModel)


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names and values of the parameters that are not adapters."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" not in name:
            digest.update(name.encode())
            values = parameter.detach().cpu().contiguous().flatten()
            digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_policy(section: config.Model, device: torch.device | None = None) -> Policy:
    """Policy from a local folder, a hub id or a built-in name such as ``builtin:micro``.

    An adapter's folder is merged into its base. Raises ModelError if weights cannot be loaded, are
    missing or damaged, or there is no chat template.
    """
    section = section.dated()
    source = Source.from_config(section)
    set_linear_backend(section.linear)
    tokenizer = load_tokenizer(section, source)
    if source.adapters:
        refuse_quantized(section, "no adapter can be merged into")
    model, notes = load_weights(section, source)
    for folder in source.adapters:
        model = merged(load_adapter(model, folder))
    model.name_or_path = source.name
    refuse_damaged(model, source.name)
    with source.named_errors():  # libraries of quantised weights may refuse to move them
        model = model.to(device or PartialState().device)
    policy = build_policy(model, tokenizer, section.training, section.revision, section.packing)
    if section.activation_checkpointing:
        checkpoint_activations(policy)
    if left_out := coverage(policy.model, policy.trained)["experts_left_out"]:
        notes.append(
            f"experts' weights ({', '.join(left_out)}: {sum(left_out.values()):.0%} of all) stay "
            "frozen; model.training.target_parameters gives them adapters"
        )
    day = section.date if prints_date(tokenizer) else None
    return replace(policy, date=day, notes=tuple(notes))


def load_tokenizer(section: config.Model, source: Source) -> Any:
    """The tokenizer of a source, with the chat template that the section asks for.

    Raises ModelError if it cannot be loaded.
    """
    path, revision = source.tokenizer
    with source.named_errors():
        tokenizer: Any = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=section.trust_remote_code
        )
    if section.chat_template is not None:
        try:
            tokenizer.chat_template = section.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise ModelError(f"model.chat_template: {section.chat_template}: {error}") from error
    check_template_kwargs(tokenizer, section.chat_template_kwargs, "model.chat_template_kwargs")
    values = dict(section.chat_template_kwargs)
    if prints_date(tokenizer) and (day := section.dated().date):
        values["chat_template"] = dated_template(tokenizer.get_chat_template(), day)
    if values:
        tokenizer.apply_chat_template = functools.partial(tokenizer.apply_chat_template, **values)
    return tokenizer


def build_policy(
    model: Any,
    tokenizer: Any,
    training: config.Lora | config.FullFineTuning,
    revision: str | None = None,
    packing: bool = True,
) -> Policy:
    """Policy from a model and a tokenizer in memory; the model is put into the mode for scoring.

    Adapters record the revision. Rows are packed if the model takes packed rows. Raises ModelError
    if the tokenizer has no chat template, no token ends a turn, or the model's predictions are not
    those of the tokens before (`rcsd.models.self_test`).
    """
    eos_id = tokenizer.eos_token_id
    generation_config, model.generation_config = model.generation_config, GenerationConfig()
    eos_ids = generation_config.eos_token_id
    eos_ids = eos_ids if isinstance(eos_ids, list) else [eos_ids]
    ends = {eos_id, *eos_ids} - {None}
    turn_end = turn_end_id(tokenizer, ends)
    turn_end = eos_id if turn_end is None else turn_end
    if turn_end is None:
        raise ModelError("neither the chat template nor the tokenizer name an end token")
    ends.add(turn_end)
    _check_ends(tokenizer, ends)
    check_chat_template(tokenizer)
    num_rows = model.get_input_embeddings().weight.shape[0]
    prompt = prompt_ids(tokenizer, [{"role": "user", "content": "?"}])
    if (largest := max([*prompt, turn_end])) >= num_rows:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise ModelError(
            f"the chat template's token {token!r} has the id {largest}, and the model's embedding "
            f"{num_rows} rows: resize the embedding, or take the model's own tokenizer"
        )
    pad_id = turn_end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config_ = model.config.get_text_config()
    if getattr(config_, "attn_logit_softcapping", None) and config_._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")  # sdpa of transformers before 5.24 drops the cap
    use_scoring_mode(model)
    check_model(model)
    packs = packing and enable_packing(model)
    if training.type == "lora":
        model = adapted(model, training, revision)
    else:
        freeze_towers(model)
    use_fast_linear(model)
    use_scoring_mode(model)
    return Policy(
        model,
        tokenizer,
        tuple(sorted(ends)),
        turn_end,
        pad_id,
        generation_config,
        packs,
        frozenset(name for name, p in model.named_parameters() if p.requires_grad),
    )


def freeze_towers(model: Any) -> None:
    """Freeze all but the decoder of text, its embedding and its head, where there is more."""
    if model.config.get_text_config() is model.config:
        return
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    text = {id(p) for part in parts for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in text)


def _check_ends(tokenizer: Any, end_ids: Collection[int]) -> None:
    """Refuse an end token that ends each channel: completions would stop before the answer."""
    added = {token.content: id for id, token in tokenizer.added_tokens_decoder.items()}
    if "<|channel|>" in added and added.get("<|end|>") in end_ids:
        raise ModelError(
            "<|end|> ends the analysis, so completions would stop before their answer; the chat "
            "template or the generation config names it as the end: set model.chat_template to "
            "one that ends answers with <|return|>, or correct generation_config.json"
        )


def checkpoint_activations(policy: Policy, has_values: bool = True) -> None:
    """Make backward passes compute each layer's activations anew; in training mode alone.

    Dropout draws the same numbers again. Tensors without values (``rcsd plan``) can neither draw
    nor be tried. Raises ModelError if the model's code does not offer it.
    """
    model = causal_lm(policy.model)
    # The older name, which new versions of transformers warn of.
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)(
            {"use_reentrant": False, "preserve_rng_state": has_values}
        )
    except ValueError as error:
        raise ModelError(f"model.activation_checkpointing: {error}") from error
    # Only the reentrant kind needs inputs with a gradient; here it would be computed for nothing.
    model.disable_input_require_grads()
    use_scoring_mode(policy.model)
    try:
        if has_values:
            check_model(model)
    except ModelError as error:
        raise ModelError(f"model.activation_checkpointing: {error}") from error
