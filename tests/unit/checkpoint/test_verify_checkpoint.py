"""A checkpoint that is as planned, and every way in which one is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import fanin
from fanin import initializers
from fanin.checkpoint import CheckpointError, verify, verify_checkpoint, write_checkpoint
from fanin.errors import ArgumentError

RULES = {
    "**": initializers.normal(std=0.02),
    "4.weight": initializers.orthogonal(gain=2.0),
    "2.bias": initializers.sparse(sparsity=0.5),
}
FILE = "model.safetensors"


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in one file, with a drawn, an orthogonal and a kept tensor, and buffers."""
    with fanin.deferred():
        model = nn.Sequential(
            nn.Embedding(9, 16, padding_idx=2),
            nn.Linear(16, 8),
            nn.Linear(8, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.Linear(8, 8, dtype=torch.float64),
        )
    rules = {name: each for name, each in RULES.items() if name != "2.bias"}
    write_checkpoint(model, tmp_path / "a", recipe=rules, seed=0)
    return tmp_path / "a"


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Rewrite the file with other tensors and the same metadata."""
    path = folder / FILE
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def test_what_was_written_is_as_planned(folder: Path) -> None:
    counts: list[int] = []
    found = verify_checkpoint(folder, on_bytes=counts.append)
    assert found.is_equal
    assert found.num_compared == found.num_elements
    assert sum(counts) == sum(each.nbytes for each in load_file(folder / FILE).values())


def one_value(tensors: dict[str, torch.Tensor]) -> None:
    tensors["1.weight"][3, 7] = 1.5


def padding(tensors: dict[str, torch.Tensor]) -> None:
    tensors["0.weight"][2, 1] = -0.0  # another bit, equal as a number


def nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["4.weight"][1, 1] = float("nan")


def kept(tensors: dict[str, torch.Tensor]) -> None:
    tensors["3.running_var"][0] = 7


def missing(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["1.bias"]


def missing_buffer(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["3.running_mean"]


def more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["more"] = torch.zeros(2)


def shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["1.weight"] = tensors["1.weight"].reshape(16, 8)


def dtype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["1.bias"] = tensors["1.bias"].double()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_value, r"1.weight at \[3, 7\]: expected -?0\.0\d+, found 1.5"),
        (padding, r"0.weight at \[2, 1\]: expected 0.0, found -0.0"),
        (nan, r"4.weight at \[1, 1\]: expected -?\d.*, found nan"),
        (kept, r"3.running_var: expected bytes of digest [0-9a-f]{16}, found digest"),
        (missing, r"1.bias: expected \(8,\) torch.float32, found nothing"),
        (missing_buffer, r"3.running_mean: expected a kept value, found nothing"),
        (more, r"more: expected nothing, found \(2,\) torch.float32"),
        (shape, r"1.weight: expected \(8, 16\) torch.float32, found \(16, 8\) torch.float32"),
        (dtype, r"1.bias: expected \(8,\) torch.float32, found \(8,\) torch.float64"),
    ],
)
def test_the_first_difference_is_named(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    edit(folder, change)
    found = verify_checkpoint(folder)
    assert found.difference is not None
    with pytest.raises(ValueError, match=message):
        raise ValueError(str(found.difference))


def test_products_of_another_machine_are_equal(folder: Path) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["4.weight"] += 5e-6  # allowed: 4e-6 of the gain, which is 2

    edit(folder, nudge)
    assert verify_checkpoint(folder).is_equal
    edit(folder, nudge)
    assert not verify_checkpoint(folder).is_equal


def test_pieces_are_found_at_their_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_PIECE", 40)
    assert verify_checkpoint(folder).is_equal
    edit(folder, one_value)
    found = verify_checkpoint(folder).difference
    assert found is not None
    assert (found.name, found.index) == ("1.weight", (3, 7))


def test_a_sample_is_a_share(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_PIECE", 8)  # one or two values
    found = verify_checkpoint(folder, sample=0.3)
    # Of some 200 pieces; the orthogonal and the kept ones count several values.
    assert found.is_equal
    assert 0.05 < found.num_compared / found.num_elements < 0.75
    assert verify_checkpoint(folder, sample=1e-9).num_compared > 0
    edit(folder, lambda tensors: [each.fill_(9) for each in tensors.values()] and None)
    assert not verify_checkpoint(folder, sample=1e-9).is_equal
    wrong: tuple[Any, ...] = (0.0, 1.5, float("nan"), "x", None, [1.0])
    for sample in wrong:
        with pytest.raises(ArgumentError, match="a share above 0 and up to 1"):
            verify_checkpoint(folder, sample=sample)


class Empty(nn.Module):
    """Many tensors without values, of which one is a digest, and one value."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Buffer(torch.empty(0, 3))
        self.parts = nn.ParameterList(nn.Parameter(torch.empty(0, 3)) for _ in range(20))
        self.one = nn.Parameter(torch.ones(()))


def test_a_sample_has_values(tmp_path: Path) -> None:
    write_checkpoint(Empty(), tmp_path, recipe={"**": initializers.ones()}, seed=0)
    for sample in (1e-9, 0.1, 0.9):
        assert verify_checkpoint(tmp_path, sample=sample).num_compared == 1


def test_a_checkpoint_without_values_is_as_planned(tmp_path: Path) -> None:
    model = nn.ParameterList([nn.Parameter(torch.empty(0, 3))])
    write_checkpoint(model, tmp_path, recipe={"**": initializers.ones()}, seed=0)
    found = verify_checkpoint(tmp_path, sample=0.5)
    assert (found.is_equal, found.num_compared) == (True, 0)


def rewrite_header(path: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    """Another header over the same bytes of tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def overlapping(header: dict[str, dict[str, object]]) -> None:
    start, stop = header["1.weight"]["data_offsets"]
    header["1.weight"]["data_offsets"] = [start - 8, stop - 8]


def too_long(header: dict[str, dict[str, object]]) -> None:
    start, stop = header["1.weight"]["data_offsets"]
    header["1.weight"]["data_offsets"] = [start, stop + 8]


def backwards(header: dict[str, dict[str, object]]) -> None:
    header["1.weight"]["data_offsets"].reverse()


def another_shape(header: dict[str, dict[str, object]]) -> None:
    header["1.weight"]["shape"] = [8, 17]


def a_hole(header: dict[str, dict[str, object]]) -> None:
    del header["1.weight"]


def negative(header: dict[str, dict[str, object]]) -> None:
    header["1.weight"]["shape"] = [-8, -16]


def half_an_offset(header: dict[str, dict[str, object]]) -> None:
    header["1.weight"]["data_offsets"][0] += 0.5


def no_offsets(header: dict[str, dict[str, object]]) -> None:
    header["1.weight"]["data_offsets"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overlapping, r"data_offsets \d+, \d+ for '1.weight', where its 512 bytes begin at \d+"),
        (too_long, r"data_offsets \d+, \d+ for '1.weight', where its 512 bytes begin"),
        (backwards, r"data_offsets \d+, \d+ for '1.weight', where its 512 bytes begin"),
        (another_shape, r"for '1.weight', where its 544 bytes begin"),
        (a_hole, r"data_offsets \d+, \d+ for '\d.\w+', where its \d+ bytes begin at"),
        (negative, r"the shape \(-8, -16\) and data_offsets"),
        (half_an_offset, r"the shape \(8, 16\) and data_offsets \d+\.5"),
        (no_offsets, "not enough values to unpack"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    folder: Path, change: Callable[[dict[str, dict[str, object]]], None], message: str
) -> None:
    rewrite_header(folder / FILE, lambda header: None)
    assert verify_checkpoint(folder).is_equal
    rewrite_header(folder / FILE, change)
    with pytest.raises(CheckpointError, match=f"a whole file of the format. Got .*{message}"):
        verify_checkpoint(folder)
    with pytest.raises(SafetensorError, match="deserializing header"):
        load_file(folder / FILE)


def test_a_users_function_is_handed_over(tmp_path: Path) -> None:
    recipe = {"**": initializers.mapped(initializers.normal(std=1.0), doubled)}
    write_checkpoint(nn.Linear(3, 2), tmp_path, recipe=recipe, seed=0)
    assert verify_checkpoint(tmp_path, functions=[doubled]).is_equal
    with pytest.raises(
        CheckpointError, match=r"doubled(.|\n)*verify_checkpoint\(folder, functions="
    ):
        verify_checkpoint(tmp_path)


def without_plan(folder: Path) -> None:
    (folder / "fanin_plan.json").unlink()


def edited_plan(folder: Path) -> None:
    path = folder / "fanin_plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def without_file(folder: Path) -> None:
    (folder / FILE).unlink()


def truncated(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-1])


def garbage(folder: Path) -> None:
    (folder / FILE).write_bytes(b"\xff" * 100)


DEEP = "[" * 100_000 + "]" * 100_000


def deep_header(folder: Path) -> None:
    text = f'{{"a":{DEEP}}}'.encode()
    (folder / FILE).write_bytes(len(text).to_bytes(8, "little") + text)


def deep_plan(folder: Path) -> None:
    (folder / "fanin_plan.json").write_text(f'{{"seed":{DEEP}}}')


def edited_entry(folder: Path, **changes: object) -> None:
    path = folder / "fanin_plan.json"
    content = json.loads(path.read_text())
    content["checkpoint"].update(changes)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (deep_header, "a whole file of the format. Got maximum recursion depth"),
        (deep_plan, "has a fanin_plan.json. Got .*RecursionError"),
        (lambda folder: edited_entry(folder, names={"9.x": "9.x"}), "Got no step for '9.x'"),
        (lambda folder: edited_entry(folder, names={"1.bias": [1]}), "Got something else than"),
        (lambda folder: edited_entry(folder, files=float("inf")), "Got something else than"),
        (lambda folder: edited_entry(folder, values=3), "has a fanin_plan.json. Got "),
        (without_plan, "a folder that fanin wrote has a fanin_plan.json. Got No such file"),
        (edited_plan, "It was edited"),
        (without_file, "Got 0 of 1"),
        (truncated, "where its header says"),
        (garbage, "a header of"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(folder)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    write_checkpoint(model, tmp_path, recipe="kaiming", seed=0, max_shard_size=80)
    second = max(tmp_path.glob("*.safetensors"))
    save_file({**load_file(second), "0.bias": torch.ones(4)}, second)
    with pytest.raises(CheckpointError, match=r"in one file\. Got '0\.bias' in .*00001-of"):
        verify_checkpoint(tmp_path)


def test_the_index_is_compared_too(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    write_checkpoint(model, tmp_path, recipe="kaiming", seed=0, max_shard_size=80)
    assert verify_checkpoint(tmp_path).is_equal
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["0.weight"] = "elsewhere.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="the index says which file"):
        verify_checkpoint(tmp_path)
    path.write_text(DEEP)
    with pytest.raises(CheckpointError, match=r"can be read\. Got maximum recursion depth"):
        verify_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        verify_checkpoint(tmp_path)
