"""A weight that is scaled from what it was, and everything put back if that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fanin.calibration.errors import CalibrationError
from fanin.errors import PlanError
from fanin.model import Site

__all__ = ["Weight", "is_frozen", "kept", "restored_on_failure"]


@dataclass(eq=False, slots=True)
class Weight:
    """The weight at a site, written as its value at the start times a scale: rounded once.

    Args:
        site: where it hangs.
    """

    site: Site
    _start: Tensor | None = field(default=None, init=False)
    _now: Tensor | None = field(default=None, init=False)

    @property
    def is_frozen(self) -> bool:
        """Whether training would leave it as it is."""
        return is_frozen(self.site)

    def obstacle(self) -> str:
        """Why its scale cannot be changed; empty where it can. Nothing is written."""
        through = self.site.through
        if through is None:
            return ""
        kind = through.mechanism.through
        now = self.site.tensor
        # Zeros are twice themselves: they would show nothing.
        other = 2 * now if bool(now.count_nonzero()) else torch.ones_like(now)
        if through.note or through.refusal(other):
            return f"{kind} fixes the scale of {self.site.attribute!r}"
        return ""

    def begin(self) -> None:
        """From here on scales are relative to what it holds now."""
        self._start = self.site.tensor.detach().clone()

    def scale(self, factor: float | Tensor) -> None:
        """Write the value at the start times a factor; a tensor of factors is broadcast."""
        assert self._start is not None
        start = self._start
        wide = torch.promote_types(start.dtype, torch.float32)
        self._write((start.to(wide) * factor).to(start.dtype))

    def finish(self) -> None:
        """Write once more what a parametrization computes: its buffers count as a pass's own."""
        if self.site.through is not None and self._now is not None:
            self._write(self._now)
        self.forget()

    def forget(self) -> None:
        """Nothing is to be written any more."""
        self._start = self._now = None

    @torch.no_grad()
    def _write(self, value: Tensor) -> None:
        if self.site.through is None:
            self.site.tensor.copy_(value)
        else:
            try:
                self.site.through.write(value)
            except PlanError as error:
                raise CalibrationError(
                    "calibrate: a parametrization takes the weights that were scaled. Got a "
                    f"refusal for {self.site.name!r} ({str(error).rstrip('.')}). Give it other "
                    "first values, or leave its layer out by skip=; nothing has changed."
                ) from error
            self._now = value


def is_frozen(site: Site) -> bool:
    """Whether training would leave what is there as it is."""
    return not any(tensor.requires_grad for tensor in _stored(site))


@contextmanager
def restored_on_failure(places: Iterable[Site]) -> Iterator[Mapping[int, Callable[[], None]]]:
    """After any exception parameters at these places, and what computes them, are as before.

    Yields what restores each place, by the id of its site.

    Memory: a copy of them.
    """
    undo = {id(site): kept(site) for site in places}
    try:
        yield undo
    except BaseException:
        for restore in undo.values():
            restore()
        raise


def kept(site: Site) -> Callable[[], None]:
    """What writes back the values that a place, and what computes it, have now."""
    copies = [(tensor, tensor.detach().clone()) for tensor in _stored(site)]
    module, attribute = site.module, site.attribute
    buffers: list[tuple[nn.Module, dict[str, Tensor | None]]] = []
    if site.through is not None:  # vectors of power iterations, bases of orthogonal matrices
        copies += [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
        buffers = [(each, dict(each._buffers)) for each in module.modules()]
    # The older hooks set a plain attribute.
    computed = vars(module).get(attribute)

    def restore() -> None:
        for owner, held in buffers:  # torch's orthogonal puts a new base in place of the old one
            owner._buffers.update(held)
        for tensor, copy in copies:
            # Only inside may an inference tensor be written, even with what it holds.
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor.copy_(copy)
        if computed is not None:
            setattr(module, attribute, computed)

    return restore


def _stored(site: Site) -> tuple[Tensor, ...]:
    """The tensors that a write to a site goes to."""
    if site.through is None:
        return (site.tensor,)
    return tuple(original for _, original in site.through.originals)
