"""What people hold an image in, as one tensor of channels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanin.errors import ArgumentError, FaninError

__all__ = ["Image", "as_image"]

Image: TypeAlias = Tensor | NDArray[Any] | str | os.PathLike[str]

_PICTURES = (".png", ".jpg", ".jpeg")


def as_image(image: Image) -> Tensor:
    """An image as float32 channels.

    Args:
        image: a tensor or an array of (C, H, W), (1, C, H, W) or (H, W); an array of (H, W, 3) or
            (H, W, 4), as image libraries make them; or the path of a .npy, .pt, .png or .jpg file.
            Bytes are divided by 255. A fourth channel of a picture, its opacity, is left out.

    Returns:
        (C, H, W), float32, on the device of the tensor.

    Raises:
        ArgumentError: for another shape, a file that is not there or of another kind.
        FaninError: for a picture file without matplotlib, which reads them.

    Example:
        >>> as_image(torch.zeros(5, 7, dtype=torch.uint8)).shape
        torch.Size([1, 5, 7])
    """
    given = image if isinstance(image, Tensor | np.ndarray) else _read(Path(image))
    values = given if isinstance(given, Tensor) else _channels_first(given)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or not values.numel() or values.is_complex():
        raise ArgumentError(
            "image: it is (C, H, W), (1, C, H, W) or (H, W), of real numbers. Got "
            f"{tuple(values.shape)} of {values.dtype}. Take one image of a batch: batch[0]."
        )
    scale = 255.0 if values.dtype == torch.uint8 else 1.0
    return values.detach().float() / scale


def _read(path: Path) -> Tensor | NDArray[Any]:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ArgumentError(f"image: a file that exists. Got {str(path)!r}. Check the path.")
    if suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if suffix == ".pt":
        held = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(held, Tensor):
            return held
        raise ArgumentError(
            f"image: a .pt file holds one tensor. Got {type(held).__name__} in {str(path)!r}. "
            "Save the tensor alone: torch.save(image, path)."
        )
    if suffix in _PICTURES:
        return _picture(path)
    raise ArgumentError(
        f"image: a .npy, .pt, .png or .jpg file. Got {str(path)!r}. Convert it to one of them."
    )


def _picture(path: Path) -> NDArray[Any]:
    """The colours of a picture file, channels first."""
    try:
        from matplotlib.image import imread
    except ImportError as error:
        raise FaninError(
            "image: picture files are read by matplotlib. Got an environment without it. Install "
            "it: pip install 'fanin[report]'."
        ) from error
    pixels = np.atleast_3d(imread(path))
    colours = 3 if pixels.shape[2] >= 3 else 1  # the channel after them is opacity
    return np.moveaxis(pixels[..., :colours], 2, 0)


def _channels_first(array: NDArray[Any]) -> Tensor:
    """As a tensor; one of (H, W, 3) or (H, W, 4) as its three colours first."""
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.shape[0] not in (1, 3, 4):
        array = np.moveaxis(array[..., :3], 2, 0)
    return torch.from_numpy(np.ascontiguousarray(array).copy())
