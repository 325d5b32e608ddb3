"""`audit_checkpoint`: tensors without a model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fanin.auditing import audit_checkpoint
from fanin.auditing.checkpoints import tensors_in
from fanin.errors import ArgumentError, UnknownNameError


def tensors() -> dict[str, Tensor]:
    """Of a healthy model with all kinds of state."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(50, 16), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Conv1d(32, 8, 3)
    )
    return {name: each.detach() for name, each in model.state_dict().items()}


def saved(folder: Path, name: str = "model.safetensors", **changes: Tensor) -> Path:
    save_file({**tensors(), **changes}, folder / name)
    return folder / name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_healthy_one_has_no_findings(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors().items()}
    found = audit_checkpoint(saved(tmp_path, **state))
    assert found.is_clean
    assert found.title == "model.safetensors"
    assert found.num_weights == 7
    assert "axes are read off names and shapes" in found.notes[0]


def test_faults_are_found_under_their_names(tmp_path: Path) -> None:
    broken = {
        "1.weight": torch.full((32, 16), 0.1),
        "1.bias": torch.full((32,), math.nan),
        "2.running_var": torch.full((32,), -1.0),
    }
    found = audit_checkpoint(saved(tmp_path, **broken))
    assert {(finding.code, finding.place) for finding in found.findings} == {
        ("FAN101", "1.bias"),
        ("FAN104", "1.weight"),
        ("FAN109", "2.running_var"),
    }


def test_checks_are_chosen(tmp_path: Path) -> None:
    path = saved(tmp_path, **{"1.weight": torch.full((32, 16), 0.1)})
    assert audit_checkpoint(path, select=["FAN101"]).findings == ()
    assert audit_checkpoint(path, ignore=["constant-weight"]).findings == ()
    with pytest.raises(UnknownNameError, match="Got 'FAN999'"):
        audit_checkpoint(path, ignore=["FAN999"])


def test_tensors_of_whole_numbers_are_left_out(tmp_path: Path) -> None:
    whole = {"q.weight": torch.ones(8, 8, dtype=torch.int8), "mask": torch.ones(4, 4).bool()}
    assert audit_checkpoint(saved(tmp_path, **whole)).num_weights == 7


def test_a_folder_is_all_its_files_or_those_of_its_index(tmp_path: Path) -> None:
    save_file({"a.weight": torch.full((8, 8), 0.5)}, tmp_path / "one.safetensors")
    save_file({"b.weight": torch.full((8, 8), 0.5)}, tmp_path / "two.safetensors")
    (finding,) = audit_checkpoint(tmp_path).findings
    assert finding.where == ("a.weight", "b.weight")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"b.weight": "two.safetensors"}}))
    for path in (tmp_path, index, str(index)):
        (finding,) = audit_checkpoint(path).findings
        assert finding.where == ("b.weight",)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"a \.safetensors file that exists.*Got '.*nothing'"):
        audit_checkpoint(tmp_path / "nothing")
    with pytest.raises(ArgumentError, match=r"a \.safetensors file that exists"):
        audit_checkpoint(tmp_path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no header")
    with pytest.raises(ArgumentError, match=r"a file of safetensors\. Got .*broken\.safetensors"):
        audit_checkpoint(broken)


def test_an_index_must_fit_its_files(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(ArgumentError, match=r"that exists.* Got '.*gone\.safetensors'"):
        audit_checkpoint(tmp_path)
    for text in ("[]", "{", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(ArgumentError, match="an index with a weight_map"):
            audit_checkpoint(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a.weight": torch.rand(8, 8)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ArgumentError, match=r"a tensor is in one file\. Got 'a\.weight'"):
        audit_checkpoint(tmp_path)


def test_no_tensor_is_copied(tmp_path: Path) -> None:
    """They lie as in the file, which is mapped: one larger than memory can be read."""
    path = saved(tmp_path)
    places = [each.data_ptr() for each in tensors_in(path).values()]
    assert len(set(places)) == len(tensors())
    assert max(places) - min(places) < path.stat().st_size
