"""Published shapes of large models, as their configurations on the hub have them."""

from typing import Any

from transformers import LlamaConfig, Qwen3Config

QWEN3: dict[str, Any] = {"vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8}
QWEN3 |= {"max_position_embeddings": 40_960}
LLAMA: dict[str, Any] = {"vocab_size": 128_256, "max_position_embeddings": 131_072}


def sizes(hidden: int, intermediate: int, layers: int, heads: int, *, tied: bool) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
    }


SHAPES: dict[str, Any] = {
    "Qwen/Qwen3-8B": Qwen3Config(**QWEN3, **sizes(4096, 12_288, 36, 32, tied=False)),
    "Qwen/Qwen3-1.7B": Qwen3Config(**QWEN3, **sizes(2048, 6144, 28, 16, tied=True)),
    "meta-llama/Llama-3.3-70B-Instruct": LlamaConfig(
        **LLAMA, **sizes(8192, 28_672, 80, 64, tied=False), num_key_value_heads=8
    ),
}
"""By hub id."""
