"""What is written: the bits of `initialize`, in files that others read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import fanin
from fanin import initializers
from fanin.checkpoint import CheckpointError, verify_checkpoint, write_checkpoint
from fanin.checkpoint import drawing as checkpoint_drawing
from fanin.errors import ArgumentError, DtypeError, PlanError


class Mixed(nn.Module):
    """Something of everything: packed parts, a padding row, buffers, ties, a computed value."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=-3)
        self.attention = nn.MultiheadAttention(8, 2)
        self.conv = nn.Conv2d(4, 8, 3, groups=2)
        self.norm = nn.BatchNorm1d(8)
        self.scale = nn.Parameter(torch.log(torch.arange(1.0, 9.0)))
        self.register_buffer("table", torch.arange(5), persistent=False)
        self.flag = nn.Buffer(torch.tensor([True]))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.empty = nn.Parameter(torch.empty(0, 3))


RULES = {
    "**": initializers.normal(std=0.02),
    "scale": fanin.keep(),
    "**.bias": initializers.zeros(),
    "conv.weight": initializers.orthogonal(),
    "attention.out_proj.weight": initializers.sparse(sparsity=0.5),
    "attention.in_proj_bias": initializers.uniform(-1.0, 1.0),
}


def deferred(build: Callable[[], nn.Module] = Mixed) -> nn.Module:
    with fanin.deferred():
        return build()


def loaded(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: each for file in files for name, each in load_file(file).items()}


def expected_state(model: nn.Module, **options: object) -> dict[str, Tensor]:
    fanin.initialize(model, **options)
    return model.state_dict()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("size", ["5GB", 300])
def test_it_holds_what_initialize_gives(
    tmp_path: Path, dtype: torch.dtype | None, size: int | str
) -> None:
    written = write_checkpoint(
        deferred(), tmp_path, recipe=RULES, seed=3, dtype=dtype, max_shard_size=size
    )
    state = expected_state(deferred(), recipe=RULES, seed=3, dtype=dtype)
    del state["head.weight"]  # the tied name
    found = loaded(tmp_path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert written.is_complete
    assert (len(written.files) == 1) == (size == "5GB")
    assert not found["embed.weight"][8].any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_buffers_are_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    model = nn.Linear(2, 2)
    table = torch.tensor([0, 1, torch.iinfo(dtype).max], dtype=dtype)
    model.register_buffer("table", table)
    write_checkpoint(model, tmp_path, recipe="kaiming", seed=0, dtype=torch.bfloat16)
    found = loaded(tmp_path)["table"]
    assert (found.dtype, found.tolist()) == (dtype, table.tolist())
    assert verify_checkpoint(tmp_path).is_equal
    write_checkpoint(model, tmp_path / "dcp", recipe="kaiming", seed=0, format="dcp")


def test_small_pieces_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    write_checkpoint(deferred(), whole, recipe=RULES, seed=0)
    monkeypatch.setattr(checkpoint_drawing, "PIECE", 24)
    write_checkpoint(deferred(), pieces, recipe=RULES, seed=0)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (pieces / name).read_bytes()


def test_nothing_of_the_model_is_written(tmp_path: Path) -> None:
    model = Mixed()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_checkpoint(model, tmp_path, recipe=RULES, seed=0)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    meta = deferred()
    write_checkpoint(meta, tmp_path / "meta", recipe=RULES, seed=0)
    assert meta.embed.weight.is_meta


def test_the_index_is_hugging_faces(tmp_path: Path) -> None:
    written = write_checkpoint(deferred(), tmp_path, recipe=RULES, seed=0, max_shard_size=600)
    count = len(written.files)
    assert written.files[1] == f"model-00002-of-{count:05}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    found = loaded(tmp_path)
    assert index["metadata"] == {
        "total_parameters": sum(each.numel() for each in found.values()),
        "total_size": sum(each.nbytes for each in found.values()),
    }
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / file, "pt") as opened:
            assert name in set(opened.keys())
    assert index["weight_map"].keys() == found.keys()
    sizes = [sum(t.nbytes for t in load_file(tmp_path / name).values()) for name in written.files]
    assert max(sizes) <= max(600, max(each.nbytes for each in found.values()))


