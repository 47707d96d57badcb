"""Weights that are missing, damaged, quantised, or of more than text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.test_adapters import check_export, edit, load, saved
from tests.models.test_zoo import SMALL, plain_log_p
from tests.support.tiny import tiny_folder, tiny_tokenizer
from tests.training.test_trainer import FULL, LORA, Tree, settings
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    T5Config,
)

from rcsd.engines.build import chosen_engine
from rcsd.errors import ModelError
from rcsd.models.adapters import coverage
from rcsd.models.packing import packed, padded
from rcsd.models.save import export_merged
from rcsd.models.scorer import Scorer
from rcsd.recipes.pipeline_steps import train
from rcsd.training.trainer import run
from rcsd.types import Decoding

UP = "model.layers.1.mlp.up_proj.weight"


def change(folder: str, do: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a model's file."""
    file = Path(folder) / "model.safetensors"
    tensors = load_file(file)
    do(tensors)
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda t: t.pop(UP), f"lacks {UP}, which"),
        (lambda t: [t.pop(name) for name in list(t) if "norm" in name], r"lacks .* and 2 more"),
        (lambda t: t.update({UP: t[UP][:-1]}), re.escape(UP)),
        (lambda t: t[UP].__setitem__((0, 0), float("nan")), f"NaN or infinity in {UP}"),
        (lambda t: t[UP].__setitem__((0, 0), float("inf")), f"NaN or infinity in {UP}"),
        # A row of the embedding that no test of the model looks at.
        (
            lambda t: t["model.embed_tokens.weight"].__setitem__((250, 3), float("nan")),
            r"in model\.embed_tokens\.weight",
        ),
    ],
)
def test_missing_misshapen_and_damaged_weights_are_named(
    do: Any, message: str, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "model")
    change(folder, do)
    for training in (LORA, FULL):
        with pytest.raises(ModelError, match=message):
            load(folder, **training)


def test_a_head_of_its_own_that_is_missing_is_named_and_a_tied_one_is_not(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    assert "lm_head.weight" not in load_file(Path(folder) / "model.safetensors")
    assert not load(folder).notes
    edit(Path(folder) / "config.json", tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"lacks lm_head\.weight"):
        load(folder)


def test_weights_that_the_model_does_not_have_are_told(tmp_path: Path, rcsd: Any) -> None:
    folder = tiny_folder(tmp_path / "model")
    change(folder, lambda t: t.update({"model.mtp.weight": torch.ones(2)}))
    [note] = load(folder, **LORA).notes
    assert "left out: model.mtp.weight" in note
    (tmp_path / "run.yaml").write_text(settings(tmp_path, "run", steps=1).model_dump_json())
    code, _, err = rcsd("train", tmp_path / "run.yaml")
    assert code == 0
    assert "left out: model.mtp.weight" in err


QUANTIZED: list[Tree] = [
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "gptq", "bits": 4},
    {"quant_method": "awq", "bits": 4},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "mxfp4"},
    {"quant_method": "compressed-tensors"},
]


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_quantised_bases_are_refused_before_they_are_loaded(
    quantization: Tree, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "model")
    save_adapter(folder, tmp_path / "adapter")
    edit(Path(folder) / "config.json", quantization_config=quantization)
    (Path(folder) / "model.safetensors").unlink()
    method = rf"quantised \({quantization['quant_method']}\)"
    with pytest.raises(ModelError, match=method + r".*full fine-tuning.*unquantised"):
        run(settings(tmp_path, "full"))
    lora = settings(tmp_path, "run", model={"path": folder, "training": LORA})
    with pytest.raises(ModelError, match=method):
        train(lambda *_: None, lora, tmp_path / "merged")
    with pytest.raises(ModelError, match=method):
        export_merged(lora.model, tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(ModelError, match=method):
        load(tmp_path / "adapter")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "merged").exists()


def save_adapter(folder: str, out: Path) -> None:
    """A fresh adapter."""
    load(folder, **LORA).model.save_pretrained(out, save_embedding_layers=False)


def shrink(section: Any) -> Any:
    """Sizes of a tiny model in a configuration, and in those of its parts."""
    sizes = SMALL | {"depth": 2, "out_hidden_size": 32, "num_heads": 4, "embed_dim": 32}
    sizes |= {"image_size": 28, "patch_size": 14, "vision_output_dim": 32}
    sizes |= {"projector_input_dim": 32, "projector_output_dim": 32}
    sizes |= {"vocab_size": len(tiny_tokenizer())}
    for name, size in sizes.items():
        if type(getattr(section, name, None)) in (int, float):
            setattr(section, name, size)
    if getattr(section, "layer_types", None):
        section.layer_types = section.layer_types[:2]
    if getattr(section, "rope_parameters", None) and re.search("vl|glm4v", section.model_type):
        section.rope_parameters["mrope_section"] = [2, 1, 1]
    section.pad_token_id = getattr(section, "pad_token_id", None)  # transformers 5.0 lacks some
    for part in section.sub_configs:
        if getattr(section, part, None) is not None:
            shrink(getattr(section, part))
    return section


def tiny_with_tower(name: str) -> Any:
    """A random model that sees images too."""
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(shrink(AutoConfig.for_model(name))).eval()


TOWERS = [
    *("gemma3", "qwen2_5_vl", "llama4", "mistral3"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("aria", "idefics3", "internvl", "llava", "qwen2_vl", "qwen3_vl", "glm4v")
    ),
]


@pytest.mark.parametrize("name", TOWERS)
def test_models_that_see_images_are_trained_on_text_alone(name: str, tmp_path: Path) -> None:
    whole = tiny_with_tower(name)
    prompts, completions = [[5, 6, 7, 8], [9, 10]], [[11, 12, 13], [14, 15]]
    # transformers 5.24 cannot run Llama 4 as a whole.
    text = whole.language_model if name == "llama4" else whole
    expected = torch.cat(
        [plain_log_p(text, *pair) for pair in zip(prompts, completions, strict=True)]
    )
    path = saved(whole, tmp_path / "base")
    policy = load(path)
    layouts: list[Any] = [padded(prompts, completions, 0)]
    layouts += [packed(prompts, completions)] if policy.packs else []
    for rows in layouts:
        log_p_TV = Scorer(policy.model)(rows).logits().log_softmax(-1)
        found = log_p_TV.gather(1, rows.target_T[:, None])[:, 0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    chosen_engine(None, policy, batch_size=2, longest=32).sample(prompts, Decoding(3), seed=0)

    towers = re.compile("vision|visual|projector|connector")
    for training in (LORA, FULL):
        trained = check_export(path, tmp_path / training["type"], **training)
        assert not [name for name in trained.trained if towers.search(name)]
        assert coverage(trained.model, trained.trained)["share"] < 1 or name == "llama4"


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="t5 is no decoder of text"):
        load(tmp_path)
