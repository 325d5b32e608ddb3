"""``fanin.init`` has the names, signatures and aliases of ``torch.nn.init``."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch

from fanin import init

NAMES = torch.nn.init.__all__
PRIVATE_BUT_IMPORTED = ["_calculate_fan_in_and_fan_out", "_calculate_correct_fan"]
DEPRECATED = [name for name in NAMES if name + "_" in NAMES]


def _parameters(function: object) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


@pytest.mark.parametrize("name", NAMES + PRIVATE_BUT_IMPORTED)
def test_every_name_has_torch_s_parameters_and_defaults(name):
    ours, theirs = getattr(init, name), getattr(torch.nn.init, name)
    assert _parameters(ours) == _parameters(theirs)
    assert ours.__name__ == name
    assert name in init.__all__


def test_no_name_beyond_torch_s():
    assert sorted(init.__all__) == sorted(NAMES + PRIVATE_BUT_IMPORTED)
    assert importlib.import_module("fanin.init") is init


def test_the_gain_is_torch_s_table():
    for name in ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]:
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)


@pytest.mark.parametrize("name", DEPRECATED)
def test_an_alias_warns_as_torch_s_does_and_fills(name):
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    extra = {"sparse": (0.5,), "constant": (2.0,)}.get(name, ())
    for module in (torch.nn.init, init):
        tensor = torch.empty(shape)
        with pytest.warns(
            FutureWarning, match=rf"`(nn\.)?init\.{name}` is (now )?deprecated"
        ) as log:
            assert getattr(module, name)(tensor, *extra) is tensor
        assert log[0].filename == __file__
    torch.manual_seed(0)
    expected = getattr(init, name + "_")(torch.empty(shape), *extra)
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match="deprecated"):
        assert torch.equal(getattr(init, name)(torch.empty(shape), *extra), expected)


@pytest.mark.parametrize(
    "shape", [(3, 5), (4, 0), (0, 0), (6, 3, 5), (6, 2, 3, 3), (2, 3, 4, 5, 6)]
)
def test_fans_are_torch_s(shape):
    tensor = torch.empty(shape)
    fans = torch.nn.init._calculate_fan_in_and_fan_out(tensor)
    assert init._calculate_fan_in_and_fan_out(tensor) == fans
    for mode in ["fan_in", "FAN_OUT"]:
        expected = torch.nn.init._calculate_correct_fan(tensor, mode)
        assert init._calculate_correct_fan(tensor, mode) == expected
