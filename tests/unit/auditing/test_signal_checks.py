"""FAN401 to FAN409: what a batch shows."""

from __future__ import annotations

import math
import warnings

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


class Residual(nn.Module):
    """Blocks on a stream, each behind a raw scale of zeros."""

    def __init__(self, scale: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))
        self.scales = nn.ParameterList(torch.zeros(scale) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = x + scale * block(x)
        return x


class Branches(nn.Module):
    """A rounded branch, beside a zero matrix that is another's or comes after it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.up = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.B = nn.Linear(64, 10, bias=False)
        nn.init.zeros_(self.B.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(torch.round(self.a(x) * 3))
        return self.up(h) + self.B(h)


class Adapter(nn.Module):
    """LoRA, whose first factor may be zero, too."""

    def __init__(self, first: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Linear(64, 10)
        self.A, self.B = nn.Linear(64, 4, bias=False), nn.Linear(4, 10, bias=False)
        nn.init.normal_(self.A.weight, std=first)
        nn.init.zeros_(self.B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.B(self.A(x))


@pytest.mark.parametrize("scale", [(), (1,), (64,)], ids=["rezero", "skipinit", "layerscale"])
def test_scales_of_zero_are_worth_a_note_only(scale: tuple[int, ...]) -> None:
    (finding,) = audit(Residual(scale), batch(), select=["FAN405"]).findings
    assert finding.severity == "note"
    assert "as 'scales.0' (and 2 more) is 0" in finding.observed
    assert finding.where == tuple(f"blocks.{i}.{p}" for i in range(3) for p in ("weight", "bias"))


def test_a_zero_that_is_not_the_cause_excuses_nothing() -> None:
    (finding,) = audit(Branches(), batch(), select=["FAN405"]).findings
    assert (finding.severity, finding.where) == ("warning", ("a.weight", "a.bias"))
    assert "'B.weight'" not in finding.observed


def test_two_zeros_of_one_product_excuse_nothing() -> None:
    (finding,) = audit(Adapter(0.1), batch(), select=["FAN405"]).findings
    assert (finding.severity, finding.where) == ("note", ("A.weight",))
    (finding,) = audit(Adapter(0.0), batch(), select=["FAN402", "FAN405"]).findings
    assert (finding.code, finding.severity, finding.where) == ("FAN402", "error", ("A",))
    frozen = Adapter(0.1)
    frozen.B.requires_grad_(False)
    (finding,) = audit(frozen, batch(), select=["FAN405"]).findings
    assert (finding.severity, finding.where) == ("warning", ("A.weight",))


def test_zeros_before_a_head_of_zeros_are_found_in_turn() -> None:
    model = nn.Sequential(Residual((64,)), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    found = audit(model, batch(), select=["FAN405"])
    assert [finding.severity for finding in found.findings] == ["note"]
    assert len(found.findings[0].where) == 9


def test_the_other_values_do_not_stay() -> None:
    model = nn.Sequential(Residual((64,)), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    nn.init.zeros_(model[3].weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    audit(model, batch())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_head_of_zeros_may_have_a_bias() -> None:
    model = classifier()
    nn.init.zeros_(model[2].weight)
    assert bool(model[2].bias.count_nonzero())
    (finding,) = audit(model, batch(), select=["FAN408"]).findings
    assert finding.severity == "note"
    assert "if '2.weight' is meant to start at 0" in finding.fix
    model[2].weight.requires_grad_(False)
    (finding,) = audit(model, batch(), select=["FAN408"]).findings
    assert finding.severity == "error"


@pytest.mark.parametrize("sizes", [(4, 0), (0, 4)])
def test_layers_without_entries_pass(sizes: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of tensors without entries
        model = nn.Linear(*sizes)
    assert "FAN405" not in audit(model, torch.randn(3, sizes[0]), select=["FAN4"]).codes


class Raw(nn.Module):
    """Layers written out, of weights of one std."""

    def __init__(self, std: float, last: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = [(784, 256), (256, 256), (256, 10)]
        stds = [std, std, std if last is None else last]
        self.w = nn.ParameterList(
            s * torch.randn(*size) for s, size in zip(stds, sizes, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.w[:-1]:
            x = F.relu(x @ weight)
        return x @ self.w[-1]


def test_outputs_of_raw_parameters_are_compared_with_the_inputs() -> None:
    given = torch.randn(32, 784, generator=torch.Generator().manual_seed(0))
    chosen = ["FAN401", "FAN402"]
    (finding,) = audit(Raw(1.0), given, select=chosen).findings
    assert (finding.code, finding.where, finding.severity) == ("FAN401", ("",), "error")
    assert finding.numbers["factor"] > 1e3
    (finding,) = audit(Raw(0.002), given, select=chosen).findings
    assert (finding.code, finding.where, finding.severity) == ("FAN402", ("",), "warning")
    assert audit(Raw(0.07), given, select=chosen).findings == ()
    assert audit(Raw(0.07, last=0.001), given, select=chosen).findings == ()
    assert audit(Raw(0.07, last=0.0), given, select=chosen).findings == ()
