"""A function of tensors as values and slopes over a float64 array, checked and side-effect free."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError
from fanin.gains.quadrature import Array

__all__ = ["Elementwise", "apart", "from_callable"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Elementwise:
    """A nonlinearity that may be asked for its values and its slopes at points."""

    label: str
    function: Callable[[Tensor], Tensor]

    def values(self, z: Array) -> Array:
        """f(z)."""
        # A clone: the function may work in place.
        return self._to_array(self._call(torch.from_numpy(z).clone()), z, "value")

    def slopes(self, z: Array) -> Array:
        """f'(z) as autograd gives it: nothing for a jump, a custom backward at its word."""
        x = torch.from_numpy(z).clone().requires_grad_()
        y = self._call(x.clone())
        if not y.requires_grad:
            raise self._refusal(
                "autograd must be able to differentiate it",
                "a result that is cut off from its input",
                'Use of="second_moment", or write it with differentiable operations.',
            )
        try:
            (slopes,) = torch.autograd.grad(y.sum(), x, materialize_grads=True)
        except Exception as error:
            raise self._refusal(
                "autograd must be able to differentiate it",
                _said(error),
                'Use of="second_moment", or give it a backward.',
            ) from error
        return self._to_array(slopes, z, "slope")

    def check(self) -> None:
        """Refuse a function whose output at one place depends on others, on place or on chance."""
        z = np.linspace(-3.1, 4.0, 64)  # 0 is left out: a function may be undefined there
        whole = self.values(z)
        # Other neighbours, order, length, mean and extremes than in `whole`.
        chosen = np.arange(40, 7, -3)
        alone = self.values(z[chosen])
        # float32 inside the function may round differently in a vector's tail.
        close = np.isclose(alone, whole[chosen], rtol=1e-6, atol=1e-6 * np.abs(whole).max())
        if not close.all():
            at = int(np.argmin(close))
            raise self._refusal(
                "an output must depend on its own input alone, the same on every call",
                f"{whole[chosen][at]:.6g} and {alone[at]:.6g} at z = {z[chosen][at]:.6g} "
                "in two different vectors",
                "Only elementwise functions have a gain: a norm, softmax or dropout has none.",
            )

    def _call(self, x: Tensor) -> Tensor:
        try:
            y = self.function(x)
        except Exception as error:
            raise self._refusal(
                "it must map a float64 vector to a vector of the same length",
                _said(error),
                "Pass an elementwise function with parameters that it accepts; pass a module "
                "itself rather than a lambda around it, so that a float64 copy can be used.",
            ) from error
        if not isinstance(y, Tensor) or y.shape != x.shape or y.is_complex():
            got = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else repr(type(y))
            raise self._refusal(
                f"it must return a real tensor of its input's shape {tuple(x.shape)}",
                got,
                "Only elementwise functions have a gain.",
            )
        return y

    def _to_array(self, y: Tensor, z: Array, what: str) -> Array:
        result: Array = y.detach().to(device="cpu", dtype=torch.float64).numpy()
        finite = np.isfinite(result)
        if not finite.all():
            at = int(np.argmin(finite))
            raise self._refusal(
                f"its {what} must be finite wherever a normal number may fall",
                f"{result[at]} at z = {z[at]:.6g}",
                "Clamp its argument, or write it in a form that does not overflow.",
            )
        return result

    def _refusal(self, rule: str, got: str, fix: str) -> ArgumentError:
        return ArgumentError(f"gain of {self.label}: {rule}. Got {got}. {fix}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")


def from_callable(function: Callable[[Tensor], Tensor]) -> Elementwise:
    """Any callable, checked; a module as a float64 copy on the CPU in eval mode."""
    if isinstance(function, nn.Module):
        nonlinearity = Elementwise(type(function).__name__, _private_copy(function))
    else:
        name = getattr(function, "__name__", type(function).__name__)
        nonlinearity = Elementwise(str(name), function)
    nonlinearity.check()
    return nonlinearity


def _private_copy(module: nn.Module) -> nn.Module:
    """A copy whose buffers, grads and mode are not the user's."""
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ArgumentError(
            f"gain of {type(module).__name__}: a module's parameters must hold values. Got one on "
            "the meta device. Initialise it first, or pass a name and its parameter."
        )
    twin = copy.deepcopy(module).to(device="cpu", dtype=torch.float64)
    return twin.eval().requires_grad_(False)


def apart(work: Callable[[], _T], *, keep_rng: bool) -> _T:
    """Run ``work`` where the caller's modes do not reach, and put the CPU generator back.

    Grad mode, inference mode, autocast, default devices, vmap and dispatch modes (fake tensors)
    all belong to a thread, so a fresh one starts without any of them.
    """

    def guarded() -> _T:
        if not keep_rng:
            return work()
        with torch.random.fork_rng(devices=[]):
            return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(guarded).result()
