"""LSUV: every layer's std within the tolerance, whatever the layers and their order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanin
from fanin import zoo
from fanin.calibration import Calibration, calibrate
from fanin.initializers import orthogonal, zeros


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Reversed(nn.Module):
    """Registered from the last layer to the first."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            x = torch.relu(layer(x))
        return x


def measured(model: nn.Module, *inputs: Tensor) -> dict[str, float]:
    """Std of each module's first output, by hooks of our own."""
    found: dict[str, float] = {}

    def keep(name: str, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor):
            found.setdefault(name, float(tensor.double().std(correction=0)))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return found


def assert_within(done: Calibration, model: nn.Module, *inputs: Tensor) -> None:
    found = measured(model, *inputs)
    assert done.converged
    for row in done.rows:
        if not row.note:
            assert row.after == pytest.approx(found[row.name], rel=1e-5)
            assert found[row.name] == pytest.approx(done.target, rel=done.tolerance)


def test_layers_come_in_the_order_of_execution() -> None:
    model, batch = Reversed(), 5 * torch.randn(64, 32)
    done = calibrate(model, batch, seed=0)
    assert [row.name for row in done.rows] == ["layers.2", "layers.1", "layers.0"]
    assert_within(done, model, batch)
    assert all(row.iterations <= 1 for row in done.rows)


def test_orthogonal_weights_come_from_fanins_stream() -> None:
    model, other = Reversed(), Reversed()
    done = calibrate(model, torch.randn(64, 32), seed=7)
    fanin.initialize(other, {"**.weight": orthogonal(), "**.bias": zeros()}, seed=7)
    for row in done.rows:
        index = int(row.name[-1])
        scaled = other.layers[index].weight * row.factor
        torch.testing.assert_close(model.layers[index].weight, scaled, rtol=1e-6, atol=1e-7)
        assert not model.layers[index].bias.any()
    assert done.seed == 7


def test_it_is_a_function_of_seed_and_batch() -> None:
    batch = torch.randn(64, 32)
    models = [Reversed() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(seed + 100)
        calibrate(model, batch, seed=seed)
    first, same, other = (model.layers[0].weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    drawn = calibrate(Reversed(), batch).seed
    assert drawn is not None
    assert drawn > 2**32


def test_without_orthogonal_weights_directions_and_biases_stay() -> None:
    model, batch = Reversed(), torch.randn(64, 32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = calibrate(model, batch, orthogonal=False)
    for row in done.rows:
        weight = model.get_parameter(f"{row.name}.weight")
        torch.testing.assert_close(weight, before[f"{row.name}.weight"] * row.factor)
        assert torch.equal(model.get_parameter(f"{row.name}.bias"), before[f"{row.name}.bias"])
    assert done.seed is None
    assert_within(done, model, batch)


def test_what_is_within_the_tolerance_stays() -> None:
    model, batch = Reversed(), torch.randn(64, 32)
    calibrate(model, batch, seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    again = calibrate(model, batch, orthogonal=False)
    assert [row.iterations for row in again.rows] == [0, 0, 0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_biases_cost_few_iterations() -> None:
    """std² = s² t + b²: the power is measured, so the steps are those of Newton's method."""
    layer, batch = nn.Linear(32, 32), torch.randn(256, 32)
    nn.init.normal_(layer.bias, std=0.9)
    done = calibrate(layer, batch, orthogonal=False, tolerance=1e-4, max_iterations=8)
    assert done.converged
    assert 1 < done.rows[0].iterations <= 6


def test_after_the_last_iteration_the_nearest_is_kept() -> None:
    layer, batch = nn.Linear(32, 32), torch.randn(256, 32)
    nn.init.normal_(layer.bias, std=3.0)
    done = calibrate(layer, batch, orthogonal=False, max_iterations=1)
    assert not done.converged
    (row,) = done.rows
    assert row.before is not None
    assert row.after is not None
    assert 1.05 < row.after < row.before
    assert row.after == pytest.approx(measured(layer, batch)[""], rel=1e-6)
    assert "not within the tolerance" in str(done)
    assert "0 of 1 layers" in str(done)


def test_target_and_tolerance() -> None:
    model, batch = Reversed(), torch.randn(64, 32)
    done = calibrate(model, batch, target=0.3, tolerance=1e-3, seed=0)
    assert_within(done, model, batch)
    assert done.rows[0].after == pytest.approx(0.3, rel=1e-3)


def test_convolutions_norms_and_dropout() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, groups=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2),
        nn.Flatten(),
        nn.LazyLinear(10),
    )
    batch = torch.randn(8, 3, 10, 10)
    model(batch)
    done = calibrate(model, batch, seed=0)
    assert [row.kind for row in done.rows] == ["Conv2d", "Conv2d", "ConvTranspose2d", "Linear"]
    assert done.converged
    assert_within(calibrate(model.eval(), batch, seed=0), model, batch)


def test_attention_is_one_layer() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    batch = torch.randn(4, 6, 16)
    done = calibrate(layer.eval(), batch, seed=3)
    assert [row.name for row in done.rows] == ["self_attn", "linear1", "linear2"]
    assert done.converged
    q, k, v = layer.self_attn.in_proj_weight.detach().chunk(3)
    for part in (q, k, v):
        torch.testing.assert_close(part @ part.T, torch.eye(16), rtol=0, atol=1e-5)
    out = layer.self_attn.out_proj.weight.detach() / done.rows[0].factor
    torch.testing.assert_close(out @ out.T, torch.eye(16), rtol=0, atol=1e-5)


def test_separate_projections_and_a_mask() -> None:
    layer = nn.MultiheadAttention(16, 4, kdim=8, vdim=8, batch_first=True)
    batch = {
        "query": torch.randn(4, 6, 16),
        "key": torch.randn(4, 5, 8),
        "value": torch.randn(4, 5, 8),
        "key_padding_mask": torch.tensor([[False] * 4 + [True]] * 4),
    }
    assert calibrate(layer, batch, seed=0).converged


def test_a_tied_head_follows_its_embedding() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16, padding_idx=0)
            self.head = nn.Linear(16, 50, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embed(ids))

    model, ids = Tied(), torch.randint(1, 50, (4, 12))
    start = model.embed.weight.detach().clone()
    done = calibrate(model, ids, seed=0, target=0.5)
    table, head = done.rows
    assert (table.converged, head.note) == (True, "its weight is that of 'embed'")
    torch.testing.assert_close(model.embed.weight, start * table.factor)
    assert head.after == pytest.approx(measured(model, ids)["head"], rel=1e-6)


def test_a_shared_module_is_calibrated_at_its_first_call() -> None:
    layer = nn.Linear(16, 16)
    model = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(16, 4))
    batch = torch.randn(32, 16)
    done = calibrate(model, batch, seed=0)
    assert [row.name for row in done.rows] == ["0", "4"]
    assert_within(done, model, batch)


def test_conv1d_and_modules_of_a_users_own() -> None:
    from transformers.pytorch_utils import Conv1D

    class Einsum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.randn(16, 4, 8))
            self.down = nn.Parameter(torch.randn(4, 8, 16))

        def forward(self, x: Tensor) -> Tensor:
            inner = torch.einsum("bi,ihd->bhd", x, self.up)
            return torch.einsum("bhd,hdo->bo", F.relu(inner), self.down)

    model, batch = nn.Sequential(Conv1D(16, 8), Einsum()), torch.randn(64, 8)
    done = calibrate(model, batch, seed=0)
    assert_within(done, model, batch)
    assert [row.iterations for row in done.rows] == [1, 1]  # two weights, a root of the factor each


