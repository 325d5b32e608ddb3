"""Names as Python: fixes are code that can be pasted."""

from __future__ import annotations

__all__ = ["expression"]


def expression(name: str) -> str:
    """How code reaches a module or a parameter of ``model``.

    Example:
        >>> expression("layers.0.norm.weight"), expression("heads.mask-lm.bias"), expression("")
        ('model.layers[0].norm.weight', "model.heads['mask-lm'].bias", 'model')
    """
    name = name.partition("[")[0]  # of a packed part, the whole
    return "model" + "".join(_step(part) for part in name.split(".") if part)


def _step(part: str) -> str:
    if part.isdigit():
        return f"[{part}]"
    return f".{part}" if part.isidentifier() else f"[{part!r}]"
