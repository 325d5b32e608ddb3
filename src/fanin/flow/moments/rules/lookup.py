"""Rows of a table, one for each integer."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Role, of_role
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import State, layer_output

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("embedding")
def _embedding(forward: Forward, operation: Operation) -> Pullback:
    ids, table = argument(operation, 0, "input"), argument(operation, 1, "weight")
    known = forward.state(ids, operation)
    drawn = forward.state(table, operation, meets=ids).moments
    rows, output = table.shape[0], operation.outputs[0]
    spread = drawn.variance
    neighbours, positions, samples = _repeats(known, rows)
    moments = Moments(
        drawn.mean,
        drawn.second,
        *(drawn.mean**2 + share * spread for share in (neighbours, positions, samples)),
    )
    axes = tuple(
        atoms if not atoms or atoms[0].role in ("sample", "position") else of_role(role, size)
        for atoms, size, role in zip(known.axes, ids.shape, _roles(known, ids), strict=True)
    )
    axes = (*axes, of_role("feature", table.shape[1]))
    state = layer_output(moments, axes)
    is_one_row = known.data is not None and bool((known.data == known.data.flatten()[:1]).all())
    if known.is_parameter and is_one_row:
        # One row for all places (a token type).
        roles: list[Role] = ["position"] * len(ids.shape)
        axes = (*(of_role(r, n) for r, n in zip(roles, ids.shape, strict=True)), axes[-1])
        shared = Moments.shared(mean=drawn.mean, second=drawn.second)
        state = State(axes, root(shared))
    elif known.is_parameter:
        # The same for all samples; what the model does with it says which dims are positions.
        axes = tuple(of_role("entry", size) for size in output.shape)
        plain = Moments.independent(mean=drawn.mean, second=drawn.second)
        state = State(axes, root(plain), is_parameter=True)
    forward.put(output, state)

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        return [Arrival(table, g.scaled(prod(ids.shape) / rows))]

    return pull


@rule("embedding_bag")
def _bag(forward: Forward, operation: Operation) -> Pullback:
    ids, table = argument(operation, 0, "input"), argument(operation, 1, "weight")
    if len(table.shape) != 2:
        ids, table = table, ids
    mode = argument(operation, 6, "mode", default="mean")
    drawn = forward.state(table, operation, meets=ids).moments
    output = operation.outputs[0]
    length = prod(ids.shape) / output.shape[0]
    factor = length if mode == "sum" else 1 / length
    repeated = drawn.variance / table.shape[0]
    second = factor * drawn.variance + (drawn.mean * (length if mode == "sum" else 1)) ** 2
    mean = drawn.mean * (length if mode == "sum" else 1)
    shared = mean**2 + factor * length * repeated
    axes = (of_role("sample", output.shape[0]), of_role("feature", output.shape[1]))
    forward.put(output, layer_output(Moments(mean, second, second, second, shared), axes))

    def pull(gradients: Gradients) -> list[Arrival]:
        weight = 1.0 if mode == "sum" else 1 / length**2
        return [Arrival(table, gradients[output].scaled(weight * prod(ids.shape) / table.shape[0]))]

    return pull


@rule("one_hot")
def _one_hot(forward: Forward, operation: Operation) -> None:
    output = operation.outputs[0]
    classes = output.shape[-1]
    before = forward.state(operation.inputs[0], operation).axes
    axes = (*before, of_role("feature", classes))
    moments = Moments.independent(mean=1 / classes, second=1 / classes)
    forward.put(output, layer_output(moments, axes))


def _roles(known: State, ids: Value) -> list[Role]:
    roles: list[Role] = ["position"] * len(ids.shape)
    if roles and not known.is_parameter:
        roles[0] = "sample"
    return roles


def _repeats(known: State, rows: int) -> tuple[float, float, float]:
    """How often two ids are the same: of neighbours, of one sample, of two samples."""
    ids = known.data
    if ids is None or not ids.numel():
        return 1 / rows, 1 / rows, 1 / rows
    if ids.ndim == 0:
        return 1.0, 1.0, 1.0
    table = ids.reshape(-1, ids.shape[-1])[:64]
    counts = torch.stack([torch.bincount(row.long(), minlength=rows) for row in table]).double()
    length, total = table.shape[1], float(table.shape[0])
    within = (counts.square().sum(1) - length).mean() / max(length * (length - 1), 1)
    across = 1 / rows
    if total > 1:
        pairs = counts.sum(0).square().sum() - counts.square().sum()
        across = float(pairs) / (total * (total - 1) * length**2)
    if ids.ndim == 1:
        return float(within), float(within), float(within)
    beside = float((table[:, 1:] == table[:, :-1]).double().mean()) if length > 1 else 1.0
    return beside, float(within), across
