"""What transformers wants beside the tensors; asked of the model, without importing the library."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from fanin.model import module_type
from fanin.model.wrappers import wrapped_attribute

__all__ = ["config_texts", "tied_names"]


def tied_names(model: nn.Module) -> Collection[str]:
    """The names that `from_pretrained` fills by tying, and so does not look for."""
    tied = getattr(_unwrapped(model), "all_tied_weights_keys", None)
    return frozenset(tied) if isinstance(tied, dict) else frozenset()


def config_texts(model: nn.Module, dtype: torch.dtype | None) -> dict[str, str]:
    """``config.json`` and, of a model that generates, ``generation_config.json``, by name.

    With the model's class and dtype, as `save_pretrained` states them. Empty for a model that has
    no configuration of that kind.
    """
    model = _unwrapped(model)
    config: Any = getattr(model, "config", None)
    if not callable(getattr(config, "to_json_string", None)):
        return {}
    content = _content(config)
    content["architectures"] = [module_type(model).__name__]
    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    stored = dtype or next(floating, None)
    if stored is not None:
        key = "torch_dtype" if "torch_dtype" in content else "dtype"
        content[key] = str(stored).removeprefix("torch.")
    contents = {"config.json": content}
    generating = getattr(model, "can_generate", None)
    if callable(generating) and generating():
        contents["generation_config.json"] = _content(model.generation_config)
        contents["generation_config.json"].pop("compile_config", None)  # as save_pretrained does
    return {
        name: json.dumps(each, indent=2, sort_keys=True) + "\n" for name, each in contents.items()
    }


def _content(config: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return content


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DDP and the like, which has the configuration."""
    attribute = wrapped_attribute(model)
    while attribute is not None:
        model = getattr(model, attribute)
        attribute = wrapped_attribute(model)
    return model
