"""Published shapes of large models, as their configurations on the hub have them."""

from typing import Any

from transformers import LlamaConfig, Qwen3Config

QWEN3_8B = Qwen3Config(
    vocab_size=151_936,
    hidden_size=4096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40_960,
    tie_word_embeddings=False,
)
"""Qwen/Qwen3-8B."""
QWEN3_2B = Qwen3Config(
    vocab_size=151_936,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40_960,
    tie_word_embeddings=True,
)
"""Qwen/Qwen3-1.7B."""
LLAMA_70B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=8192,
    intermediate_size=28_672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    max_position_embeddings=131_072,
    tie_word_embeddings=False,
)
"""meta-llama/Llama-3.3-70B-Instruct."""
SHAPES: dict[str, Any] = {
    "Qwen/Qwen3-8B": QWEN3_8B,
    "Qwen/Qwen3-1.7B": QWEN3_2B,
    "meta-llama/Llama-3.3-70B-Instruct": LLAMA_70B,
}
"""By hub id."""
