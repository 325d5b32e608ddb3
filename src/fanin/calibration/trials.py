"""The loss of a model at other parameter values than its own, which stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from fanin.calibration.errors import CalibrationError
from fanin.calibration.scaled import Scaled
from fanin.errors import ArgumentError
from fanin.model import sites
from fanin.model.construction.generators import generators_kept
from fanin.probing.measuring.gradients import has_reentrant_checkpoint, start
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.tensors import copied

__all__ = ["Batch", "LossFunction", "Trials", "total", "twice_differentiable", "wide"]

LossFunction: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into the model, and what the loss compares its output with."""

    inputs: Any
    targets: Any = None


class Trials:
    """A model as a function from parameter values to a loss, the same at every call.

    Each call starts with the same random numbers, on copies of the inputs and buffers.

    Args:
        model: that is called; none of its tensors is written.
        parameters: those whose values are replaced.
        method: for messages.
        loss: of the output, and of the targets where there are some; None: the model's own, or
            else the mean of its outputs with random signs.
        needs_loss: whether that mean will not do.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[Scaled],
        method: str,
        loss: LossFunction | None,
        *,
        needs_loss: bool,
    ) -> None:
        self.kind = "the loss as given" if loss is not None else ""
        self._model = model
        self._parameters = parameters
        self._method = method
        self._loss = loss
        self._needs_loss = needs_loss

    def loss(self, values: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss with these values of the parameters.

        Raises:
            CalibrationError: when the forward pass raises; the cause is chained.
            ArgumentError: when the loss is not one number.
        """
        tensors = self._buffers()
        for parameter, value in zip(self._parameters, values, strict=True):
            tensors |= dict.fromkeys(parameter.paths, value)
        inputs = copied(batch.inputs)
        args: Sequence[Any] = inputs if isinstance(inputs, tuple | list) else (inputs,)
        kwargs: Mapping[str, Any] = {}
        if isinstance(inputs, Mapping):
            args, kwargs = (), inputs
        try:
            with generators_kept():
                output = functional_call(self._model, tensors, tuple(args), dict(kwargs))
        except Exception as error:
            raise CalibrationError(
                f"calibrate: the forward pass runs through. Got {_text(error)}. Correct the batch, "
                "or the model; nothing has changed."
            ) from error
        value = self._loss_of(output, batch)
        if has_reentrant_checkpoint([value]):  # parameters inside it would seem to get no gradient
            raise CalibrationError(
                f"calibrate: {self._method} differentiates the loss more than once. Got a "
                "reentrant checkpoint. Say use_reentrant=False, or turn checkpointing off; nothing "
                "has changed."
            )
        return value

    def gradients(
        self, of: Tensor, values: Sequence[Tensor], *, again: bool = False
    ) -> list[Tensor]:
        """The gradient by each value, zeros where none arrives.

        Args:
            of: one number.
            values: leaves.
            again: whether the result is differentiated in its turn.

        Raises:
            CalibrationError: where something cannot be differentiated so often.
        """
        if not of.requires_grad:
            return [torch.zeros_like(value) for value in values]
        try:
            found = torch.autograd.grad(of, values, create_graph=again, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CalibrationError(
                f"calibrate: {self._method} differentiates the loss more than once. Got "
                f"{_text(error)}. Turn off what has a first derivative alone (a fused kernel, "
                'checkpointing, a custom function), or choose method="lsuv"; nothing has changed.'
            ) from error
        return [
            torch.zeros_like(value) if gradient is None else gradient
            for value, gradient in zip(values, found, strict=True)
        ]

    def _loss_of(self, output: object, batch: Batch) -> Tensor:
        if self._loss is not None:
            targets = () if batch.targets is None else (copied(batch.targets),)
            try:
                value: object = self._loss(output, *targets)
            except Exception as error:
                raise CalibrationError(
                    f"calibrate: loss= takes the model's output{', and targets' * bool(targets)}. "
                    f"Got {_text(error)}. Correct the function; nothing has changed."
                ) from error
            return _checked(value)
        begin = start(output, None)
        if begin.loss is not None:
            self.kind = "the model's own loss"
            return begin.loss.reshape(())
        if self._needs_loss:
            raise ArgumentError(
                f"calibrate: {self._method} needs a loss. Got none, and a model that returns none. "
                "Pass loss= and targets=, or a batch with the labels of a model that returns its "
                "loss."
            )
        self.kind = "a random projection of the outputs"
        if not begin.roots:
            raise CalibrationError(
                "calibrate: what the model returns depends on its parameters. Got none that does. "
                "Return a tensor, or pass loss=; nothing has changed."
            )
        pairs = zip(begin.roots, begin.seeds, strict=True)
        signed = [root * signs for root, signs in pairs if signs is not None]
        return total(signed) / sum(root.numel() for root in begin.roots)

    def _buffers(self) -> dict[str, Tensor]:
        """Copies of the buffers; one that hangs at several places is one copy."""
        copies: dict[int, Tensor] = {}
        found = {}
        for name, buffer in self._model.named_buffers(remove_duplicate=False):
            if id(buffer) not in copies:
                copies[id(buffer)] = buffer.detach().clone()
            found[name] = copies[id(buffer)]
        return found


def total(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of all entries of all tensors, in float32 or wider."""
    return torch.stack([wide(tensor).sum() for tensor in tensors]).sum()


def wide(tensor: Tensor) -> Tensor:
    """The numbers in float32 at least; of complex ones the real parts."""
    if tensor.is_complex():
        return torch.view_as_real(tensor)[..., 0]
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Inside, the model is left as it is, and runs on kernels whose gradients have gradients.

    Attention runs by matrix products, recurrent layers without cuDNN, and autocast is off.
    """
    computed = [
        (site, vars(site.module)[site.attribute])  # set by the older hooks, once a pass
        for site in sites(model)
        if site.through is not None and site.attribute in vars(site.module)
    ]
    devices = {tensor.device.type for tensor in model.parameters()}
    with ExitStack() as inside:
        inside.enter_context(undisturbed(model))
        inside.enter_context(sdpa_kernel(SDPBackend.MATH))
        for device in devices:
            if torch.is_autocast_enabled(device):
                inside.enter_context(torch.autocast(device, enabled=False))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            inside.enter_context(torch.backends.cudnn.flags(enabled=False))
        try:
            yield
        finally:
            for site, value in computed:
                setattr(site.module, site.attribute, value)


def _checked(value: object) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return value.reshape(())
    shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise ArgumentError(
        f"calibrate: loss= returns one floating-point number as a tensor. Got {shape}. End it with "
        ".mean() or .sum()."
    )


def _text(error: Exception) -> str:
    return f"{type(error).__name__} ({str(error).strip().rstrip('.')})"
