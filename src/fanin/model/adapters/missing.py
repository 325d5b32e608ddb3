"""What to do about a parameter whose axes nobody states, as the end of a message."""

from __future__ import annotations

from keyword import iskeyword

from torch import nn

from fanin.model.site import Site
from fanin.model.types import module_type

__all__ = ["missing_adapter"]


def missing_adapter(site: Site) -> str:
    """Code to paste: an adapter for the module type, or a rule where a type says nothing."""
    kind, shape = module_type(site.module), tuple(site.shape)
    if len(shape) < 2:
        layout = "layout=Layout(in_axes=(0,))"
        return f"Where the elements of a vector are weights of a sum, its rule has {layout}."
    is_container = issubclass(kind, nn.ParameterList | nn.ParameterDict)
    if is_container or not site.attribute.isidentifier() or iskeyword(site.attribute):
        return (
            f"State its axes in a rule ({_MEANINGS}):\n\n"
            "    from fanin import Layout, rule\n\n"
            f"    # {shape}\n{_question(shape, 4)}"
            f"    rule({site.name!r}, ..., layout=Layout(out_axes=(0,), in_axes=(1,)))\n"
        )
    function = f"{kind.__name__.lower()}_layout"
    return (
        f"Register its axes ({_MEANINGS}):\n\n"
        "    from fanin import Layout, register_adapter\n\n"
        f"    def {function}(module, name):\n"
        f"        if name == {site.attribute!r}:\n"
        f"            shape = tuple(module.{site.attribute}.shape)  # {shape}\n"
        f"{_question(shape, 12)}"
        "            return Layout(shape, out_axes=(0,), in_axes=(1,), batch_axes=())\n"
        "        return None\n\n"
        f"    register_adapter({kind.__name__}, {function})\n"
    )


_MEANINGS = "in: summed over, out: different outputs, batch: independent"


def _question(shape: tuple[int, ...], indent: int) -> str:
    """A comment on what is to be decided where there are more than two axes."""
    if len(shape) == 2:
        return ""
    others = ", ".join(str(axis) for axis in range(2, len(shape)))
    start = " " * indent + "# "
    return (
        f"{start}Which axes? Those left out ({others} here) are a kernel's: in both fans.\n"
        f"{start}Stacked experts: batch_axes=(0,), out_axes=(1,), in_axes=(2,).\n"
    )
