"""A walk over `torch.nn`: a release of torch with a new module that holds parameters fails here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from fanin.model import buffers, layout_of, module_type, sites
from torch_modules import LAZY, MODULES, torch_modules

KINDS = dict(torch_modules())
# What the tables build, the children included.
COVERED = {type(m) for build in MODULES.values() for m in build().modules()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_module_is_known_or_has_no_parameters(kind: type[nn.Module]) -> None:
    module = KINDS[kind]()
    if kind.__name__ in LAZY:
        assert module_type(module) in COVERED
    elif kind is nn.RNNCellBase:
        # How many gates lie in its weights only its subclasses know.
        assert {layout_of(site) for site in sites(module)} == {None}
    elif kind not in COVERED:
        assert not list(module.parameters()), f"add nn.{kind.__name__} to tests/torch_modules.py"


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_and_buffer_has_a_layout_of_its_shape(name: str) -> None:
    module = MODULES[name]()
    found = (*sites(module), *buffers(module))
    assert found
    for site in found:
        layout = layout_of(site)
        assert layout is not None, site.name
        assert layout.shape == site.tensor.shape, site.name


@pytest.mark.parametrize("name", MODULES)
def test_weights_have_fans_and_nothing_else_does(name: str) -> None:
    module = MODULES[name]()
    for site in sites(module):
        layout = layout_of(site)
        assert layout is not None
        without = isinstance(site.module, nn.LayerNorm | nn.PReLU) or "bias" in site.attribute
        has_fans = bool(layout.in_axes and layout.out_axes)
        assert has_fans == (site.tensor.dim() > 1 and not without), site.name


@pytest.mark.parametrize("build", [build for build, _ in LAZY.values()], ids=LAZY)
def test_a_lazy_module_has_no_layout_before_it_has_a_shape(build: Callable[[], nn.Module]) -> None:
    assert {layout_of(site) for site in sites(build())} <= {None}
