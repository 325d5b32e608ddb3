"""What goes into a model that is probed: drawn from the stream, or read from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fanin import fills
from fanin.cli.hugging_face_inputs import is_hugging_face, wanted_inputs
from fanin.cli.input_files import IMAGES, read_image, read_tensors
from fanin.drawing import draw
from fanin.errors import ArgumentError
from fanin.geometry import Region
from fanin.report import shape_text
from fanin.stream import Key

__all__ = ["InputOptions", "Inputs", "make_inputs"]

_BATCH = 16
_Shape: TypeAlias = tuple[int, ...]

# The shape of one input of each model of the zoo.
_ZOO: dict[str, Callable[[Any], _Shape]] = {
    "zoo:alexnet": lambda model: (3, 224, 224),
    "zoo:choices": lambda model: (model.choices["conv"].in_channels, 28, 28),
    "zoo:dcgan": lambda model: (model.generator[0].in_channels,),
    "zoo:lenet": lambda model: (1, 28, 28),
    "zoo:linears": lambda model: (model.linears[0].in_features,),
    "zoo:mlp": lambda model: (model[0].in_features,),
    "zoo:resnet": lambda model: (3, 224, 224),
}


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The options that say what goes in, as typed.

    Raises:
        ArgumentError: when one makes no sense.
    """

    file: Path | None = None
    batch: int | None = None
    shape: str | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        for option, count in (("--batch", self.batch), ("--length", self.length)):
            if count is not None and count < 1:
                raise ArgumentError(f"{option}: at least 1. Got {count}.")
            if count is not None and self.file is not None:
                raise ArgumentError(
                    f"{option}: for an input that is drawn. Got {count} beside --input "
                    f"{str(self.file)!r}, which has its own."
                )
        if self.shape is not None:
            _parsed(self.shape)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A tensor, positional arguments or named ones; and what they are, for people."""

    value: Any
    text: str


def make_inputs(model: nn.Module, spec: str, options: InputOptions, *, seed: int) -> Inputs:
    """A batch for the model that ``spec`` names.

    Raises:
        ArgumentError: when an option does not fit the model, or the shape of an input is not known.
    """
    shape = None if options.shape is None else _parsed(options.shape)
    if options.file is not None:
        return _from_file(model, spec, options.file, shape)
    return _drawn(model, spec, options, shape, seed)


def _drawn(
    model: nn.Module, spec: str, options: InputOptions, shape: _Shape | None, seed: int
) -> Inputs:
    batch = options.batch or _BATCH
    if is_hugging_face(model):
        wanted = wanted_inputs(model, shape=shape, length=options.length)
        values, texts = {}, []
        for i, (name, one) in enumerate(wanted.shapes.items()):
            key = Key(seed, "input") if i == 0 else Key(seed, "input").part(name)
            size = (batch, *one)
            if wanted.are_ids(name):
                values[name] = _ids(size, wanted.vocabulary, key)
                texts.append(f"{name} {shape_text(size)}, below {wanted.vocabulary}")
            else:
                values[name] = _normal(size, model, key)
                texts.append(f"{name} {shape_text(size)}, N(0, 1)")
        return Inputs({**values, **wanted.masks(values)}, "; ".join(texts))
    if options.length is not None:
        raise ArgumentError(
            f"--length: for models of transformers that take token ids. Got {options.length} for "
            f"{spec!r}. Say --input-shape."
        )
    size = (batch, *(shape or _shape_of_one(model, spec)))
    return Inputs(_normal(size, model, Key(seed, "input")), f"{shape_text(size)}, N(0, 1)")


def _shape_of_one(model: nn.Module, spec: str) -> _Shape:
    if spec not in _ZOO:
        raise ArgumentError(
            f"--input-shape: the shape of one input, which is known for models of the zoo and most "
            f"of transformers. Got none for {spec!r}. As in --input-shape 3,224,224; or name a "
            "file by --input, which may hold several tensors."
        )
    return _ZOO[spec](model)


def _normal(size: _Shape, model: nn.Module, key: Key) -> Tensor:
    values = _empty(size, _dtype(model))
    draw(fills.Normal(0.0, 1.0), key, Region.whole(size), values)
    return values


def _ids(size: _Shape, vocabulary: int, key: Key) -> Tensor:
    """Uniform in ``0 … vocabulary - 1``: float64 has far more steps than any vocabulary."""
    values = _empty(size, torch.float64)
    draw(fills.Uniform(0.0, 1.0), key, Region.whole(size), values)
    return (values * vocabulary).long().clamp_(max=vocabulary - 1)


def _empty(size: _Shape, dtype: torch.dtype) -> Tensor:
    try:
        return torch.empty(size, dtype=dtype)
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise ArgumentError(
            f"--batch, --input-shape: an input that fits into memory. Got {shape_text(size)}."
        ) from error


def _from_file(model: nn.Module, spec: str, path: Path, shape: _Shape | None) -> Inputs:
    if not path.is_file():
        raise ArgumentError(f"--input: a file that exists. Got {str(path)!r}.")
    if path.suffix.lower() in IMAGES:
        value: Any = read_image(path, shape or _image_shape(model, spec))
        text = f"{path.name}, {shape_text(value.shape)}, from 0 to 1"
    elif shape is not None:
        raise ArgumentError(
            f"--input-shape: for an image, or an input that is drawn. Got --input {str(path)!r}, "
            "whose tensors are used as they are."
        )
    else:
        value = read_tensors(path)
        text = f"{path.name}, {_shapes(value)}"
    return Inputs(_cast(value, _dtype(model)), text)


def _image_shape(model: nn.Module, spec: str) -> _Shape | None:
    if is_hugging_face(model):
        return wanted_inputs(model, shape=None, length=None).shapes.get("pixel_values")
    return _ZOO[spec](model) if spec in _ZOO else None


def _dtype(model: nn.Module) -> torch.dtype:
    """Of the parameters, to which inputs that are not whole numbers are cast."""
    found = (p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex())
    return next(found, torch.get_default_dtype())


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _cast(each, dtype) for name, each in value.items()}
    return tuple(_cast(each, dtype) for each in value)


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return shape_text(value.shape) or "one number"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shapes(each)}" for name, each in value.items())
    return ", ".join(map(_shapes, value))


def _parsed(text: str) -> _Shape:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ArgumentError(
            f"--input-shape: sizes with commas, each at least 1, without the batch. Got {text!r}. "
            "As in --input-shape 3,224,224."
        )
    return shape
