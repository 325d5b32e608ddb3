"""FAN101-FAN110 and FAN301-FAN306: what they say of planted faults, and where they are silent.

The checks compare values, shapes and patterns; the chance that random weights look cloned, repeated
or unwritten is below 1e-12 a weight, and that of a rank that is missing below 1e-9.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fanin
from fanin import zoo
from fanin.auditing import CHECKS, Audit, audit
from fanin.recipes import RECIPES
from torch_modules import MODULES

sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))

from faults_layers import LAYER_FAULTS, Adapted, Language, Tagger
from faults_table import Fault
from faults_values import VALUE_FAULTS, Block, encoder, hooked, mlp

CODES = [check.code for check in CHECKS if check.code.startswith(("FAN1", "FAN3"))]
FAULTS = VALUE_FAULTS + LAYER_FAULTS


def found(model: nn.Module) -> Audit:
    return audit(model, select=CODES)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code}, {fault.name}")
def test_a_planted_fault_is_found_and_its_fix_mends_it(fault: Fault) -> None:
    model = fault.build()
    findings = [finding for finding in found(model).findings if finding.code == fault.code]
    assert len(findings) == 1
    assert fault.where in (None, findings[0].where[0])
    if findings[0].fix.startswith("#"):
        return
    batch = torch.ones(2, 8)
    given = {"fanin": fanin, "torch": torch, "model": model, "recipe": "kaiming", "batch": batch}
    exec(findings[0].fix, given)
    assert fault.code not in found(given["model"]).codes


@pytest.mark.parametrize("seed", range(3))
def test_fresh_modules_of_torch_are_healthy(seed: int) -> None:
    torch.manual_seed(seed)
    copied = ("TransformerEncoder", "TransformerDecoder")
    for name, build in MODULES.items():
        findings = found(build()).findings
        allowed = {"FAN306"} if "ConvTranspose" in name else {"FAN105"} if name in copied else set()
        assert {finding.code for finding in findings} <= allowed, name
        assert all(finding.severity == "note" for finding in findings), name


@pytest.mark.parametrize("name", sorted(zoo.MODELS))
def test_the_zoo_is_healthy_under_every_recipe(name: str) -> None:
    for recipe in RECIPES if name != "alexnet" else ("kaiming",):  # of 60 million parameters
        model = zoo.MODELS[name]()
        try:
            fanin.initialize(model, recipe, seed=0)
        except fanin.FaninError:  # a recipe for another architecture
            continue
        assert found(model).is_clean, recipe


DRAWS: dict[str, Callable[[Tensor], object]] = {
    "orthogonal": nn.init.orthogonal_,
    "eye": nn.init.eye_,
    "sparse": lambda weight: nn.init.sparse_(weight, 0.9),
    "half sparse": lambda weight: nn.init.sparse_(weight, 0.5),
    "cauchy": lambda weight: weight.data.cauchy_(),
    "signs": lambda weight: weight.data.normal_().sign_(),
    "tiny": lambda weight: nn.init.normal_(weight, std=1e-20),
    "large": lambda weight: nn.init.normal_(weight, std=1e4),
    "heavy tails": lambda weight: weight.data.normal_().pow_(7),
    "dead units": lambda weight: weight.data[::3].mul_(1e-30),
    "pruned units": lambda weight: weight.data[::2].zero_(),
}


@pytest.mark.parametrize("shape", [(64, 64), (48, 256), (256, 48)], ids=str)
@pytest.mark.parametrize("draw", DRAWS)
def test_what_people_draw_is_healthy(draw: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    model = nn.Linear(*shape)
    DRAWS[draw](model.weight)
    assert found(model).findings == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes_are_healthy(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    layers = [nn.Linear(1, 900), nn.Linear(2, 900), nn.Linear(16, 16), nn.Linear(300, 300)]
    model = nn.ModuleList([*layers, nn.Conv2d(1, 256, 1), nn.Embedding(500, 4)])
    assert found(model.to(dtype)).findings == ()


def silent_filters() -> nn.Module:
    """Kernels by which nothing is wrong: identity, depthwise, inflated, and frozen averages."""
    torch.manual_seed(0)
    identity = nn.Conv2d(16, 16, 3)
    nn.init.dirac_(identity.weight)
    depthwise = nn.Conv2d(32, 32, 3, groups=32)
    nn.init.constant_(depthwise.weight, 1 / 9)
    inflated = nn.Conv3d(8, 32, 3)
    inflated.weight.data = inflated.weight.data[:, :, :1].repeat(1, 1, 3, 1, 1) / 3
    frozen = nn.Conv2d(3, 3, 3).requires_grad_(False)
    nn.init.constant_(frozen.weight, 1 / 27)
    return nn.ModuleList([identity, depthwise, inflated, frozen])


def target_network() -> nn.Module:
    model = mlp()
    return nn.ModuleDict({"online": model, "target": deepcopy(model).requires_grad_(False)})


def equal_tables() -> nn.Module:
    """Tables that are computed, the same in every layer."""
    model = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
    places, waves = torch.arange(64.0)[:, None], torch.exp(-torch.arange(32.0) / 4)
    for layer in model:
        layer.position = nn.Parameter(torch.sin(places * waves))
        layer.decay = nn.Parameter(torch.arange(1.0, 17).log().repeat(32, 1))
    return model


def masks() -> nn.Module:
    model = mlp()
    model.register_buffer("causal", torch.full((8, 8), -torch.inf).triu(1))
    model.register_buffer("smallest", torch.full((8, 8), torch.finfo().min).triu(1))
    model.register_buffer("unset", torch.full((5,), -1e9))
    model.register_buffer("base", torch.tensor(1e6))
    return model


def adapters() -> nn.Module:
    """LoRA as meant: the second factor is zero."""
    torch.manual_seed(0)
    model = nn.Sequential(Adapted(), nn.GELU(), Adapted())
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.lora_B["default"].weight)
    return model


def small_table() -> nn.Module:
    model = Language()
    nn.init.normal_(model.embed.weight, std=0.02)
    return model


def scaled_table() -> nn.Module:
    """T5 multiplies by d_model ** -0.5 before its head, and its configuration says so."""
    model = Language()
    model.config = type("Config", (), {"model_type": "t5"})()
    return model


def open_gates() -> nn.Module:
    model = Tagger()
    fanin.initialize(model, fanin.get_recipe("kaiming") + fanin.recipes.forget_bias(), seed=0)
    return model


def normalised() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        parametrizations.weight_norm(nn.Linear(32, 32)),
        parametrizations.spectral_norm(nn.Linear(32, 32)),
        parametrizations.orthogonal(nn.Linear(32, 32)),
    ]
    model = nn.Sequential(*layers)
    model(torch.randn(4, 32))
    return model


def trained_norm() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model(100 * torch.randn(4, 3, 9, 9))
    return model


HEALTHY = [
    silent_filters,
    target_network,
    equal_tables,
    masks,
    adapters,
    small_table,
    scaled_table,
    open_gates,
    normalised,
    trained_norm,
    lambda: hooked(nn.utils.weight_norm),
]


@pytest.mark.parametrize("build", HEALTHY)
def test_near_misses_are_healthy(build: Callable[[], nn.Module]) -> None:
    assert found(build()).findings == ()


def test_zeros_below_a_bias_that_was_set_are_a_note() -> None:
    """Offsets of deformable attention start on a grid."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 8), nn.Linear(8, 4))
    nn.init.zeros_(model[1].weight)
    assert [(each.code, each.severity) for each in found(model).findings] == [("FAN103", "warning")]
    model[1].bias.data = torch.arange(8.0)
    assert [(each.code, each.severity) for each in found(model).findings] == [("FAN103", "note")]