def test_a_layer_that_ignores_its_scale_is_left_alone() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 16))

        def forward(self, x: Tensor) -> Tensor:
            return 3 * F.layer_norm(x @ self.weight, (16,))

    model, batch = nn.Sequential(Normed(), nn.Linear(16, 4)), torch.randn(32, 16)
    before = model[0].weight.detach().clone()
    done = calibrate(model, batch, orthogonal=False)
    assert done.rows[0].note == "its output does not follow the scale of its weights"
    assert torch.equal(model[0].weight, before)
    assert done.rows[1].converged


def test_recurrent_and_frozen_and_uncalled_layers_are_left_alone() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(3, 3)
            self.frozen = nn.Linear(8, 8).requires_grad_(False)
            self.rnn = nn.GRU(8, 8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.frozen(x))[0])

    model = Odd()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = calibrate(model, torch.randn(4, 5, 8), seed=0)
    notes = {row.name: row.note for row in done.rows}
    assert notes["frozen"] == "'weight' is frozen"
    assert "recurrent" in notes["rnn"]
    assert notes["unused"] == "never called"
    assert notes["head"] == ""
    for name, parameter in model.named_parameters():
        changes = name.startswith("head.")
        assert torch.equal(parameter, before[name]) != changes or name.startswith("unused.")


def test_parametrized_weights() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        older = nn.utils.weight_norm(nn.Linear(16, 16))
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)),
        older,
        nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
        nn.Linear(16, 4),
    )
    batch = torch.randn(64, 16)
    vectors = model[2].parametrizations.weight[0]._u.clone()
    done = calibrate(model, batch, target=2.0, seed=0)
    assert done.converged
    assert done.rows[2].note == "_SpectralNorm fixes the scale of 'weight'"
    assert torch.equal(model[2].parametrizations.weight[0]._u, vectors)
    assert measured(model, batch)["1"] == pytest.approx(2.0, rel=0.05)
    torch.testing.assert_close(older.weight, F.normalize(older.weight_v, dim=1) * older.weight_g)


def test_only_and_skip() -> None:
    model, batch = Reversed(), torch.randn(64, 32)
    before = model.layers[0].weight.detach().clone()
    done = calibrate(model, batch, skip="layers.0", seed=0)
    assert {row.name: row.note for row in done.rows} == {
        "layers.2": "",
        "layers.1": "",
        "layers.0": "in skip=",
    }
    assert torch.equal(model.layers[0].weight, before)
    alone = calibrate(model, batch, only=["layers.[12]"], seed=0)
    assert [row.note for row in alone.rows] == ["", "", "not in only="]


def test_half_precision_is_rounded_once() -> None:
    model, batch = Reversed().bfloat16(), torch.randn(64, 32).bfloat16()
    done = calibrate(model, batch, seed=0)
    assert done.converged
    reference = Reversed().bfloat16()
    fanin.initialize(reference, {"**.weight": orthogonal(), "**.bias": zeros()}, seed=0)
    row = done.rows[0]
    expected = (reference.layers[2].weight.float() * row.factor).bfloat16()
    assert torch.equal(model.layers[2].weight, expected)


def test_a_model_of_the_zoo() -> None:
    model, batch = zoo.resnet(width=8), torch.randn(2, 3, 64, 64)
    done = calibrate(model, batch, seed=0)
    assert len(done.rows) == 21
    assert done.converged
    assert all(math.isfinite(row.factor) for row in done.rows)


def test_the_report() -> None:
    done = calibrate(nn.Linear(32, 32), torch.randn(64, 32), seed=0)
    lines = str(done).splitlines()
    assert " ".join(lines[0].split()) == "layer kind std before std after factor iterations"
    assert lines[2].startswith("(model)  Linear")
    assert lines[-1] == "lsuv, seed 0: 1 of 1 layers within 5.0% of 1."
    assert '"converged": true' in done.to_json()
