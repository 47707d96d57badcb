"""The policy: a model that is trained, its tokenizer, and how both are loaded."""

import contextlib
import datetime
import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rcsd import config
from rcsd.config.base import nearest
from rcsd.data.thinking import CompletionText
from rcsd.data.views import (
    check_chat_template,
    dated_template,
    prints_date,
    prompt_ids,
    turn_end_id,
)
from rcsd.errors import ModelError
from rcsd.models.cpu_linear import set_linear_backend, use_fast_linear
from rcsd.models.hub import CONVERT, model_folder, refuse_pickles
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

    Raises ModelError if it cannot be loaded, is an adapter without its base, or has no chat
    template.
    """
    section, path = section.dated(), model_folder(section.path)
    # An adapter's record of its base must not depend on the folder that the run was started in.
    path = str(Path(path).resolve()) if Path(path).is_dir() else path
    if (Path(path) / "adapter_config.json").is_file():
        raise ModelError(
            f"model.path: {path} holds an adapter alone; 'rcsd export RUN --out FOLDER' merges it "
            "into its base model"
        )
    refuse_pickles(Path(path))
    set_linear_backend(section.linear)
    tokenizer = load_tokenizer(section, path)
    with _reported(path):
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, section.dtype),
            attn_implementation=section.attention,
            use_safetensors=True,
            revision=section.revision,
            trust_remote_code=section.trust_remote_code,
        )
    model = model.to(device or PartialState().device)
    policy = build_policy(model, tokenizer, section.training, section.revision, section.packing)
    if section.activation_checkpointing:
        checkpoint_activations(policy)
    return replace(policy, date=section.date if prints_date(tokenizer) else None)


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken file of a model makes transformers raise anything
        message, hint = str(error) or type(error).__name__, ""
        if "trust_remote_code" in message:
            hint = "; where you have read that code and trust it: model.trust_remote_code=true"
        elif "safetensors" in message:
            hint = f"; only safetensors are read. {CONVERT}"
        raise ModelError(f"model.path: cannot load {path!r}: {message}{hint}") from error


def load_tokenizer(section: config.Model, path: str) -> Any:
    """The tokenizer at a path or hub id, with the chat template that the section asks for.

    Raises ModelError if it cannot be loaded.
    """
    with _reported(path):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            path, revision=section.revision, trust_remote_code=section.trust_remote_code
        )
    if section.chat_template is not None:
        try:
            tokenizer.chat_template = section.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise ModelError(f"model.chat_template: {section.chat_template}: {error}") from error
    for name in section.chat_template_kwargs:
        words = re.findall(r"\w+", str(tokenizer.chat_template))
        if name not in words:
            fault = "the chat template has no such variable" + nearest(name, words)
            raise ModelError(f"model.chat_template_kwargs.{name}: {fault}")
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
    turn_end = turn_end_id(tokenizer)
    turn_end = eos_id if turn_end is None else turn_end
    if turn_end is None:
        raise ModelError("neither the chat template nor the tokenizer name an end token")
    generation_config, model.generation_config = model.generation_config, GenerationConfig()
    eos_ids = generation_config.eos_token_id
    eos_ids = eos_ids if isinstance(eos_ids, list) else [eos_ids]
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
    use_fast_linear(model)
    use_scoring_mode(model)
    return Policy(
        model,
        tokenizer,
        tuple(sorted({turn_end, eos_id, *eos_ids} - {None})),
        turn_end,
        pad_id,
        generation_config,
        packs,
        frozenset(name for name, p in model.named_parameters() if p.requires_grad),
    )


def adapted(model: Any, training: config.Lora, revision: str | None = None) -> Any:
    """The model with fresh adapters, which begin as if they were not there.

    The model's layers are replaced in place; adapters record the revision. Raises ModelError if no
    layer is called so.
    """
    lora = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules=training.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, lora, revision=revision)
    except ValueError as error:
        raise ModelError(f"model.training.target_modules: {error}") from error


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