def test_equal_curves_are_no_clones() -> None:
    """RWKV's mixing factors rise from 0 at once, and then slowly."""
    model = nn.Module()
    for name in ("first", "second"):
        setattr(model, name, nn.Parameter(torch.arange(512.0).div(512).pow(0.03)))
    assert found(model).findings == ()


def test_known_choices_are_notes() -> None:
    """Zero heads, zero ends of branches, ICNR and the prior of rare classes."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(32), Block(32), nn.Linear(32, 10))
    nn.init.zeros_(model[0].second.weight)
    nn.init.zeros_(model[2].weight)
    assert {(each.code, each.severity) for each in found(model).findings} == {("FAN103", "note")}
    model = nn.Sequential(nn.Conv2d(8, 32, 3), nn.PixelShuffle(2), nn.Conv2d(8, 9, 3))
    model[0].weight.data = model[0].weight.data[:8].repeat_interleave(4, 0)
    nn.init.constant_(model[2].bias, -4.6)
    assert {(each.code, each.severity) for each in found(model).findings} == {
        ("FAN106", "note"),
        ("FAN304", "note"),
    }


def test_zeros_cost_what_follows_from_their_place() -> None:
    model = mlp()
    nn.init.zeros_(model[2].weight)
    (finding,) = found(model).findings
    assert finding.severity == "warning"  # torch's random biases open half of the rectifiers
    nn.init.zeros_(model[2].bias)
    (finding,) = found(model).findings
    assert finding.severity == "error"


def test_copies_are_named_by_their_modules() -> None:
    (finding,) = found(encoder()).findings
    assert finding.where == ("layers.0", "layers.1", "layers.2", "layers.3")
    assert finding.numbers == {"clones": 4, "tensors": 6}
    model = nn.ModuleDict({"q": nn.Linear(32, 32), "k": nn.Linear(32, 32)})
    model["k"].weight.data.copy_(model["q"].weight)
    (finding,) = found(model).findings
    assert finding.where == ("q.weight", "k.weight")
    assert finding.severity == "warning"


def test_rank_of_a_large_matrix_is_seen_in_a_part_of_it() -> None:
    torch.manual_seed(0)
    model = nn.Linear(700, 500)
    model.weight.data = torch.randn(500, 64) @ torch.randn(64, 700) / 64
    (finding,) = found(model).findings
    assert finding.observed == "rank 64 in 128 of its rows and columns"


def test_repeated_rows_are_counted() -> None:
    torch.manual_seed(0)
    model = nn.Linear(40, 30)
    model.weight.data[7] = model.weight.data[3]
    model.weight.data[[20, 25]] = model.weight.data[11].clone()
    (finding,) = found(model).findings
    assert finding.observed == "3 of 30 units repeat 2 others"
    assert finding.severity == "warning"


def test_a_hook_that_did_not_run_yet_is_a_note() -> None:
    model = hooked(nn.utils.weight_norm)
    with torch.no_grad():
        model[0].weight_g.mul_(2)
    (finding,) = found(model).findings
    assert finding.severity == "note"
    assert "as old as the last forward" in finding.observed
    model(torch.randn(1, 8, 9))
    assert found(model).findings == ()


def test_memory_that_to_empty_leaves() -> None:
    """Pointers, integers and lengths, as a process really had them in freed memory."""
    words = [0x7F4552CE7E80, 0x55D0A3B4C7F0, 48, 0x7F4552CE7E90, 1, 0, 96, 0]
    content = torch.tensor(words).view(torch.float32)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].weight.data = content.view(4, 4).clone()
    model[1].running_var = content[:4].clone()
    assert set(found(model).codes) == {"FAN102", "FAN109"}


def test_the_fix_of_a_raw_parameter_runs_too() -> None:
    model = mlp()
    model.scale = nn.Parameter(torch.full((4, 4), torch.nan))
    nn.init.constant_(model[0].weight, torch.nan)
    (finding,) = (each for each in found(model).findings if each.code == "FAN101")
    assert finding.where == ("scale", "0.weight")
    exec(finding.fix, {"fanin": fanin, "model": model})
    assert "FAN101" not in found(model).codes
    assert model[0].weight.std() > 0.05 > model.scale.std()


def test_subnormal_entries_alone_are_a_note() -> None:
    model = mlp()
    model[0].weight.data[::3] = model[0].weight.data[::3] * 1e-41
    (finding,) = found(model).findings
    assert (finding.code, finding.severity) == ("FAN102", "note")


def test_measured_logits_overrule_the_table() -> None:
    """A forward that scales its logits is believed once it has been seen."""

    class Scaled(Language):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids) * 256**-0.5

    ids = torch.arange(64).reshape(4, 16)
    assert "FAN301" in audit(Language(), ids, select=["FAN301"]).codes
    assert audit(Scaled(), ids, select=["FAN301"]).findings == ()


def test_a_checkpoint_without_its_model() -> None:
    """Names and values alone: no check needs a module."""
    from fanin.auditing.audit import examine
    from fanin.auditing.evidence import Evidence
    from fanin.auditing.numbers import numbers_of
    from fanin.auditing.weights import Weight

    tensors = {"a.weight": torch.full((8, 8), torch.nan), "b.lora_A.weight": torch.zeros(2, 8)}
    tensors |= {"b.lora_B.weight": torch.zeros(8, 2)}
    weights = tuple(Weight(name, (), held, numbers_of(held)) for name, held in tensors.items())
    own = [check for check in CHECKS if check.code in CODES]
    assert examine(Evidence(None, weights), own, title="").codes == ("FAN101", "FAN305")


def test_old_hooks_still_have_their_attributes() -> None:
    """What FAN110 reads of torch's hooks: a plain attribute, and originals of the same version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(4, 3))
    assert isinstance(vars(layer)["weight"], Tensor)
    assert [layer.weight_g._version, layer.weight_v._version, layer.weight._version] == [0, 0, 0]
    nn.init.zeros_(layer.weight)
    assert layer.weight._version == 1
