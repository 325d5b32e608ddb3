"""What a trace prints: every operation of a small model, one of several like blocks of a large."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import fanin
from fanin.flow import trace
from fanin.report import Table


def column(table: Table, name: str) -> list[str]:
    names = [getattr(each, "name", each) for each in table.columns]
    return [row[names.index(name)] for row in table.rows]


class Block(nn.Module):
    def __init__(self, width: int, function: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.down(self.function(self.up(self.norm(x))))
        return x + branch


class Stack(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.last(x)
        return out


X = torch.empty(3, 4, device="meta")


def test_a_row_says_where_what_with_which_parameters_and_what_follows() -> None:
    table = trace(Stack([Block(8)]), X).table()
    assert [getattr(each, "name", each) for each in table.columns] == [
        *("#", "module", "operation", "shape", "parameters", "followed by", "residual")
    ]
    assert table.rows == (
        ("0", "first", "linear", "3×8", "weight, bias", "layer_norm, add", ""),
        ("1", "blocks.0.norm", "layer_norm", "3×8", "weight, bias", "linear", ""),
        ("2", "blocks.0.up", "linear", "3×16", "weight, bias", "relu", ""),
        ("3", "blocks.0", "relu", "3×16", "", "", ""),
        ("4", "blocks.0.down", "linear", "3×8", "weight, bias", "add", ""),
        ("5", "blocks.0", "add", "3×8", "", "", "branch 1"),
        ("6", "last", "linear", "3×2", "weight, bias", "output", ""),
    )
    assert table.caption == "7 operations; takes 3×4, gives 3×2."


def test_columns_that_nothing_fills_are_left_out() -> None:
    table = trace(nn.Tanh(), X).table()
    assert [getattr(each, "name", each) for each in table.columns] == [
        *("#", "module", "operation", "shape")
    ]
    assert table.caption == "1 operation; takes 3×4, gives 3×4."


def test_of_like_blocks_the_first_is_shown() -> None:
    found = trace(Stack([Block(8) for _ in range(30)]), X)
    table = found.table()
    assert column(table, "#") == ["0", "1", "2", "3", "4", "5", "…", "151"]
    assert table.rows[-2][:3] == ("…", "29 × likewise, to blocks.29", "145 operations")
    assert table.caption.endswith("table(every=True) has every row.")
    assert len(found.table(every=True).rows) == len(found.operations)
    assert found.tables() == (found.table(every=True),)
    assert column(found.table(every=True), "residual")[-2] == "branch 30"


def test_blocks_that_differ_are_told_apart() -> None:
    blocks = [Block(8) for _ in range(20)]
    blocks[9] = Block(8, torch.tanh)
    table = trace(Stack(blocks), X).table()
    gaps = [module for module in column(table, "module") if "likewise" in module]
    assert gaps == ["8 × likewise, to blocks.8", "9 × likewise, to blocks.19"]
    assert "tanh" in column(table, "operation")


def test_two_like_blocks_are_both_shown() -> None:
    found = trace(Stack([Block(8), Block(8)]), X)
    assert len(found.table().rows) == len(found.operations)


def test_layers_that_alternate_repeat_as_pairs() -> None:
    layers = [layer for _ in range(50) for layer in (nn.Linear(4, 4), nn.Tanh())]
    table = trace(nn.Sequential(*layers, nn.Linear(4, 2)), X).table()
    assert column(table, "module") == ["0", "1", "49 × likewise, to 99", "100"]


def test_functions_between_layers_belong_to_the_repetition() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(10))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            return x

    table = trace(Net(), X).table()
    assert column(table, "module") == ["layers.0", "(model)", "9 × likewise, to layers.9"]


def test_a_module_that_is_called_again_says_which_call_it_is() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(times):
                x = torch.tanh(self.cell(x))
            return x

    times = 2
    assert column(trace(Again(), X).table(), "module")[::2] == ["cell", "cell (call 2)"]
    times = 12
    assert trace(Again(), X).table().rows[-1][1] == "11 × likewise, to # 23"


def test_a_repetition_within_a_block_is_shown_once() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList(Block(8) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.inner:
                x = block(x)
            return torch.tanh(x)

    table = trace(Stack([Outer() for _ in range(4)]), X).table()
    gaps = [module for module in column(table, "module") if "likewise" in module]
    assert gaps == ["4 × likewise, to blocks.0.inner.4", "3 × likewise, to blocks.3"]


def test_a_long_table_keeps_its_ends() -> None:
    class Widening(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(150):
                x = torch.cat([x, x[..., :1]], -1)
            return x

    found = trace(Widening(), X)
    table = found.table()
    assert len(table.rows) == 81
    assert table.rows[40][:2] == ("…", "220 rows more")
    assert table.rows[-1][0] == str(len(found.operations) - 1)


def test_several_outputs() -> None:
    class Parts(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return *x.chunk(2, dim=1), x.sum()

    table = trace(Parts(), X).table()
    assert column(table, "shape") == ["2 of 3×2", "-"]
    assert table.caption == "2 operations; takes 3×4, gives 3×2, 3×2, -."


def test_a_prompt_shows_one_line() -> None:
    found = trace(Stack([Block(8)]), X)
    assert repr(found) == "Trace(7 operations, 10 parameters)"
    assert str(found) == str(found.table())


def test_what_a_trace_could_not_see_is_below_its_table() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].register_forward_hook(lambda module, args, output: output)
    assert "The hooks of '0' do not run." in str(trace(model, X))


@pytest.mark.parametrize("layers", [8, 32])
def test_a_transformer_of_any_depth_fits_on_a_page(layers: int) -> None:
    with fanin.deferred():
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, hidden_size=64))
    found = trace(model, {"input_ids": torch.ones(1, 8, dtype=torch.long)})
    table = found.table()
    assert len(table.rows) < 90
    assert f"{layers - 1} × likewise, to model.layers.{layers - 1}" in column(table, "module")
