"""Weights that a module computes from other parameters, and how such a weight is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, type_before_parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fanin.drawing.targets import has_numbers
from fanin.errors import PlanError
from fanin.model.parametrized.hooks import Hooked
from fanin.model.parametrized.registered import Registered

__all__ = ["Parametrized", "parametrized"]

Form: TypeAlias = tuple[torch.Size, torch.dtype]


def parametrized(module: nn.Module) -> dict[str, Parametrized]:
    """The weights that a module computes from other parameters of its own, by attribute.

    They are those registered with `torch.nn.utils.parametrize` (its ``weight_norm``,
    ``spectral_norm``, ``orthogonal``, users' own), and those of the older hooks
    ``torch.nn.utils.weight_norm`` and ``spectral_norm``. Parametrized buffers are left out.

    Args:
        module: any module; what its children compute is not looked at.

    Returns:
        Empty for most modules, at the cost of two look-ups.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        >>> [name for name, _ in parametrized(layer)["weight"].originals]
        ['parametrizations.weight.original0', 'parametrizations.weight.original1']
        >>> parametrized(nn.Linear(3, 2))
        {}
    """
    hooks = module._forward_pre_hooks
    if not hooks and "parametrizations" not in module._modules:
        return {}
    found: dict[str, _Mechanism] = {}
    lists = module._modules.get("parametrizations")
    for attribute, chain in lists.items() if isinstance(lists, nn.ModuleDict) else ():
        if isinstance(chain, ParametrizationList):
            found[attribute] = Registered(module, attribute, chain)
    for hook in hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm):
            found[hook.name] = Hooked(module, hook)
    return {
        attribute: Parametrized(module, attribute, mechanism)
        for attribute, mechanism in found.items()
        if mechanism.originals
    }


@dataclass(frozen=True, eq=False, slots=True)
class Parametrized:
    """A weight that a module computes from other parameters: read, tried and written.

    `torch.nn.init` writes into the result of such a computation, which is then thrown away.
    Here a value goes through ``right_inverse`` into the originals, which keep their identity,
    memory and ``requires_grad``.

    Reading the attribute costs what the parametrization computes, at every access: two passes
    over the weight for ``weight_norm``, products with two vectors for ``spectral_norm``, which
    in train mode also change those vectors, and O(n³) for ``orthogonal``.
    ``torch.nn.utils.parametrize.cached()`` computes it once. The older hooks set a plain
    attribute before each forward; reading it is free, and stale until then.

    Args:
        module: the module that has the weight.
        attribute: under which name it has it.
        mechanism: the parametrizations, or the hook, that compute it.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        >>> value = torch.arange(1.0, 7.0).reshape(2, 3)
        >>> parametrized(layer)["weight"].write(value)
        >>> torch.allclose(layer.weight, value)
        True
    """

    module: nn.Module
    attribute: str
    mechanism: _Mechanism
    _form: list[Form] = field(default_factory=list, init=False, repr=False)

    @property
    def originals(self) -> tuple[tuple[str, nn.Parameter], ...]:
        """The parameters it is computed from, with their names relative to the module.

        Parameters that a parametrization holds itself are none of them.
        """
        return self.mechanism.originals

    @property
    def note(self) -> str:
        """How the weight that results differs from a value that is written; mostly ``""``."""
        return self.mechanism.note

    def value(self) -> Tensor:
        """The weight that a forward in eval mode would use; no state changes.

        Raises:
            PlanError: when the parametrization raises.
        """
        try:
            with torch.no_grad(), self._same_random_numbers():
                return self.mechanism.read().detach()
        except Exception as error:  # whatever a user's own parametrization objects with
            kind = type_before_parametrizations(self.module).__name__
            raise PlanError(
                "read a parametrized weight: its parametrization computes it. Got "
                f"{type(error).__name__} ({str(error).rstrip('.')}) for {self.attribute!r} of "
                f"{kind} through {self.mechanism.through}. Correct its forward."
            ) from error

    @property
    def form(self) -> Form:
        """Shape and dtype of the weight: no parametrization states them, so one value tells."""
        if not self._form:
            value = self.value()
            self._form.append((value.shape, value.dtype))
        return self._form[0]

    def refusal(self, value: Tensor) -> str:
        """Why the weight cannot hold a value; ``""`` where it can. Nothing changes.

        The value is written to a copy and read back. With ``largest`` for the largest magnitude
        in the value, n for the number of elements, and ε for the spacing of the dtype at 1, each
        element may differ by ``(4 ε + 4 sqrt(n) ε32) · largest``: a few roundings to the dtype,
        and sums of up to n terms, whose error grows like sqrt(n) and which torch accumulates in
        float32 or better. Where `note` states a rescaling, a common factor is taken out first.

        Args:
            value: of the shape and dtype of the weight.
        """
        meta = [name for name, original in self.originals if original.is_meta]
        if meta:
            return self._sentence(
                "what the weight is computed from has memory",
                f"{meta[0]!r} on the meta device",
                "Call fanin.model.construction.materialize(model) first",
            )
        try:
            with torch.no_grad(), self._same_random_numbers():
                originals, read = self.mechanism.tried(value)
        except NotImplementedError:
            return self._sentence(
                "the weight is written through right_inverse",
                "none",
                "Initialize before parametrizing, give the parametrization a right_inverse",
            )
        except Exception as error:  # whatever a user's own right_inverse objects with
            return self._sentence(
                "a value is tried on a copy first",
                f"{type(error).__name__} ({str(error).rstrip('.')})",
                "Initialize before parametrizing",
            )
        return self._misfit(originals) or self._difference(read, value)

    def write(self, value: Tensor) -> None:
        """Write a value: the module's attribute and its next forward have it afterwards.

        Torch's generators do not advance. Where ``right_inverse`` draws random numbers, and for
        the start of power iterations, they are the same at every call: what is written is a
        function of the value.

        Args:
            value: of the shape and dtype of the weight; it is copied.

        Raises:
            PlanError: with the text of `refusal`, before anything is changed.
        """
        reason = self.refusal(value)
        if reason:
            raise PlanError(reason)
        with torch.no_grad(), self._same_random_numbers():
            self.mechanism.store(value)

    def _misfit(self, originals: Sequence[Tensor]) -> str:
        """Why the originals cannot take what right_inverse returned, which torch refuses too."""
        new = [_form(tensor) for tensor in originals]
        held = [_form(tensor) for _, tensor in self.originals]
        if new == held:
            return ""
        return self._sentence(
            f"right_inverse returns what the originals hold, {', '.join(held)}",
            ", ".join(new),
            "Give it a value of the weight's shape and dtype, correct right_inverse",
        )

    def _difference(self, read: Tensor, value: Tensor) -> str:
        """Why a value that was read back is not the one that was written."""
        if _form(read) != _form(value):
            return self._sentence(
                f"the weight holds {_form(read)}", _form(value), "Give it a value like that"
            )
        if not value.numel() or not has_numbers(value):
            return ""
        if self.note:
            read = read * (torch.linalg.vector_norm(value) / torch.linalg.vector_norm(read))
        largest = value.abs().max().item()
        difference = (read - value).abs().max().item()
        if difference <= _tolerance(value) * largest:  # False for NaN
            return ""
        if not read.isfinite().all() and value.isfinite().all():
            return self._sentence(
                "a parametrization that divides by a norm holds no zero vector",
                "values that read back as NaN or infinity",
                "Match it with values of another kind",
            )
        return self._sentence(
            "a parametrized weight reads back as what was written",
            f"a difference of {difference:.2g} in values up to {largest:.2g}",
            self.mechanism.advice or "Match it with values that the parametrization can give",
        )

    def _sentence(self, rule: str, got: str, fix: str) -> str:
        kind = type_before_parametrizations(self.module).__name__
        where = f"{self.attribute!r} of {kind} through {self.mechanism.through}"
        ending = f"{fix}, or leave it with keep()."
        return f"write a parametrized weight: {rule}. Got {got} for {where}. {ending}"

    @contextmanager
    def _same_random_numbers(self) -> Iterator[None]:
        """Inside, torch draws the same numbers at every call; outside, nothing was drawn."""
        device = self.originals[0][1].device
        if device.type in ("cpu", "meta"):
            with torch.random.fork_rng(devices=(), device_type="cpu"):
                torch.default_generator.manual_seed(0)
                yield
            return
        with torch.random.fork_rng(devices=(device,), device_type=device.type):
            torch.default_generator.manual_seed(0)
            state = torch.Generator(device).manual_seed(0).get_state()
            torch.get_device_module(device).set_rng_state(state, device)
            yield


class _Mechanism(Protocol):
    """What computes a weight; called without gradients and with torch's generators set aside."""

    @property
    def originals(self) -> tuple[tuple[str, nn.Parameter], ...]: ...

    @property
    def through(self) -> str: ...

    @property
    def note(self) -> str: ...

    @property
    def advice(self) -> str: ...

    def read(self) -> Tensor: ...

    def tried(self, value: Tensor) -> tuple[Sequence[Tensor], Tensor]: ...

    def store(self, value: Tensor) -> None: ...


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _tolerance(value: Tensor) -> float:
    """What rounding may change, relative to the largest magnitude."""
    eps = torch.finfo(value.dtype).eps
    accumulating = min(eps, torch.finfo(torch.float32).eps)
    return 4 * eps + 4 * math.sqrt(value.numel()) * accumulating
