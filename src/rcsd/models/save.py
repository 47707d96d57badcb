"""Trained models on disk, with their adapters apart or merged."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from rcsd import config
from rcsd.distributed import Ranks
from rcsd.errors import ModelError, RunError
from rcsd.io import check_new, new_folder, one_owner
from rcsd.models.adapters import load_adapter, merged
from rcsd.models.checkpoint import Checkpoints
from rcsd.models.hub import hub_name
from rcsd.models.loading import refuse_quantized
from rcsd.models.policy import Policy, load_policy
from rcsd.models.scorer import causal_lm
from rcsd.runs import RunFolder

MERGING = "no adapter can be merged into"


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
    refuse_quantized(section, MERGING)
    base = load_policy(section.model_copy(update={"training": config.FullFineTuning()}))
    return dataclasses.replace(base, model=merged(load_adapter(base.model, adapter)))


def export_merged(section: config.Model, adapter: Path | None, out: Path) -> None:
    """Write a plain model: `load_merged`, or a model whose path is an adapter's.

    Raises RunError if ``out`` exists.
    """
    check_new(out)
    card = (adapter or Path(section.path)) / "README.md"
    policy = load_trained(section).policy if adapter is None else load_merged(section, adapter)
    _export(policy, out, card.read_text("utf-8") if card.is_file() else "")


def export_run(folder: RunFolder, out: Path, card: Callable[[int], str]) -> int | None:
    """Write a run's model with its adapter merged, of a run that has not ended by a checkpoint.

    Returns:
        The step of the checkpoint, for which ``card`` makes the model card; None: the run ended.

    Raises:
        RunError: If ``out`` exists, or the run has nothing to export yet.
        ModelError: If there is no adapter to merge, or the base cannot be loaded.
    """
    check_new(out)
    section = config.config_of_run(folder).model
    if folder.has_ended:
        export_merged(section, folder.model, out)
        return None
    policy, step = load_checkpoint(section, folder)
    _export(policy, out, card(step))
    return step


def _export(policy: Policy, out: Path, card: str) -> None:
    with one_owner(out), new_folder(out) as unfinished:
        save_model(policy, unfinished, card)


def load_checkpoint(section: config.Model, folder: RunFolder) -> tuple[Policy, int]:
    """Policy without adapters from a run's newest undamaged checkpoint, and its step.

    Raises RunError if there is none.
    """
    try:
        checkpoints = Checkpoints(folder.path / "checkpoints", 1, Ranks())
        loaded = checkpoints.load({}, on_warning=None)
    except (OSError, SafetensorError) as error:  # the run goes on, and has newer ones by now
        raise RunError(f"{folder.path}: the checkpoint is gone ({error}); try again") from error
    if loaded is None:
        raise RunError(
            f"{folder.path} has no model and no checkpoint yet; go on with --resume, or wait for "
            "its first checkpoint (save_every_steps)"
        )
    step, state = loaded
    if section.training.type == "lora":
        refuse_quantized(section, MERGING)
    policy = load_policy(section)
    for name, value in state.part("weights").items():
        policy.trainable[name].data.copy_(value)
    model = merged(policy.model) if policy.has_adapters else policy.model
    return dataclasses.replace(policy, model=model), step


class Trained(NamedTuple):
    """A policy without adapters, its name, and the step of a run that has not ended."""

    policy: Policy
    name: str
    step: int | None = None


def load_trained(section: config.Model) -> Trained:
    """Policy of a run's folder, whose record says the rest, or of any model.

    Of a run that has not ended it is the newest undamaged checkpoint's.

    Raises:
        RunError: If a run has neither a model nor a checkpoint.
        ModelError: If the model cannot be loaded.
    """
    path, folder = section.path, RunFolder(Path(section.path))
    if not folder.record.is_file():
        plain = section.model_copy(update={"training": config.FullFineTuning()})
        return Trained(load_policy(plain), hub_name(path))
    run = config.config_of_run(folder)
    kwargs = {**run.chat_template_kwargs, **section.chat_template_kwargs}
    section = run.model.dated(section.date).model_copy(update={"chat_template_kwargs": kwargs})
    if not folder.has_ended:
        policy, step = load_checkpoint(section, folder)
        return Trained(policy, f"{path}, step {step}", step)
    if section.training.type == "lora":
        return Trained(load_merged(section, folder.model), path)
    trained = section.model_copy(update={"path": str(folder.model), "revision": None})
    return Trained(load_policy(trained), path)
