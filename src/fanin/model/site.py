"""`Site`, a place where a parameter hangs, and `Entry`, a parameter with all its names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

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
        tensor: the parameter; the value of a parametrized weight; the buffer.
        prefix: what the model's own `state_dict` has before the names of the module's tensors.
        through: how a parametrized weight is written; None for one that is written as it is.
        is_buffer: whether it is no parameter but a buffer.
    """

    name: str
    module: nn.Module
    attribute: str
    parents: tuple[nn.Module, ...]
    tensor: Tensor
    prefix: str = ""
    through: Parametrized | None = None
    is_buffer: bool = False

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
        """The parameter itself."""
        return self.owner.tensor
