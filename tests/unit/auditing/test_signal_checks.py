"""FAN401 to FAN409: what a batch shows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fanin.auditing import audit

LABELS = torch.arange(32) % 10


def batch() -> Tensor:
    return torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def classifier(head_std: float = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.normal_(model[0].weight, std=(2 / 64) ** 0.5)
    nn.init.normal_(model[2].weight, std=head_std)
    return model


def test_a_healthy_classifier_has_no_findings() -> None:
    found = audit(classifier(), batch(), loss=lambda logits: F.cross_entropy(logits, LABELS))
    assert found.findings == ()


def test_the_first_loss_is_compared_with_that_of_a_guess() -> None:
    found = audit(
        classifier(head_std=1.0),
        batch(),
        loss=lambda logits: F.cross_entropy(logits, LABELS),
        select=["FAN407"],
    )
    (finding,) = found.findings
    assert finding.where == ("2",)
    assert finding.numbers["chance"] == math.log(10)
    assert finding.numbers["loss"] > math.log(10) + 2


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs: F.mse_loss(outputs, 100 * torch.ones_like(outputs)),
        lambda outputs: (outputs - outputs.mean(1, keepdim=True)).square().mean() * 1e4,
        lambda outputs: 1e3 + outputs.sum() * 0,
        lambda outputs: 1e3 * torch.linalg.inv(outputs.T @ outputs).sum(),
    ],
    ids=["mse", "variance", "constant", "inverse"],
)
def test_other_losses_have_no_uniform_guess(loss: object) -> None:
    assert audit(classifier(), batch(), loss=loss, select=["FAN407"]).findings == ()


def test_pixelwise_cross_entropy_has_its_classes_in_dim_1() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 5, 1)
    nn.init.normal_(model.weight, std=10.0)
    target = torch.randint(5, (4, 8, 8))
    found = audit(
        model,
        torch.randn(4, 3, 8, 8),
        loss=lambda logits: F.cross_entropy(logits, target),
        select=["FAN407"],
    )
    assert found.findings[0].numbers["chance"] == math.log(5)


def test_a_head_that_is_zero_is_worth_a_note_only() -> None:
    model = classifier()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    found = audit(model, batch(), select=["FAN405", "FAN408"])
    assert [(f.code, f.severity) for f in found.findings] == [
        ("FAN405", "note"),
        ("FAN408", "note"),
    ]
    assert "'2.weight' is 0" in found.findings[0].observed
    assert found.is_clean


def test_frozen_parameters_need_no_gradient() -> None:
    model = classifier()
    model[0].requires_grad_(False)
    assert audit(model, batch(), select=["FAN405", "FAN406"]).findings == ()


def test_equal_inputs_may_give_equal_outputs() -> None:
    assert audit(classifier(), torch.ones(8, 64), select=["FAN408"]).findings == ()


def test_units_shut_by_chance_in_a_small_batch_are_no_finding() -> None:
    """One sample shuts half of all rectifiers, two leave a quarter shut for both."""
    for count in (1, 2, 8):
        assert audit(classifier(), batch()[:count], select=["FAN406"]).findings == ()


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    audit(model, torch.randn(16, 8, generator=torch.Generator().manual_seed(1)))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._backward_hooks for parameter in model.parameters())
