"""FSDP2: each rank holds its rows of every weight, and gathers a layer's when it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import register_dataclass, register_pytree_node

from rcsd.errors import ModelError
from rcsd.models.logits import HeadPredictions, LogitPredictions
from rcsd.models.packing import padded
from rcsd.models.policy import Policy
from rcsd.models.scorer import Scorer, causal_lm

# So that FSDP finds the tensor in what the scorer gives, whose gradient it waits for. The head's
# weights are parameters: a hook on them would stay, and one more come with each pass.
register_pytree_node(
    HeadPredictions,
    lambda given: ([given.hidden_TH], (given.weight_VH, given.bias_V)),
    lambda children, head: HeadPredictions(next(iter(children)), *head),
)
register_dataclass(LogitPredictions)


class Sharding:
    """Shards a policy's weights, gradients and so the optimizer's state.

    Layers are gathered one by one, in the type ``precision`` or their own, and freed after their
    pass. Embeddings, the last norm and the head stay whole from the forward pass to the end of the
    backward pass, since losses are taken from the head after the forward pass
    (`rcsd.models.logits`). Gradients are summed, not averaged. Parameters are replaced, so an
    optimizer must be made afterwards.

    Raises ModelError if the model does not say what its layers are.
    """

    def __init__(self, scorer: Scorer, policy: Policy, precision: torch.dtype | None) -> None:
        kinds = set(getattr(causal_lm(policy.model), "_no_split_modules", None) or ())
        layers = [m for m in policy.model.modules() if type(m).__name__ in kinds]
        if not layers:
            raise ModelError(
                f"{type(policy.model).__name__} does not say what its layers are, so it cannot be "
                "sharded; set processes.sharding: none"
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {
            "mesh": init_device_mesh(device, (torch.distributed.get_world_size(),)),
            "mp_policy": MixedPrecisionPolicy(precision, torch.float32 if precision else None),
        }
        for layer in layers:
            fully_shard(layer, **options)
        fully_shard(scorer, **options)
        self._root, scorer.is_sharded = scorer, True
        self._modules = [m for m in scorer.modules() if isinstance(m, FSDPModule)]
        for module in self._modules:
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other
            module.set_reduce_scatter_unused_params(True)  # processes may use other experts
        self._keep_after_forward(only_root=True)
        # The first pass makes the scorer the root, whoever passes through a layer later.
        with torch.no_grad():
            scorer(padded([[0, 1]], [[2]], 0, torch.device(device)))
        self.reshard()

    def reshard(self) -> None:
        """Free gathered weights, so that parameters are those that the optimizer knows."""
        for module in self._modules:
            module.reshard()

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Inside, every rank holds all weights, and may use them without the others."""
        self._keep_after_forward(only_root=False)
        try:
            for module in self._modules:
                module.unshard()
            yield
        finally:
            self._keep_after_forward(only_root=True)
            self.reshard()

    def gathered(self, policy: Policy) -> dict[str, Tensor]:
        """All weights that are saved, on the CPU, on every rank."""
        self.reshard()
        state = policy.model.state_dict(keep_vars=True)
        saved = {n: v for n, v in state.items() if n in policy.trained or not policy.has_adapters}
        # Tied weights have two names, and stay one tensor.
        full: dict[int, Tensor] = {}
        for value in saved.values():
            tensor = value.full_tensor() if isinstance(value, DTensor) else value
            full[id(value)] = tensor.detach().cpu()
        return {name: full[id(value)] for name, value in saved.items()}

    def _keep_after_forward(self, only_root: bool) -> None:
        for module in self._modules:
            frees = only_root and module is not self._root
            module.set_reshard_after_forward(frees, recurse=False)
