"""What transformers wants beside the tensors; asked of the model, without importing the library."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from fanin.model import module_type
from fanin.model.wrappers import wrapped_attribute

__all__ = ["config_text", "tied_names"]


def tied_names(model: nn.Module) -> Collection[str]:
    """The names that `from_pretrained` fills by tying, and so does not look for."""
    tied = getattr(_unwrapped(model), "all_tied_weights_keys", None)
    return frozenset(tied) if isinstance(tied, dict) else frozenset()


def config_text(model: nn.Module, dtype: torch.dtype | None) -> str | None:
    """The model's ``config.json``, with its class and dtype as `save_pretrained` states them.

    None for a model that has no configuration of that kind.
    """
    model = _unwrapped(model)
    config: Any = getattr(model, "config", None)
    if not callable(getattr(config, "to_json_string", None)):
        return None
    content = json.loads(config.to_json_string(use_diff=True))
    content["architectures"] = [module_type(model).__name__]
    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    stored = dtype or next(floating, None)
    if stored is not None:
        key = "torch_dtype" if "torch_dtype" in content else "dtype"
        content[key] = str(stored).removeprefix("torch.")
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DDP and the like, which has the configuration."""
    attribute = wrapped_attribute(model)
    while attribute is not None:
        model = getattr(model, attribute)
        attribute = wrapped_attribute(model)
    return model
