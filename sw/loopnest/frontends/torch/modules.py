"""Prepares modules for export, without changing them."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import prune


def evaluated(model: torch.nn.Module) -> tuple[torch.nn.Module, dict[int, torch.Tensor]]:
    """Return a copy of a module in evaluation, which shares the module's tensors.

    `torch.export` does not take sparse tensors: in the copy, a dense tensor without memory of its
    own stands for each. The masks of `torch.nn.utils.prune` are applied in the copy.

    Returns
    -------
    module : torch.nn.Module
    stand_ins : dict of int to tensor
        The sparse tensors by the addresses of those that stand for them.
    """
    shared: dict[int, Any] = {}
    stand_ins: dict[int, torch.Tensor] = {}
    kept = []
    for tensor in _tensors(model):
        if id(tensor) in shared:
            continue
        kept.append(tensor)  # an id holds as long as its object
        shared[id(tensor)] = tensor
        if tensor.layout != torch.strided:
            dense = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
            if isinstance(tensor, torch.nn.Parameter):
                dense = torch.nn.Parameter(dense, requires_grad=False)
            shared[id(tensor)] = dense
            stand_ins[dense.untyped_storage().data_ptr()] = tensor
    found = copy.deepcopy(model, shared).eval()
    for module in found.modules():
        _apply_masks(module)
    return found, stand_ins


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield all tensors that modules hold, as parameters, buffers or otherwise."""

    def within(value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            for v in value.values():
                yield from within(v)
        elif isinstance(value, list | tuple):
            for v in value:
                yield from within(v)

    for module in model.modules():
        for key, value in vars(module).items():
            if key != "_modules":
                yield from within(value)


def _apply_masks(module: torch.nn.Module) -> None:
    """Make the pruned tensors of a module parameters of their own."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            masked = hook.apply_mask(module).detach()
            del module._forward_pre_hooks[key]
            del module._parameters[f"{name}_orig"], module._buffers[f"{name}_mask"]
            vars(module).pop(name, None)
            module.register_parameter(name, torch.nn.Parameter(masked, requires_grad=False))
