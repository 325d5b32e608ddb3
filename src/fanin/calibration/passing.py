"""A forward pass that stops at each layer's first call, and may run the layer again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fanin.calibration.errors import CalibrationError
from fanin.calibration.layers import Layer
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.tensors import copied, measurable, signal

__all__ = ["Call", "visit_layers"]


@dataclass(slots=True)
class Call:
    """A layer's first call, as it returns.

    Args:
        layer: that was called.
        output: what it returned.
        again: calls it once more on the same inputs, with the same random numbers.
    """

    layer: Layer
    output: Any
    again: Callable[[], Any]

    @property
    def signal(self) -> Tensor | None:
        """The output's tensor that stands for it; None where it has none of numbers."""
        return signal(measurable(self.output))

    def repeat(self) -> None:
        """Take the output of the layer with its weights as they are now."""
        self.output = self.again()


def visit_layers(
    model: nn.Module,
    batch: object,
    layers: Sequence[Layer],
    visit: Callable[[Call], None],
    *,
    seed: int | None = None,
    prepare: Callable[[Layer], None] | None = None,
) -> None:
    """One forward pass, in the order of execution: what a visit leaves as output goes on.

    A later layer so gets what the earlier ones return with their new weights, and the whole model
    costs one pass and a call or two of each layer.

    Args:
        model: with values.
        batch: that is passed through.
        layers: whose first calls are visited.
        visit: what is done as a layer returns.
        seed: of torch's generators in the pass; None leaves them as they are.
        prepare: what is done before a layer's first call.

    Raises:
        CalibrationError: when the pass raises; the cause is chained.
    """
    running = _Running(visit, prepare)
    inputs = copied(batch)
    args: Sequence[Any] = inputs if isinstance(inputs, tuple | list) else (inputs,)
    kwargs: Mapping[str, Any] = {}
    if isinstance(inputs, Mapping):
        args, kwargs = (), inputs
    with undisturbed(model), torch.no_grad(), _as_written(), running.watching(layers):
        if seed is not None:
            _seed_generators(seed)
        try:
            model(*args, **kwargs)
        except CalibrationError:
            raise
        except Exception as error:
            text = f"{type(error).__name__} ({str(error).strip().rstrip('.')})"
            raise CalibrationError(
                f"calibrate: the forward pass runs through. Got {text} {running.where}. Correct "
                "the batch, or that module; nothing has changed."
            ) from error


class _Running:
    """What hooks share during a pass."""

    def __init__(
        self, visit: Callable[[Call], None], prepare: Callable[[Layer], None] | None
    ) -> None:
        self._visit = visit
        self._prepare = prepare
        self._called: set[int] = set()
        self._entered: dict[int, tuple[list[Tensor], Any]] = {}  # generators and inputs
        self._is_again = False
        self._last = ""

    @property
    def where(self) -> str:
        """How far the pass had come."""
        return f"after {self._last}" if self._last else "before any layer returned"

    @contextmanager
    def watching(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Inside, first calls are visited."""
        with ExitStack() as hooks:
            for layer in layers:
                enter, leave = partial(self._enter, layer), partial(self._leave, layer)
                module = layer.module
                before = module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
                hooks.callback(before.remove)
                hooks.callback(module.register_forward_hook(leave).remove)
            yield

    def _enter(
        self, layer: Layer, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._is_again or id(layer) in self._called:
            return
        if self._prepare is not None:
            self._prepare(layer)
        # A layer may write into its inputs: calls that repeat the first one need what it was given.
        inputs = (args, kwargs) if layer.note else copied((args, kwargs))
        self._entered[id(layer)] = (_generator_states(), inputs)

    def _leave(self, layer: Layer, module: nn.Module, _: object, output: Any) -> Any:
        if self._is_again or id(layer) in self._called:
            return None
        self._called.add(id(layer))
        states, inputs = self._entered.pop(id(layer))

        def again() -> Any:
            _set_generators(states)
            self._is_again = True
            args, kwargs = copied(inputs)
            try:
                return module(*args, **kwargs)
            finally:
                self._is_again = False

        call = Call(layer, output, again)
        self._visit(call)
        self._last = layer.label
        return call.output


def _generator_states() -> list[Tensor]:
    """Of the CPU and of every CUDA device that is in use."""
    cuda: Any = torch.cuda
    return [torch.get_rng_state(), *(cuda.get_rng_state_all() if cuda.is_initialized() else [])]


def _seed_generators(seed: int) -> None:
    """Not by `torch.manual_seed`: where CUDA is not in use yet, that would seed it once it is."""
    torch.default_generator.manual_seed(seed)
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        cuda.manual_seed_all(seed)


def _set_generators(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(list(states[1:]))


@contextmanager
def _as_written() -> Iterator[None]:
    """Inside, transformer layers call their sub-modules, also in eval mode without gradients.

    Autocast keeps no casts of weights, which would be those from before they were scaled.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    is_cached = torch.is_autocast_cache_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(is_cached)
        torch.backends.mha.set_fastpath_enabled(before)
