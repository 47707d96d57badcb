"""Low-rank adapters: their layers, their share of a model, loading and merging."""

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rcsd import config
from rcsd.errors import ModelError
from rcsd.models.hub import refuse_pickles
from rcsd.models.loading import listed

_REFUSED_OUT_PROJ = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Types of models whose ``out_proj`` PEFT refuses to adapt."""


def adapted(model: Any, training: config.Lora, revision: str | None = None) -> Any:
    """The model with new adapters, which at first add nothing.

    ``all-linear`` leaves out layers to which an adapter would do nothing: those that no pass over
    text calls, such as a vision tower's, and routers. The model's layers are replaced in place;
    adapters record the revision. Raises ModelError if no layer is called so, or one cannot have
    an adapter.
    """
    unfit, is_all = _unfit_layers(model), training.target_modules == "all-linear"
    lora = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules=training.target_modules,
        target_parameters=training.target_parameters or None,
        exclude_modules=sorted(unfit) if is_all and unfit else None,
        task_type="CAUSAL_LM",
    )
    try:
        with _quiet_peft():
            made = get_peft_model(model, lora, revision=revision)
    except (ValueError, TypeError) as error:
        hint = ""
        if "lora_dropout" in str(error):
            hint = " (experts' weights take no dropout: set model.training.dropout: 0)"
        raise ModelError(f"model.training.target_modules: {error}{hint}") from error
    _check_layers(made, training, unfit)
    _check_reading(made)
    return made


def _check_reading(model: Any) -> None:
    """Refuse adapters that PEFT would not read back as it has written them."""
    written = get_peft_model_state_dict(model, save_embedding_layers=False)
    lost = {key for key in set_peft_model_state_dict(model, written).missing_keys if "lora_" in key}
    if lost:
        raise ModelError(
            f"model.training.target_modules: PEFT cannot read back an adapter of {listed(lost)}; "
            "name other layers"
        )


def _check_layers(model: Any, training: config.Lora, unfit: set[str]) -> None:
    """Refuse adapters that do nothing, and names that no layer or parameter has."""
    layers = _layers(model)
    names = {_plain(name) for name, _ in layers}
    if idle := names & unfit:
        raise ModelError(
            f"model.training.target_modules: an adapter does nothing to {listed(idle)}: no pass "
            "over text calls it as a linear layer; name others"
        )
    names |= {_parameter(name, m) for name, m in layers if isinstance(m, ParamWrapper)}
    # PEFT replaces old names of experts' layers in a list by those of their parameters.
    [section] = model.peft_config.values()
    modules, parameters = section.target_modules or (), section.target_parameters or ()
    if isinstance(training.target_modules, str):
        modules, parameters = (), training.target_parameters
    for target in (*modules, *parameters):
        if not any(f".{name}".endswith(f".{target}") for name in names):
            raise ModelError(f"model.training: the model has no {target!r} to adapt")


@contextlib.contextmanager
def _quiet_peft() -> Iterator[None]:
    """Silence PEFT's warnings, which differ by release: what they are about is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_adapter(model: Any, folder: Path) -> Any:
    """The model with a trained adapter from a folder.

    Raises ModelError if it holds none that can be merged, or the adapter is another model's.
    """
    refuse_pickles(folder)
    try:
        section: Any = PeftConfig.from_pretrained(str(folder))
        if section.is_prompt_learning:
            raise ModelError("it is learned prompts, which cannot be merged into weights")
        section.base_model_name_or_path = model.name_or_path
        with _quiet_peft():
            made = get_peft_model(model, section)
            result = made.load_adapter(str(folder), "default")
    except Exception as error:  # a broken file makes PEFT raise anything
        raise ModelError(f"{folder}: cannot load the adapter: {error}") from error
    for fault, keys in (
        ("the file lacks", result.missing_keys),
        ("the model has no place for", result.unexpected_keys),
    ):
        if keys:
            raise ModelError(
                f"{folder}: {fault} {listed(keys)}: the adapter is another model's, or damaged"
            )
    return made


