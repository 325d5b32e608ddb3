"""A checkpoint for `torch.distributed.checkpoint` that is as planned, and those that are not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from typer.testing import CliRunner

import fanin
from fanin import initializers
from fanin.checkpoint import CheckpointError, verify, verify_checkpoint, write_checkpoint
from fanin.cli import app

# Of torch 2.10, about its own code.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")


class Tied(nn.Module):
    """A drawn tie and a kept one, an orthogonal matrix, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8, padding_idx=2)
        self.square = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.arange(1.0, 5.0))
        self.again = self.scale
        self.one = nn.Parameter(torch.ones(()))
        self.empty = nn.Parameter(torch.empty(0, 3))


RULES = {
    "**": initializers.normal(std=0.02),
    "square.weight": initializers.orthogonal(gain=2.0),
    "scale": fanin.keep(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(Tied(), tmp_path / "a", recipe=RULES, seed=0, format="dcp")
    return tmp_path / "a"


def saved_again(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """The folder with other tensors, as torch writes them."""
    metadata = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    state = {n: torch.empty(e.size, dtype=e.properties.dtype) for n, e in metadata.items()}
    with pytest.warns(UserWarning, match="load in a single process"):
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    change(state)
    for path in folder.glob("*.distcp"):
        path.unlink()
    (folder / ".metadata").unlink()
    with pytest.warns(UserWarning, match="save in a single process"):
        dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)


def test_what_was_written_is_as_planned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    found = verify_checkpoint(folder, on_bytes=counts.append)
    state = Tied().state_dict()
    assert found.is_equal
    assert found.num_tensors == len(state)
    assert found.num_compared == sum(each.numel() for each in state.values())
    assert sum(counts) == sum(each.nbytes for each in state.values())
    monkeypatch.setattr(verify, "_PIECE", 40)
    assert verify_checkpoint(folder) == found
    assert 0 < verify_checkpoint(folder, sample=1e-9).num_compared <= 64


def test_what_torch_saved_again_is_as_planned(folder: Path) -> None:
    saved_again(folder, lambda state: None)
    assert verify_checkpoint(folder).is_equal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state["head.weight"][3, 5].fill_(1.5),
            r"head.weight at \[3, 5\]: expected -?0\.0\d+, found 1.5",
        ),
        (
            lambda state: state["square.weight"][1, 1].fill_(float("nan")),
            r"square.weight at \[1, 1\]: expected -?\d.*, found nan",
        ),
        (
            lambda state: state["again"][0].fill_(7),
            "again: expected bytes of digest [0-9a-f]{16}, found digest",
        ),
        (
            lambda state: state["norm.running_var"][0].fill_(7),
            "norm.running_var: expected bytes of digest",
        ),
        (
            lambda state: state.pop("head.weight"),
            r"head.weight: expected \(9, 8\) torch.float32, found nothing",
        ),
        (
            lambda state: state.update(more=torch.zeros(2)),
            r"more: expected nothing, found \(2,\) torch.float32",
        ),
        (
            lambda state: state.update(one=torch.ones((), dtype=torch.float64)),
            r"one: expected \(\) torch.float32, found \(\) torch.float64",
        ),
    ],
)
def test_the_first_difference_is_named(
    folder: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    saved_again(folder, change)
    found = verify_checkpoint(folder)
    assert found.difference is not None
    with pytest.raises(ValueError, match=message):
        raise ValueError(str(found.difference))


def without_a_file(folder: Path) -> None:
    (folder / "__0_2.distcp").unlink()


def cut_short(folder: Path) -> None:
    path = folder / "__0_2.distcp"
    path.write_bytes(path.read_bytes()[:100])


def without_metadata(folder: Path) -> None:
    (folder / ".metadata").unlink()


def half_metadata(folder: Path) -> None:
    path = folder / ".metadata"
    path.write_bytes(path.read_bytes()[:200])


def empty_metadata(folder: Path) -> None:
    (folder / ".metadata").write_bytes(b"")


def other_metadata(folder: Path) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps([1]))


def another_word(folder: Path) -> None:
    """One bit of a name, so that unpickling gives objects without that attribute."""
    path = folder / ".metadata"
    content = path.read_bytes()
    assert b"properties" in content
    path.write_bytes(content.replace(b"properties", b"propertieq", 1))


def with_an_object(folder: Path) -> None:
    saved_again(folder, lambda state: state.update(step=3))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_file, "can be read. Got .*No such file or directory"),
        (cut_short, "can be read. Got "),
        (without_metadata, r"has all its files. Got no \.metadata, .* it begins anew"),
        (half_metadata, "can be read. Got "),
        (empty_metadata, "can be read. Got Ran out of input"),
        (other_metadata, "can be read. Got 'list' object has no attribute"),
        (another_word, "can be read. Got .*propert"),
        (with_an_object, "holds tensors. Got something else for 'step'"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=f"verify: a checkpoint .*{message}"):
        verify_checkpoint(folder)


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    command = "init zoo:lenet --recipe kaiming --seed 0 --format dcp --out a"
    runner.invoke(app, command.split())
    result = runner.invoke(app, ["verify", "a"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "61,706 of 61,706 values (100%) in 10 tensors are as planned.\n"
    saved_again(tmp_path / "a", lambda state: state["11.bias"][9].fill_(1))
    result = runner.invoke(app, ["verify", "a"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "First difference: 11.bias at [9]: expected 0.0, found 1.0.\n"
    without_metadata(tmp_path / "a")
    assert runner.invoke(app, ["verify", "a"]).exit_code == 2
