"""What comes into a trace from elsewhere: constants of a file, containers of all kinds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fanin.errors import TraceError
from fanin.flow import Operation, Trace, Value, trace
from fanin.flow.functions import function_name

MASK = torch.tril(torch.ones(4, 4))
SHIFT = torch.arange(4.0)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass
class Batch:
    x: Tensor
    mask: Tensor | None = None


class Layers(nn.Module):
    """Two layers, and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Any], dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4, dtype=dtype)
        self.b = nn.Linear(4, 4, dtype=dtype)
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def branch(model: Layers, x: Tensor) -> Tensor:
    return torch.add(x, model.b(torch.tanh(model.a(x))))


def only(found: Trace, name: str) -> Operation:
    (operation,) = [each for each in found.operations if each.name == name]
    return operation


def test_complex_inputs_are_signals() -> None:
    found = trace(Layers(branch, torch.complex64), torch.zeros(2, 4, dtype=torch.complex64))
    assert len(found.residuals()) == 1
    assert found.followed_by("b.weight") == ("add",)


def test_values_in_tuples_with_names() -> None:
    extremes = trace(
        Layers(lambda m, x: torch.cat(torch.aminmax(m.a(x), dim=0))), torch.zeros(2, 4)
    )
    assert only(extremes, "cat").inputs == only(extremes, "aminmax").outputs
    pair = trace(Layers(lambda m, x: torch.cat(Pair(m.a(x), x))), torch.zeros(2, 4))
    (given,) = only(pair, "cat").args
    assert isinstance(given, Pair)
    assert isinstance(given.first, Value)
    assert given == (only(pair, "linear").outputs[0], pair.arguments[0])


@pytest.mark.parametrize("is_in_tuple", [False, True])
def test_dataclasses_as_inputs(is_in_tuple: bool) -> None:
    batch = Batch(torch.zeros(2, 4))
    found = trace(Layers(lambda m, batch: branch(m, batch.x)), (batch,) if is_in_tuple else batch)
    assert [value.argument for value in found.arguments] == ["0.x"]
    assert len(found.residuals()) == 1


def test_outputs_that_nothing_made_are_noted() -> None:
    found = trace(Layers(lambda m, x: torch.vmap(m.a)(x)), torch.zeros(2, 4))
    assert found.outputs == ()
    assert any(
        note.startswith("The model returns a tensor of shape (2, 4)") for note in found.notes
    )


def test_random_numbers_are_no_operators() -> None:
    x = torch.zeros(4, dtype=torch.int64)
    functions = (torch.rand, Tensor.__rand__, Tensor.__iand__, Tensor.__rtruediv__, torch.rand_like)
    assert [function_name(each) for each in functions] == [
        "rand",
        "and",
        "and",
        "rdiv",
        "rand_like",
    ]
    found = trace(Layers(lambda m, x: torch.rand(4) + x), x)
    assert [operation.name for operation in found.operations] == ["rand", "add"]


def test_constants_of_a_file() -> None:
    masked = trace(Layers(lambda m, x: m.a(x).masked_fill(MASK == 0, -1.0)), torch.zeros(4, 4))
    assert [each.name for each in masked.operations] == ["linear", "eq", "masked_fill"]
    assert masked.notes == ()
    shifted = trace(Layers(lambda m, x: m.a(x) + SHIFT), torch.zeros(2, 4))
    assert only(shifted, "add").inputs[0] is only(shifted, "linear").outputs[0]


def test_what_constants_hold_is_known_and_stays() -> None:
    def function(model: Any, x: Tensor) -> Any:
        if SHIFT.sum() > 5 and SHIFT[1].item() == 1:
            return model.a(x)[:, SHIFT > 1]
        return x

    assert trace(Layers(function), torch.zeros(2, 4)).outputs[0].shape == (2, 2)

    def writes(model: Any, x: Tensor) -> Any:
        return model.a(x) + SHIFT.add_(1)

    before = SHIFT.clone()
    trace(Layers(writes), torch.zeros(2, 4))
    assert torch.equal(before, SHIFT)


@pytest.mark.parametrize("held", [torch.Generator(), threading.Lock(), {"of": [threading.Lock()]}])
def test_attributes_that_cannot_be_copied_are_named(held: Any) -> None:
    layer = nn.Linear(4, 4)
    vars(layer)["held"] = held
    with pytest.raises(TraceError, match=r"for '0\.held'\. .*without the attribute"):
        trace(nn.Sequential(layer), torch.zeros(2, 4))
