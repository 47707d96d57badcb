"""Trained models on disk: as they are, and with their adapters merged."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from rcsd import config
from rcsd.errors import ModelError, RunError
from rcsd.io import new_folder
from rcsd.models.hub import hub_name
from rcsd.models.policy import Policy, load_policy, refuse_pickles
from rcsd.models.scorer import causal_lm
from rcsd.runs import RunFolder


def save_model(
    policy: Policy, folder: Path, card: str, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write weights (safetensors; the adapter alone for LoRA), tokenizer and model card (Markdown).

    ``weights`` are those that were gathered, where the model has shares of them alone.
    """
    causal = causal_lm(policy.model)
    bare, causal.generation_config = causal.generation_config, policy.generation_config
    try:
        # Embeddings stay as they were, and peft would ask the hub whether they have grown.
        options = {"save_embedding_layers": False} if policy.has_adapters else {}
        policy.model.save_pretrained(folder, state_dict=weights, **options)
    finally:
        causal.generation_config = bare
    policy.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def load_merged(section: config.Model, adapter: Path) -> Policy:
    """Policy with an adapter merged into the base that it was trained on.

    Raises ModelError if there is no adapter, or the base cannot be loaded.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"{adapter} holds no adapter; a fully fine-tuned model needs no merging")
    refuse_pickles(adapter)
    base = load_policy(section.model_copy(update={"training": config.FullFineTuning()}))
    merged = PeftModel.from_pretrained(base.model, str(adapter)).merge_and_unload()
    return dataclasses.replace(base, model=merged)


def export_merged(section: config.Model, adapter: Path, out: Path) -> None:
    """Write a plain model, the result of `load_merged`; RunError if ``out`` exists."""
    with new_folder(out) as unfinished:
        merged = load_merged(section, adapter)
        merged.model.generation_config = merged.generation_config
        merged.model.save_pretrained(unfinished)
        merged.tokenizer.save_pretrained(unfinished)


def load_trained(section: config.Model) -> tuple[Policy, str]:
    """Policy without adapters, and its name: of a run's folder, whose record says the rest, or any.

    Raises:
        RunError: If the run has not finished.
        ModelError: If the model cannot be loaded.
    """
    path, folder = section.path, RunFolder(Path(section.path))
    if not folder.record.is_file():
        plain = section.model_copy(update={"training": config.FullFineTuning()})
        return load_policy(plain), hub_name(path)
    if not folder.model.is_dir():
        raise RunError(f"{path} has no model yet; finish the run with --resume")
    run = config.config_of_run(folder)
    kwargs = {**run.chat_template_kwargs, **section.chat_template_kwargs}
    section = run.model.model_copy(update={"chat_template_kwargs": kwargs})
    if section.training.type == "lora":
        return load_merged(section, folder.model), path
    trained = section.model_copy(update={"path": str(folder.model), "revision": None})
    return load_policy(trained), path
