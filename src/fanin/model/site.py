"""`Site`, a place where a parameter hangs, and `Entry`, a parameter with all its names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fanin.model.parametrized import Parametrized

__all__ = ["Entry", "Site"]


@dataclass(frozen=True, eq=False, slots=True)
class Site:
    """One place where a parameter hangs.

    Args:
        name: canonical name; a wrapper such as DDP contributes no component to it, and a
            parametrized weight has the name of the attribute it appears as.
        module: the module whose parameter it is.
        attribute: under which name it has it.
        parents: the modules from the root down to ``module``, both included.
        prefix: what the model's own `state_dict` has before the names of the module's tensors.
        through: how a parametrized weight is written; None for one that is written as it is.
        is_buffer: whether it is no parameter but a buffer.
        in_part: whether the model is stated to be a part of a larger one.
    """

    name: str
    module: nn.Module
    attribute: str
    parents: tuple[nn.Module, ...]
    prefix: str = ""
    through: Parametrized | None = None
    is_buffer: bool = False
    in_part: bool = False

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer that hangs there now.

        The value of a parametrized weight is computed at every access, so that nobody holds it
        for as long as the site.
        """
        if self.through is not None:
            return self.through.value()
        module = self.module
        held = module._buffers if self.is_buffer else module._parameters
        tensor = held[self.attribute]
        assert tensor is not None
        return tensor

    @property
    def shape(self) -> torch.Size:
        """The shape of `tensor`; that of a parametrized weight is computed once."""
        return self.tensor.shape if self.through is None else self.through.form[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of `tensor`, likewise."""
        return self.tensor.dtype if self.through is None else self.through.form[1]

    @property
    def is_lazy(self) -> bool:
        """Whether its shape is not known before a first forward pass."""
        return self.through is None and is_lazy(self.tensor)

    @property
    def stored(self) -> tuple[str, ...]:
        """The names under which the model's own `state_dict` holds it; none: it does not."""
        if self.through is not None:
            return tuple(self.prefix + original for original, _ in self.through.originals)
        if self.is_buffer and self.attribute in self.module._non_persistent_buffers_set:
            return ()
        return (self.prefix + self.attribute,)


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One parameter: the site that owns it, and the others it is reached from."""

    owner: Site
    others: tuple[Site, ...] = ()

    @property
    def name(self) -> str:
        """Canonical name of the owner."""
        return self.owner.name

    @property
    def aliases(self) -> tuple[str, ...]:
        """The other names."""
        return tuple(site.name for site in self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the owner's first."""
        return (self.owner.name, *self.aliases) if self.others else (self.owner.name,)

    @property
    def stored(self) -> tuple[str, ...]:
        """Every name under which the model's own `state_dict` holds it."""
        return tuple(name for site in (self.owner, *self.others) for name in site.stored)

    @property
    def tensor(self) -> Tensor:
        """What hangs at the owner's place: `Site.tensor`."""
        return self.owner.tensor
