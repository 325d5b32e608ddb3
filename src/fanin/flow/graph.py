"""What a forward pass computes: values, the operations between them, and where they happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from fanin.flow import residuals, structure
from fanin.flow.roles import Roles
from fanin.flow.showing import trace_table
from fanin.report import Table

if TYPE_CHECKING:
    from fanin.flow.residuals import Residual

__all__ = ["ModuleCall", "Operation", "Trace", "Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor at one moment of the pass; a tensor that was written in place is another one.

    Args:
        index: position among the values of the trace.
        shape: of the tensor.
        dtype: of the tensor.
        parameter: its canonical name, where it is a parameter; tied ones go by their owner's.
        buffer: its canonical name, where it is a buffer.
        argument: of the model, ``"0"`` or ``"input_ids"``, where it came in as one.
    """

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameter: str | None = None
    buffer: str | None = None
    argument: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call of a torch function.

    Args:
        index: position in the order of execution.
        name: torch's own, without module, underscores of in-place forms and of operators:
            ``"linear"``, ``"add"`` for ``+``, ``torch.add`` and ``add_``.
        function: what was called, to be called again.
        args: as called, with a `Value` in the place of every tensor, in lists and tuples too.
        kwargs: likewise.
        outputs: its tensors, in order.
        module: canonical name of the innermost module that was running, ``""`` for the model.
        call: which call of that module, from 0.
    """

    index: int
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value, ...]
    module: str
    call: int

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values among the arguments, in order; one that is passed twice is there twice."""
        return tuple(values_in((self.args, tuple(self.kwargs.values()))))


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of one module: its canonical name, which call it was, its class, what came out."""

    name: str
    call: int
    kind: str
    outputs: tuple[Value, ...]


@dataclass(frozen=True, repr=False)
class Trace:
    """The operations of one forward pass, in the order in which they ran.

    ``str(trace)`` is the table of them.

    Args:
        operations: every call of a torch function that took or made a tensor.
        calls: of the modules, in the order in which they ended.
        arguments: the tensors among the model's arguments.
        outputs: the tensors among its results.
        notes: what the trace could not see, in sentences.

    Example:
        >>> import fanin
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
        >>> print(fanin.trace(model, torch.empty(1, 4)))
        #  module  operation  shape  parameters    followed by
        -  ------  ---------  -----  ------------  -----------
        0  0       linear     1×8    weight, bias  gelu
        1  1       gelu       1×8
        2  2       linear     1×2    weight, bias  output
        <BLANKLINE>
        3 operations; takes 1×4, gives 1×2.
    """

    operations: tuple[Operation, ...]
    calls: tuple[ModuleCall, ...]
    arguments: tuple[Value, ...]
    outputs: tuple[Value, ...]
    notes: tuple[str, ...] = field(default=())

    def producer(self, value: Value) -> Operation | None:
        """The operation that made a value; none made parameters, buffers and arguments."""
        return self._producers.get(value)

    def consumers(self, value: Value) -> tuple[Operation, ...]:
        """The operations that take a value, in order."""
        return tuple(self._consumers.get(value, ()))

    def users(self, parameter: str) -> tuple[Operation, ...]:
        """The operations that compute with a parameter, seen through views, splits and casts."""
        return structure.users(self, parameter)

    def followed_by(self, parameter: str) -> tuple[str, ...]:
        """The names of the operations that the result of a parameter's users goes into.

        Seen through everything that is linear in it (views, casts, biases, constant factors,
        masks, rotations of positions), dropout and pooling: ``"relu"``, ``"layer_norm"``,
        ``"softmax"``, ``"add"`` for a residual stream, ``"mul"`` for a gate, ``"output"`` where it
        leaves the model. Each once, in order of execution.
        """
        return structure.followed_by(self, parameter)

    def residuals(self) -> tuple[Residual, ...]:
        """The additions of which one operand was computed from the other, in order."""
        return self._residuals

    def table(self, *, every: bool = False) -> Table:
        """A row for each operation: where it ran, what it gave, and the parameters it used.

        ``followed by`` is `followed_by` of an operation that computes with parameters,
        ``residual`` the depth at which a branch is added. Of three or more like blocks in a row,
        as those of a transformer, the first is shown; of a table that is long all the same, both
        ends.

        Args:
            every: whether to keep all rows.
        """
        return trace_table(self, every=every)

    def tables(self) -> tuple[Table, ...]:
        """Every operation, in one table."""
        return (self.table(every=True),)

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return f"Trace({len(self.operations)} operations, {len(self.parameters)} parameters)"

    @cached_property
    def parameters(self) -> dict[str, Value]:
        """The parameters that the pass reads, by canonical name."""
        values = (value for operation in self.operations for value in operation.inputs)
        return {value.parameter: value for value in values if value.parameter is not None}

    @cached_property
    def roles(self) -> Roles:
        """Which values are signals, which weights."""
        return Roles(self)

    @cached_property
    def _residuals(self) -> tuple[Residual, ...]:
        return residuals.residuals(self)

    @cached_property
    def _producers(self) -> dict[Value, Operation]:
        return {value: made for made in self.operations for value in made.outputs}

    @cached_property
    def _consumers(self) -> dict[Value, list[Operation]]:
        consumers: dict[Value, list[Operation]] = {}
        for operation in self.operations:
            for value in dict.fromkeys(operation.inputs):
                consumers.setdefault(value, []).append(operation)
        return consumers


def values_in(nested: Any) -> Iterator[Value]:
    """The values in lists, tuples and mappings, in order."""
    if isinstance(nested, Value):
        yield nested
    elif isinstance(nested, (list, tuple)):
        for item in nested:
            yield from values_in(item)
    elif isinstance(nested, Mapping):
        for item in nested.values():
            yield from values_in(item)