def merged(model: Any) -> Any:
    """The model with its adapter merged into its weights.

    A head that is the embedding gets weights of its own if either has an adapter.
    """
    causal = model.get_base_model()
    head, embedding = causal.get_output_embeddings(), causal.get_input_embeddings()
    is_adapted = any(
        isinstance(m, (BaseTunerLayer, AuxiliaryTrainingWrapper)) for m in (head, embedding)
    )
    unties = is_adapted and _base(head).weight is _base(embedding).weight
    if unties:
        _base(head).weight = nn.Parameter(_base(head).weight.detach().clone())
        causal.all_tied_weights_keys = {}
        for section in (causal.config, causal.config.get_text_config()):
            section.tie_word_embeddings = False
    with _quiet_peft():
        plain = model.merge_and_unload()
    vars(plain).pop("peft_config", None)  # left by PEFT before 0.21
    return plain


def _base(module: Any) -> Any:
    if isinstance(module, AuxiliaryTrainingWrapper):
        return module.original_module
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


@torch.no_grad()
def _unfit_layers(model: Any) -> set[str]:
    """Names of linear layers that a pass over a few tokens does not call as such.

    Experts of one name count as called where one of them is. Unknown without weights.
    """
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    refused = set()
    if model.config.model_type in _REFUSED_OUT_PROJ:
        refused = {name for name in linear if name.endswith(".out_proj")}
    device = next(model.parameters()).device
    if device.type == "meta":
        return refused
    called: set[str] = set()

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # Neither a router's tuple nor a layer of groups, to which no adapter can be added.
            num = module.nf if isinstance(module, Conv1D) else module.out_features
            if isinstance(output, Tensor) and output.shape == (*inputs[0].shape[:-1], num):
                called.add(_any_layer(name))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in linear.items()]
    try:
        model(input_ids=torch.arange(8, device=device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return refused | {name for name in linear if _any_layer(name) not in called}


def _any_layer(name: str) -> str:
    return re.sub(r"\.\d+\b", ".*", name)


def _plain(name: str) -> str:
    """Name of a layer in the model without adapters."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def _layers(model: Any) -> list[tuple[str, Any]]:
    """Names and modules that have adapters."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer)]


def _parameter(name: str, wrapper: ParamWrapper) -> str:
    return f"{_plain(name)}.{wrapper.parameter_name}"


def coverage(model: nn.Module, trained: Collection[str]) -> dict[str, Any]:
    """Layers and parameters that are trained, counted by their last names, for ``run.json``.

    ``experts_left_out`` has the share of all weights of each of the experts' that stay frozen.
    """
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    wrapped = [_parameter(name, m) for name, m in _layers(model) if isinstance(m, ParamWrapper)]
    layers = [_plain(name) for name, m in _layers(model) if not isinstance(m, ParamWrapper)]
    targets = {*trained, *wrapped, *(f"{name}.weight" for name in layers)}
    left_out = Counter[str]()
    for name, parameter in model.named_parameters():
        plain = _plain(name)
        if plain not in targets and name not in trained and _is_expert(model, name, parameter):
            left_out[_expert_name(plain)] += parameter.numel()
    left = _without_adapters(model) if layers or wrapped else []
    num_trained, num_all = sum(sizes[name] for name in trained), sum(sizes.values())
    return {
        "layers": _count(layers),
        "target_parameters": dict(Counter(map(_expert_name, sorted(wrapped)))),
        "layers_left_out": _count(left),
        "parameters": num_trained,
        "all_parameters": num_all,
        "share": num_trained / num_all,
        "experts_left_out": {name: num / num_all for name, num in left_out.items()},
    }


def _count(names: Collection[str]) -> dict[str, int]:
    return dict(sorted(Counter(name.rpartition(".")[2] for name in names).items()))


def _without_adapters(model: nn.Module) -> list[str]:
    """Names of the linear layers that have no adapter."""
    inside = tuple(f"{name}." for name, _ in _layers(model))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not name.startswith(inside)
    ]


def _is_expert(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """True for a matrix of an expert, or for those of all experts in one tensor."""
    if "lora_" in name or name.endswith("bias"):
        return False
    owner = model.get_submodule(name.rpartition(".")[0])
    is_stack = parameter.ndim == 3 and not isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return is_stack or (parameter.ndim == 2 and bool(re.search(r"\.experts\.\d+\.", name)))


def _expert_name(name: str) -> str:
    """The last two parts of a parameter's name, as `target_parameters` takes it."""
    return ".".join(re.sub(r"\.\d+\b", "", name).split(".")[-2:])
