"""A model's weights read from disk or the hub; what is missing, damaged or quantised is named."""

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.utils.peft_utils import find_adapter_config_file

from rcsd import config
from rcsd.errors import ModelError
from rcsd.models.hub import CONVERT, model_folder, refuse_pickles


@dataclass(frozen=True)
class Source:
    """Base of a model, and the folders of the adapters that are merged into it in turn.

    ``name`` is what an adapter trained on the model records as its base.
    """

    name: str
    base: str
    revision: str | None
    adapters: tuple[Path, ...] = ()

    @classmethod
    def from_config(cls, section: config.Model) -> "Source":
        """The source of a run's model.

        Raises ModelError if a built-in model was not fetched, or an adapter names no base.
        """
        name, revision = model_folder(section.path), section.revision
        base, adapters = name, list[Path]()
        while (folder := _adapter_folder(base, revision)) is not None:
            if folder in adapters:
                raise ModelError(f"model.path: the adapter in {folder} is its own base")
            adapters.insert(0, folder)
            try:
                written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            except ValueError as error:
                raise ModelError(f"{folder}/adapter_config.json: {error}") from error
            base, revision = written.get("base_model_name_or_path"), written.get("revision")
            if not base:
                raise ModelError(
                    f"model.path: the adapter in {folder} names no base: set "
                    "base_model_name_or_path in its adapter_config.json"
                )
        return cls(_absolute(name), _absolute(base), revision, tuple(adapters))

    @property
    def tokenizer(self) -> tuple[str, str | None]:
        """Path and revision of the tokenizer: the last adapter's that has one, or the base's."""
        for folder in reversed(self.adapters):
            if (folder / "tokenizer_config.json").is_file():
                return str(folder), None
        return self.base, self.revision

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn any error inside into a ModelError that names what was read, and says what to do."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:  # a broken file of a model makes transformers raise anything
            message, hint = str(error) or type(error).__name__, ""
            if "trust_remote_code" in message:
                hint = "; where you have read that code and trust it: model.trust_remote_code=true"
            elif "safetensors" in message:
                hint = f"; only safetensors are read. {CONVERT}"
            of = f", the base of the adapter in {self.adapters[0]}" if self.adapters else ""
            raise ModelError(
                f"model.path: cannot load {self.base!r}{of}: {message}{hint}"
            ) from error


def _absolute(path: str) -> str:
    """Absolute path of a folder: an adapter's record of its base holds wherever a run starts."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _adapter_folder(path: str, revision: str | None) -> Path | None:
    """The folder of an adapter, which is fetched from the hub; None: a model, or nothing."""
    try:
        file = find_adapter_config_file(path, revision=revision)
    except (OSError, ValueError):  # neither a folder nor on the hub: an error once it is loaded
        return None
    if file is None:
        return None
    if Path(path).is_dir():
        return Path(path).resolve()
    try:
        return Path(snapshot_download(path, revision=revision))
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path: cannot fetch the adapter {path}: {error}") from error


def load_hf_config(section: config.Model) -> Any:
    """The configuration of a run's model, or of its adapter's base, in transformers.

    Raises ModelError if it is missing.
    """
    source = Source.from_config(section)
    with source.named_errors():
        return AutoConfig.from_pretrained(
            source.base,
            revision=source.revision,
            trust_remote_code=section.trust_remote_code,
        )


def quantization(hf_config: Any) -> str | None:
    """The method by which a checkpoint is quantised, or None."""
    for part in (hf_config, hf_config.get_text_config()):
        if (settings := getattr(part, "quantization_config", None)) is not None:
            settings = settings if isinstance(settings, dict) else settings.to_dict()
            method = settings.get("quant_method")
            return str(getattr(method, "value", method))
    return None


def refuse_quantized(section: config.Model, use: str) -> None:
    """Raise ModelError if the weights are quantised; ``use`` says what that forbids."""
    if method := quantization(load_hf_config(section)):
        raise ModelError(
            f"model.path: {section.path}: its weights are quantised ({method}), which {use}; take "
            "the unquantised model"
        )


def build_unloaded(hf_config: Any, section: config.Model) -> Any:
    """The model of a configuration with weights that are not read."""
    options = {"dtype": getattr(torch, section.dtype), "attn_implementation": section.attention}
    return _auto_class(hf_config).from_config(hf_config, **options)


def load_weights(section: config.Model, source: Source) -> tuple[Any, list[str]]:
    """The base of a source without its adapters, and sentences on what a user should know.

    A model that sees images too is loaded whole where transformers has no class for its text alone.

    Raises ModelError if it cannot be loaded, or the file lacks weights that the model has.
    """
    refuse_pickles(Path(source.base))
    hf_config = load_hf_config(section)
    with source.named_errors():
        model, info = _auto_class(hf_config).from_pretrained(
            source.base,
            dtype=getattr(torch, section.dtype),
            attn_implementation=section.attention,
            use_safetensors=True,
            revision=source.revision,
            trust_remote_code=section.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    if info["mismatched_keys"]:
        name, *shapes = min(info["mismatched_keys"])
        raise ModelError(
            f"model.path: {source.base}: {name} has the shape {list(shapes[0])}, and by its "
            f"config.json, which is another model's, {list(shapes[1])}"
        )
    # Tied weights are of transformers' own accord not among them.
    if missing := info["missing_keys"]:
        raise ModelError(
            f"model.path: {source.base} lacks {listed(missing)}, which would be random: the file "
            "is incomplete, or its config.json another model's"
        )
    notes: list[str] = []
    if method := quantization(hf_config):
        notes.append(
            f"{source.base} is quantised ({method}): an adapter can be trained and served upon it, "
            "but 'rcsd export' and 'rcsd eval' cannot merge it"
        )
    if unexpected := info["unexpected_keys"]:
        notes.append(
            f"{source.base} holds weights that {type(model).__name__} does not have and that are "
            f"left out: {listed(unexpected)}"
        )
    return model, notes


def _auto_class(hf_config: Any) -> Any:
    """The class of transformers that loads an architecture with a causal head."""
    auto_map = getattr(hf_config, "auto_map", None) or {}
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        is_known = type(hf_config) in kind._model_mapping or kind.__name__ in auto_map
        if is_known and not getattr(hf_config, "is_encoder_decoder", False):
            return kind
    raise ModelError(
        f"model.path: {hf_config.model_type} is no decoder of text that transformers loads with "
        "AutoModelForCausalLM or AutoModelForImageTextToText"
    )


def refuse_damaged(model: nn.Module, path: str) -> None:
    """Raise ModelError naming the weights that are not finite."""
    state = model.state_dict()
    buffers = [(name, value) for name, value in model.named_buffers() if name in state]
    damaged = [
        name
        for name, value in (*model.named_parameters(), *buffers)
        if value.dtype.itemsize > 1 and not value.isfinite().all()
    ]
    if damaged:
        raise ModelError(
            f"model.path: {path} is damaged: NaN or infinity in {listed(damaged)}; fetch it anew"
        )


def listed(names: Collection[str]) -> str:
    """The first three names, and the number of the others."""
    first, more = sorted(names)[:3], len(names) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
