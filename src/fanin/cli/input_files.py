"""Tensors and images that somebody else wrote to a file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fanin.errors import ArgumentError, UnknownNameError, one_of

__all__ = ["IMAGES", "read_image", "read_tensors"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_tensors(path: Path) -> Any:
    """A tensor, a tuple of tensors, or a dictionary of named ones; no code in the file is run.

    Raises:
        ArgumentError: when it cannot be read, or holds something else.
    """
    if path.suffix.lower() not in _READERS:
        raise UnknownNameError(
            f"--input: a file of a known kind. Got {str(path)!r}. "
            f"{one_of(path.suffix, (*_READERS, *IMAGES))}"
        )
    read, kind = _READERS[path.suffix.lower()]
    try:
        value = read(path)
    except (OSError, ValueError, TypeError, EOFError, RuntimeError) as error:
        raise _unreadable(path, error, kind) from error
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise _unreadable(path, error, kind) from error
    value = tuple(value) if isinstance(value, list) else value
    inside = value.values() if isinstance(value, dict) else value
    names = value if isinstance(value, dict) else ()
    if not isinstance(value, Tensor) and not (
        isinstance(value, tuple | dict)
        and value
        and all(isinstance(each, Tensor) for each in inside)
        and all(isinstance(name, str) for name in names)
    ):
        raise ArgumentError(
            f"--input: a tensor, several in a tuple, or a dictionary of named ones. "
            f"Got {type(value).__name__} in {str(path)!r}."
        )
    return value


def read_image(path: Path, shape: tuple[int, ...] | None) -> Tensor:
    """A batch of one image: (1, channels, height, width), from 0 to 1.

    Args:
        path: of a file that Pillow reads.
        shape: channels (1 grey, 3 colours), height and width to which it is brought; None leaves
            the size, with three channels.

    Raises:
        ArgumentError: when it cannot be read, or there are no images of that shape.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ArgumentError(
            f"--input: an image is read by the package pillow. Got {error}. "
            "Install it: pip install pillow."
        ) from error
    if shape is not None and (len(shape) != 3 or shape[0] not in (1, 3)):
        raise ArgumentError(
            f"--input: an image has 1 or 3 channels, a height and a width. Got {str(path)!r} for "
            f"a model that takes {shape}. Say --input-shape 3,224,224, or write a .npy file."
        )
    try:
        with Image.open(path) as file:
            image = file.convert("L" if shape is not None and shape[0] == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error, "image that Pillow knows") from error
    if shape is not None:
        image = image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return pixels.reshape(1, image.height, image.width, -1).permute(0, 3, 1, 2).contiguous()


def _numpy(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, allow_pickle=False))


def _torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    """Named arguments; a tensor alone is the first argument, whatever it is called."""
    tensors = load_file(path)
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


_READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    ".npy": (_numpy, "array of numbers"),
    ".pt": (_torch, "file that torch.save wrote, with nothing but tensors in it"),
    ".pth": (_torch, "file that torch.save wrote, with nothing but tensors in it"),
    ".safetensors": (_safetensors, "safetensors file"),
}


def _unreadable(path: Path, error: Exception, kind: str) -> ArgumentError:
    reason = getattr(error, "strerror", None) or f"it is no {kind}"
    return ArgumentError(f"--input: cannot read {str(path)!r}: {reason}.")
