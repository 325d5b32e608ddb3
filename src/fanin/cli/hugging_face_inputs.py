"""What a model of transformers takes: token ids, images, or both, and of which shapes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError

__all__ = ["Wanted", "is_hugging_face", "wanted_inputs"]

_LENGTH, _IMAGE = 32, 224  # unless asked for, or stated by the configuration
_Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The shape of one of each argument, without the batch; the model's main one comes first.

    Args:
        shapes: by name of the argument.
        vocabulary: token ids are below it.
        accepted: names of all arguments that there are.
    """

    shapes: Mapping[str, _Shape]
    vocabulary: int
    accepted: frozenset[str]

    def are_ids(self, name: str) -> bool:
        """Whether the argument takes token ids."""
        return name.endswith("input_ids")

    def masks(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ones: no token is padding, also where its id is that of padding."""
        if "input_ids" not in values or "attention_mask" not in self.accepted:
            return {}
        return {"attention_mask": torch.ones_like(values["input_ids"])}


def is_hugging_face(model: nn.Module) -> bool:
    """Whether it has what models of transformers have and is asked for here."""
    return hasattr(model, "main_input_name") and hasattr(model, "config")


def wanted_inputs(model: nn.Module, *, shape: _Shape | None, length: int | None) -> Wanted:
    """The arguments that a model cannot do without.

    Args:
        model: of transformers.
        shape: of one image, or of whatever else the main argument takes.
        length: of token ids.

    Raises:
        ArgumentError: when a shape is needed that neither an option nor the configuration states.
    """
    config: Any = model.config
    main = str(model.main_input_name)
    accepted = frozenset(inspect.signature(model.forward).parameters)
    names = [main, *_others(config, main, accepted)]
    takes_ids = any(name.endswith("input_ids") for name in names)
    if length is not None and not takes_ids:
        raise ArgumentError(
            f"--length: for models that take token ids. Got {length} for {type(model).__name__}, "
            f"which takes {main}. Say --input-shape."
        )
    if shape is not None and all(name.endswith("input_ids") for name in names):
        raise ArgumentError(
            f"--input-shape: for models that take other things than token ids. Got {shape} for "
            f"{type(model).__name__}. Say --length."
        )
    text = config.get_text_config()
    ids = (length or _default_length(text),)
    shapes = {
        name: ids if name.endswith("input_ids") else shape or _shape(config, name, model)
        for name in names
    }
    return Wanted(shapes, int(getattr(text, "vocab_size", None) or 0), accepted)


def _others(config: Any, main: str, accepted: Iterable[str]) -> list[str]:
    """Beside the main one: a decoder's ids; the other modality, unless tokens stand for images."""
    other = {"input_ids": "pixel_values", "pixel_values": "input_ids"}.get(main)
    has_both = hasattr(config, "vision_config") and hasattr(config, "text_config")
    pair = [other] if has_both and other and not hasattr(config, "image_token_id") else []
    decoder = ["decoder_input_ids"] if config.is_encoder_decoder else []
    return [name for name in (*pair, *decoder) if name in accepted]


def _default_length(text_config: Any) -> int:
    limit = getattr(text_config, "max_position_embeddings", None)
    return min(limit, _LENGTH) if isinstance(limit, int) else _LENGTH


def _shape(config: Any, name: str, model: nn.Module) -> _Shape:
    if name != "pixel_values":
        raise ArgumentError(
            f"--input-shape: known for token ids and images. Got none for {name} of "
            f"{type(model).__name__}. Say it without the batch."
        )
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or _IMAGE
    height, width = (size, size) if isinstance(size, int) else size
    return (getattr(vision, "num_channels", None) or 3, height, width)