def test_the_header_says_where_it_comes_from(tmp_path: Path) -> None:
    written = write_checkpoint(deferred(), tmp_path, recipe=RULES, seed=7)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert metadata["fanin.seed"] == "7"
    assert metadata["fanin.recipe"] == "custom@1 + 6 rules"
    assert metadata["fanin.fingerprint"] == written.plan.fingerprint()
    assert metadata["fanin.shard"] == "1 of 1"
    assert metadata["head.weight"] == "embed.weight"
    saved = fanin.Plan.from_json((tmp_path / "fanin_plan.json").read_text())
    assert saved.fingerprint() == written.plan.fingerprint()


def test_a_plan_is_enough_where_it_draws_everything(tmp_path: Path) -> None:
    model = deferred(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    plan = fanin.plan(model, "kaiming", seed=1)
    write_checkpoint(plan, tmp_path / "plan", dtype=torch.bfloat16)
    write_checkpoint(model, tmp_path / "model", recipe="kaiming", seed=1, dtype=torch.bfloat16)
    one, other = (tmp_path / name / "model.safetensors" for name in ("plan", "model"))
    assert one.read_bytes() == other.read_bytes()


def test_a_wrapper_is_in_no_name(tmp_path: Path) -> None:
    model = torch.optim.swa_utils.AveragedModel(nn.Linear(3, 2))
    write_checkpoint(model, tmp_path, recipe="kaiming", seed=1)
    assert loaded(tmp_path).keys() == {"weight", "bias", "n_averaged"}


class _Config:
    def to_json_string(self, *, use_diff: bool) -> str:
        return "{}"


class Configured(nn.Linear):
    config = _Config()


@pytest.mark.parametrize(
    "wrap",
    [
        nn.Module.eval,
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
        nn.utils.parametrizations.weight_norm,
    ],
)
def test_the_configuration_is_that_of_the_model_inside(
    tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    write_checkpoint(wrap(Configured(3, 2)), tmp_path, recipe="kaiming", seed=1)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content == {"architectures": ["Configured"], "dtype": "float32"}


def test_a_part_has_its_names_in_the_whole(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    plan = fanin.plan(whole[1], "kaiming", seed=1, prefix="1")
    write_checkpoint(whole[1], tmp_path, recipe=plan)
    fanin.initialize(whole, "kaiming", seed=1)
    assert torch.equal(loaded(tmp_path)["1.weight"], whole[1].weight)


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(nn.Linear(5, 3))


@pytest.mark.parametrize(
    "build",
    [lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), old_weight_norm],
    ids=["registered", "hooked"],
)
@pytest.mark.parametrize("is_deferred", [True, False])
def test_a_parametrized_weight_is_stored_as_its_originals(
    tmp_path: Path, build: Callable[[], nn.Module], is_deferred: bool
) -> None:
    model = deferred(build) if is_deferred else build()
    write_checkpoint(model, tmp_path, recipe="kaiming", seed=4)
    expected = build()
    fanin.initialize(expected, "kaiming", seed=4)
    found = loaded(tmp_path)
    state = expected.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


class Rows(nn.Module):
    """A factor for each row, in a buffer that is not saved and in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factors", torch.arange(1.0, 4.0).unsqueeze(1), persistent=False)
        self.more = torch.tensor([[2.0], [4.0], [8.0]])

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.factors * self.more

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factors / self.more


def scaled_rows() -> nn.Module:
    layer = nn.Linear(5, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Rows())
    return layer


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_what_a_parametrization_computes_with_is_that_of_the_model(
    tmp_path: Path, dtype: torch.dtype | None
) -> None:
    write_checkpoint(scaled_rows(), tmp_path, recipe="kaiming", seed=4, dtype=dtype)
    state = expected_state(scaled_rows(), recipe="kaiming", seed=4, dtype=dtype)
    found = loaded(tmp_path)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_parametrization_with_state_is_refused(tmp_path: Path) -> None:
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3))
    with pytest.raises(CheckpointError, match="keeps other state"):
        write_checkpoint(model, tmp_path, recipe="kaiming", seed=4)


def test_parts_that_are_kept_come_from_the_model(tmp_path: Path) -> None:
    model = nn.MultiheadAttention(4, 2)
    rules = [
        fanin.rule("**", initializers.zeros()),
        fanin.rule("in_proj_weight", fanin.keep()),
        fanin.rule("in_proj_weight", initializers.ones(), part="k"),
    ]
    write_checkpoint(model, tmp_path, recipe=rules, seed=0)
    expected = model.in_proj_weight.detach().clone()
    expected[4:8] = 1
    assert torch.equal(loaded(tmp_path)["in_proj_weight"], expected)
    with pytest.raises(CheckpointError, match=r"Got 'in_proj_weight' without memory"):
        write_checkpoint(
            deferred(lambda: nn.MultiheadAttention(4, 2)), tmp_path / "b", recipe=rules, seed=0
        )


class Extra(nn.Linear):
    """A module with a state that is no tensor."""

    def get_extra_state(self) -> object:
        return {"version": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def with_sparse_buffer() -> nn.Module:
    model = nn.Linear(2, 2)
    model.register_buffer("table", torch.eye(3).to_sparse())
    return model


@pytest.mark.parametrize(
    ("build", "recipe", "error", "message"),
    [
        (lambda: nn.Linear(2, 2), {"**": fanin.keep()}, CheckpointError, "'weight' without memory"),
        (lambda: Extra(2, 2), "kaiming", CheckpointError, "'_extra_state' in the model's state"),
        (lambda: nn.LazyLinear(2), "kaiming", CheckpointError, "'weight' of a lazy module"),
        (with_sparse_buffer, "kaiming", CheckpointError, "layout torch.sparse_coo for 'table'"),
        (
            lambda: nn.Linear(2, 2, dtype=torch.float16),
            {"**": initializers.constant(1e6)},
            DtypeError,
            "must hold the value",
        ),
        (lambda: nn.Linear(2, 2), None, ArgumentError, "a module and a recipe, or a plan"),
        (lambda: nn.Linear(2, 2), "kaimin", ArgumentError, "Did you mean kaiming"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    tmp_path: Path,
    build: Callable[[], nn.Module],
    recipe: object,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        write_checkpoint(deferred(build), tmp_path / "folder", recipe=recipe, seed=0)
    assert not (tmp_path / "folder").exists()


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    plan = fanin.plan(model, "kaiming", seed=0)
    kept = fanin.plan(model, {"weight": initializers.ones(), "bias": fanin.keep()}, seed=0)
    with pytest.raises(ArgumentError, match="a plan has its recipe and its seed"):
        write_checkpoint(plan, tmp_path, seed=1)
    with pytest.raises(ArgumentError, match="a floating-point dtype"):
        write_checkpoint(plan, tmp_path, dtype=torch.int64)
    with pytest.raises(ArgumentError, match=r"max_shard_size: .* Got '5 pounds'"):
        write_checkpoint(plan, tmp_path, max_shard_size="5 pounds")
    with pytest.raises(ArgumentError, match=r"Got 2 of 2 from rank and world_size"):
        write_checkpoint(plan, tmp_path, rank=2, world_size=2)
    with pytest.raises(PlanError, match="share a seed"):
        write_checkpoint(model, tmp_path, recipe="kaiming", rank=0, world_size=2)
    with pytest.raises(CheckpointError, match="Got 'bias' without memory"):
        write_checkpoint(kept, tmp_path)
    with pytest.raises(CheckpointError, match=r"Got only one of the two with '0\.bias'"):
        write_checkpoint(nn.Sequential(model), tmp_path, recipe=plan)
    with pytest.raises(CheckpointError, match=r"of shape \(2, 3\), planned as \(2, 2\)"):
        write_checkpoint(nn.Linear(3, 2), tmp_path, recipe=plan)


def test_the_bytes_are_counted_as_they_are_written(tmp_path: Path) -> None:
    counts: list[int] = []
    written = write_checkpoint(deferred(), tmp_path, recipe=RULES, seed=0, on_bytes=counts.append)
    sizes = (math.prod(each.shape) * each.element_size() for each in loaded(tmp_path).values())
    assert sum(counts) == written.nbytes == written.written == sum(sizes)


_MEASURED = """
import sys
import torch, fanin
from torch import nn
from fanin.checkpoint import write_checkpoint

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

torch.set_default_dtype(torch.bfloat16)
with fanin.deferred():
    layers = (nn.Linear(4096, 4096, bias=False) for _ in range(8))
    model = nn.Sequential(nn.Embedding(10_000, 4096, padding_idx=0), *layers)
plan = fanin.plan(model, "kaiming", seed=0)
before = resident("VmRSS")
written = write_checkpoint(model, sys.argv[1], recipe=plan, max_shard_size="120MB")
print(written.nbytes, resident("VmHWM") - before)
"""


def test_memory_is_that_of_some_pieces(tmp_path: Path) -> None:
    """350 MB are written; the process grows by three pieces of 16 MiB and what it imports."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    written, growth = map(int, done.stdout.split())
    assert written > 300e6
    assert growth < 150e6
