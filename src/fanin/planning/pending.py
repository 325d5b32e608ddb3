"""Steps for lazy parameters: they are drawn when the first forward pass gives them a shape."""

from __future__ import annotations

from dataclasses import replace

import torch

from fanin.model import Entry, Site
from fanin.model.construction import when_materialized
from fanin.planning.checks import check_dtype
from fanin.planning.filling import resolve_fill, resolve_layout, winners
from fanin.planning.step import Step

__all__ = ["fill_when_materialized"]


def fill_when_materialized(step: Step, site: Site) -> None:
    """Draw a pending step, now if its module has its shapes by now, else as soon as it has them."""
    if site.is_lazy:
        when_materialized(site.module, site.attribute, _Waiting(step, site))
    else:
        _fill(step, site)


class _Waiting:
    """What is called when a lazy module gets its shapes; a class, so that models can be pickled."""

    def __init__(self, step: Step, site: Site) -> None:
        self.step, self.site = step, site

    def __call__(self) -> None:
        _fill(self.step, self.site)


@torch.no_grad()
def _fill(step: Step, site: Site) -> None:
    layout = resolve_layout(site, step.pending)
    fill = resolve_fill(site, winners(site, step.pending, layout), layout)
    if fill is not None:
        check_dtype(Entry(site), fill, step.rule)
    shape, dtype = tuple(site.shape), site.dtype
    known = replace(step, shape=shape, dtype=dtype, layout=layout, fill=fill, pending=())
    known.draw(site.tensor)
