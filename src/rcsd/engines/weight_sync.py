"""The policy's weights, as they are handed to an engine that keeps weights of its own."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from rcsd.models.policy import Policy, causal_lm


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the adapter alone, in the type that it is trained in."""
    # Never the embeddings: peft would ask the hub whether they have grown.
    policy.model.save_pretrained(folder, save_embedding_layers=False)


def has_tied_head(policy: Policy) -> bool:
    """Whether the head is the embedding."""
    model = causal_lm(policy.model)
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def all_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """All weights by their names in a checkpoint; a head that is the embedding only once."""
    is_tied = has_tied_head(policy)
    for name, value in causal_lm(policy.model).state_dict().items():
        if not (is_tied and name == "lm_head.weight"):
            yield name, value.detach()
