"""A random two-layer model, small enough for every test."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from experiments.micro_model.corpus import Corpus, CorpusMix
from experiments.micro_model.pretrain import trained_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM


@cache
def tiny_tokenizer() -> Any:
    """A tokenizer of the rubric world's words."""
    return trained_tokenizer(Corpus(CorpusMix(), 0), 300)


def tiny_shape() -> dict[str, Any]:
    """What all tiny decoders have alike."""
    ids = {name: getattr(tiny_tokenizer(), name) for name in ("eos_token_id", "pad_token_id")}
    shape = {"vocab_size": len(tiny_tokenizer()), "hidden_size": 32, "intermediate_size": 64}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return shape | {"initializer_range": 0.3, "bos_token_id": None} | ids


def tiny_model(seed: int = 0, pad_is_end: bool = False) -> Any:
    """Two layers of random weights; large enough that views differ in their predictions."""
    torch.manual_seed(seed)
    shape = tiny_shape() | {"max_position_embeddings": 1024, "tie_word_embeddings": True}
    if pad_is_end:
        shape["pad_token_id"] = shape["eos_token_id"]
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def tiny_folder(folder: Path, seed: int = 0) -> str:
    """The model and its tokenizer, saved."""
    tiny_model(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)
