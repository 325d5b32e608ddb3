"""Modules that only wrap another one: their attribute is no component of a parameter's name."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["unwrapped", "wrapped_attribute"]

# Where the type lives, its name, and the attribute that holds the wrapped module. A type is looked
# up only in modules that are already imported: no instance of it can exist otherwise.
_WRAPPERS = (
    ("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    ("torch.optim.swa_utils", "AveragedModel", "module"),
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
        "_fsdp_wrapped_module",
    ),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
)


def wrapped_attribute(module: nn.Module) -> str | None:
    """The attribute under which a wrapper instance holds its module; None for any other module."""
    for path, name, attribute in _WRAPPERS:
        wrapper = getattr(sys.modules.get(path), name, None)
        if wrapper is not None and isinstance(module, wrapper):
            return attribute
    return None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DDP, a compiled module and their kin; other models are returned as is."""
    while (attribute := wrapped_attribute(model)) is not None:
        model = getattr(model, attribute)
    return model
