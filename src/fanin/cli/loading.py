"""`--checkpoint`: values that somebody else wrote, into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fanin.auditing.checkpoints import safetensors_in, tensors_in
from fanin.errors import ArgumentError
from fanin.report import shape_text

__all__ = ["PICKLED", "is_checkpoint", "load_checkpoint"]

PICKLED = (".pt", ".pth", ".bin", ".ckpt")  # how files of torch.save end
_NESTED = ("state_dict", "model_state_dict", "model")  # under which training scripts save it
_SHOWN = 4  # names in a note


def is_checkpoint(text: str) -> bool:
    """Whether a model is a checkpoint that can be audited without building one.

    Raises:
        ArgumentError: for a file or a folder that is there and cannot.
    """
    path = Path(text)
    if not text:
        return False
    if path.suffix.lower() in PICKLED and path.is_file():
        raise ArgumentError(
            f"audit: a file of torch.save is read into its model. Got {text!r}. Name the model, "
            f"and say --checkpoint {text}."
        )
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise ArgumentError(
            f"audit: a folder of .safetensors files. Got no .safetensors in that folder, {text!r}. "
            "Name another one, or a model as package.module:callable."
        )
    if text.endswith((".safetensors", ".safetensors.index.json")) and ":" not in text:
        return True
    return path.is_dir()


def load_checkpoint(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Copy the tensors of a checkpoint into the model; what is lacking on either side, as notes.

    Args:
        model: with memory; its dtypes stay.
        path: a .safetensors file, the index of several or a folder of them, or a file of torch.save
            with nothing but tensors.

    Raises:
        ArgumentError: when it cannot be read, when a shape differs, or no name fits.
    """
    tensors = _tensors(path)
    held = model.state_dict(keep_vars=True)
    named = {name: tensors[name] for name in held if name in tensors}
    if tensors and not named:
        raise ArgumentError(
            f"--checkpoint: names that the model has. Got {_listed(list(tensors))} in "
            f"{str(path)!r}, for a model with {_listed(list(held))}. Build the model that was "
            "saved, or save it without the prefix."
        )
    try:
        result = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        got = "; ".join(_unlike(held, named)) or str(error)
        raise ArgumentError(
            f"--checkpoint: tensors of the model's shapes. Got {got} in {str(path)!r}. Build the "
            "model as it was saved: --arg key=value."
        ) from error
    loaded = {id(held[name]) for name in named}
    missing = [n for n in result.missing_keys if n in held and id(held[n]) not in loaded]
    dtypes = sorted({str(each.dtype).removeprefix("torch.") for each in named.values()})
    notes = [f"checkpoint: {len(named)} tensors of {path.name}, {', '.join(dtypes)}"]
    notes += [f"not in the checkpoint: {_listed(missing)}"] * bool(missing)
    unexpected = list(result.unexpected_keys)
    return (*notes, *[f"not in the model: {_listed(unexpected)}"] * bool(unexpected))


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix.lower() not in PICKLED:
        return {**tensors_in(path), **_ties(path)}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of the unpickler, on what is no pickle: KeyError and others
        reason = getattr(error, "strerror", None) or (
            "it is no file that torch.save wrote with nothing but tensors in it"
        )
        raise ArgumentError(f"--checkpoint: cannot read {str(path)!r}: {reason}.") from error
    return _state(path, content)


def _ties(path: Path) -> dict[str, Tensor]:
    """Tensors that were stored once under one of their names, by the others."""
    found: dict[str, Tensor] = {}
    for file in safetensors_in(path):
        try:
            with safe_open(file, framework="pt") as content:
                keys = set(content.keys())
                for name, owner in (content.metadata() or {}).items():
                    if owner in keys and name not in keys:
                        found[name] = content.get_tensor(owner)
        except (OSError, SafetensorError) as error:
            raise ArgumentError(f"--checkpoint: cannot read {str(file)!r}: {error}.") from error
    return found


def _state(path: Path, content: Any) -> dict[str, Tensor]:
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise ArgumentError(
            f"--checkpoint: tensors by name, as of state_dict(). Got {type(content).__name__} in "
            f"{str(path)!r}. Save model.state_dict()."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ArgumentError(
            f"--checkpoint: tensors by name, as of state_dict(). Got {_listed(others)} besides in "
            f"{str(path)!r}. Save model.state_dict() alone, or under the key 'state_dict'."
        )
    return dict(content)


def _unlike(held: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> list[str]:
    """The tensors whose shapes differ, of many the first."""
    found = [
        f"{shape_text(each.shape) or 'one number'} where the model has "
        f"{shape_text(held[name].shape) or 'one number'}, for {name!r}"
        for name, each in named.items()
        if not is_lazy(held[name]) and each.shape != held[name].shape
    ]
    return [*found[:1], f"{len(found) - 1} more"] if len(found) > 1 else found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
