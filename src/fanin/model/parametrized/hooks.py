"""Weights that the hooks of `torch.nn.utils.weight_norm` and `spectral_norm` compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fanin.model.parametrized.registered import POWER_ITERATIONS, SPECTRAL_NOTE

__all__ = ["Hooked"]


@dataclass(frozen=True, eq=False, slots=True)
class Hooked:
    """A hook that sets one attribute of a module before every forward."""

    module: nn.Module
    hook: WeightNorm | SpectralNorm

    @property
    def originals(self) -> tuple[tuple[str, nn.Parameter], ...]:
        """Empty where another parametrization computes one of them."""
        suffixes = ("_g", "_v") if isinstance(self.hook, WeightNorm) else ("_orig",)
        names = [self.hook.name + suffix for suffix in suffixes]
        held = self.module._parameters
        found = tuple((name, tensor) for name in names if (tensor := held.get(name)) is not None)
        return found if len(found) == len(names) else ()

    @property
    def through(self) -> str:
        """What the weight is computed by."""
        return type(self.hook).__name__

    @property
    def note(self) -> str:
        """The known rescaling."""
        return SPECTRAL_NOTE if isinstance(self.hook, SpectralNorm) else ""

    @property
    def advice(self) -> str:
        """Both take any value, but for zeros."""
        return ""

    def read(self) -> Tensor:
        """The weight of an eval-mode forward; the attribute is as old as the last forward."""
        return self._computed(self.module)

    def tried(self, value: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """The originals and the weight that a write would lead to."""
        state = self._inverse(value)
        return [state[name] for name, _ in self.originals], self._computed(SimpleNamespace(**state))

    def store(self, value: Tensor) -> None:
        """Write the originals, the singular vectors and the attribute."""
        for name, tensor in self._inverse(value).items():
            getattr(self.module, name).copy_(tensor)
        before: Tensor = getattr(self.module, self.hook.name)
        # As differentiable as it was: a weight with a graph cannot be deep-copied.
        with torch.set_grad_enabled(before.requires_grad):
            setattr(self.module, self.hook.name, self._computed(self.module))

    def _computed(self, holder: Any) -> Tensor:
        """The weight from the tensors of a module, or of anything with the same attributes."""
        if isinstance(self.hook, WeightNorm):
            weight: Tensor = self.hook.compute_weight(holder)
            return weight
        return self.hook.compute_weight(holder, do_power_iteration=False)

    def _inverse(self, value: Tensor) -> dict[str, Tensor]:
        """What the hook computes the value from, by attribute."""
        hook = self.hook
        if isinstance(hook, WeightNorm):
            norm = torch.norm_except_dim(value, 2, hook.dim)
            return {f"{hook.name}_g": norm, f"{hook.name}_v": value}
        state = {f"{hook.name}_orig": value}
        for name in (f"{hook.name}_u", f"{hook.name}_v"):
            start = torch.randn_like(getattr(self.module, name), device="cpu")  # on every device
            state[name] = F.normalize(start, dim=0, eps=hook.eps).to(value.device)
        holder: Any = SimpleNamespace(**state)
        for _ in range(-(-POWER_ITERATIONS // hook.n_power_iterations)):
            hook.compute_weight(holder, do_power_iteration=True)  # writes the vectors in place
        return state
