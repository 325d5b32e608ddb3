"""Data-dependent first values: mean 0 and std 1 for every unit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.calibration import CalibrationError, calibrate


def outputs(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: found.__setitem__(name, output.detach().double())
        )
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(batch)
    for handle in handles:
        handle.remove()
    return found


def test_every_unit_of_every_kind_of_layer() -> None:
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ConvTranspose2d(8, 12, 3, groups=4),
        nn.Tanh(),
        nn.Conv2d(12, 6, 3, groups=3),
        nn.Flatten(),
        nn.utils.parametrizations.weight_norm(nn.Linear(6 * 64, 20)),
        nn.ReLU(),
        Conv1D(9, 20),
        nn.Linear(9, 7, bias=False),
    )
    batch = torch.randn(64, 8, 8, 8)
    done = calibrate(model, batch, "weight_norm", target=1.5, tolerance=1e-4)
    assert done.converged
    found = outputs(model, batch)
    for name, dim in (("0", 1), ("2", 1), ("4", 1), ("6", 1), ("7", 1)):
        units = found[name].movedim(dim, -1).flatten(0, -2)
        std = torch.full_like(units[0], 1.5)
        torch.testing.assert_close(units.std(0, correction=0), std, rtol=1e-4, atol=0)
        if name != "7":  # without a bias the mean stays
            torch.testing.assert_close(units.mean(0), torch.zeros_like(std), rtol=0, atol=1e-4)


def test_directions_stay_and_g_is_one_over_the_std() -> None:
    torch.manual_seed(1)
    layer, batch = nn.utils.parametrizations.weight_norm(nn.Linear(8, 5)), torch.randn(100, 8)
    original = layer.weight.detach()
    directions = F.normalize(original, dim=1)
    projected = (batch @ directions.T).double()
    calibrate(layer, batch, "weight_norm")
    g = layer.parametrizations.weight.original0.detach()[:, 0].double()
    torch.testing.assert_close(g, 1 / projected.std(0, correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(F.normalize(layer.weight.detach(), dim=1), directions)
    bias = -projected.mean(0) / projected.std(0, correction=0)
    torch.testing.assert_close(layer.bias.detach().double(), bias, rtol=0, atol=1e-5)


def test_an_image_without_a_batch_axis() -> None:
    layer, image = nn.Conv2d(3, 4, 3), torch.randn(3, 12, 12)
    assert calibrate(layer, image, "weight_norm").converged
    assert layer(image).mean((1, 2)).abs().max() < 1e-5


def test_layers_without_units_are_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.TransformerEncoderLayer(8, 2, 16))
    done = calibrate(model, torch.randint(10, (4, 3)), "weight_norm")
    notes = {row.name: row.note for row in done.rows}
    assert notes["0"] == "its weight has no axis of units"
    assert notes["1.self_attn"] == "several of its weights make one unit"
    assert notes["1.linear1"] == notes["1.linear2"] == ""


def test_a_dead_unit_is_named() -> None:
    layer = nn.Linear(8, 5)
    with torch.no_grad():
        layer.weight[3] = 0
    before = layer.weight.detach().clone()
    with pytest.raises(CalibrationError, match=r"1 of 5 units of Linear, unit 3 the first"):
        calibrate(layer, torch.randn(16, 8), "weight_norm")
    assert torch.equal(layer.weight, before)
