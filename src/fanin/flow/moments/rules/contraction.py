"""Products of two tensors summed over dims: layers in any notation, scores, weighted sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, Role, of_role
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.rules.linear import Layer, limited
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.sampled import sampled
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["Labels", "contract"]


@dataclass(frozen=True, slots=True)
class Labels:
    """A product in einsum's terms, a letter for each dim.

    Args:
        left: of the first factor.
        right: of the second.
        out: of the result.
    """

    left: str
    right: str
    out: str


def contract(
    forward: Forward,
    operation: Operation,
    left: Value,
    right: Value,
    labels: Labels,
    bias: Value | None = None,
) -> Pullback:
    """Put the product; a layer if a factor is a weight."""
    if forward.is_weight(right):
        return _layer(forward, operation, left, right, labels, bias)
    if forward.is_weight(left):
        swapped = Labels(labels.right, labels.left, labels.out)
        return _layer(forward, operation, right, left, swapped, bias)
    return _product(forward, operation, left, right, labels)


def _layer(
    forward: Forward,
    operation: Operation,
    x: Value,
    weight: Value,
    labels: Labels,
    bias: Value | None,
) -> Pullback:
    before = forward.state(x, operation).axes
    sizes = dict(zip(labels.right, weight.shape, strict=True))
    sizes.update({a: n for a, n in zip(labels.left, x.shape, strict=True) if n != 1})
    of_x = dict(zip(labels.left, before, strict=True))
    summed = [a for a in labels.left if a not in labels.out]
    fresh = [a for a in labels.out if a not in labels.left]
    terms = prod(sizes[a] for a in summed)
    axes = tuple(of_x[a] if a in of_x else of_role("feature", sizes[a]) for a in labels.out)
    returns = prod(sizes[a] for a in fresh)
    return Layer(x, weight, bias, axes, terms, returns).run(forward, operation)


def _product(
    forward: Forward, operation: Operation, left: Value, right: Value, labels: Labels
) -> Pullback:
    """Of two activations that were made with different weights: independent but for their means."""
    a, b = forward.state(left, operation), forward.state(right, operation)
    sizes = dict(zip(labels.left, left.shape, strict=True))
    of_a = dict(zip(labels.left, a.axes, strict=True))
    of_b = dict(zip(labels.right, b.axes, strict=True))
    summed = [letter for letter in labels.left if letter not in labels.out]
    n = prod(sizes[letter] for letter in summed)
    role = _role(tuple(of_a[letter] for letter in summed))
    first, second = _Factor.of(a.moments, role), _Factor.of(b.moments, role)
    if a.queries is not None and role == "position":
        first = _Factor.of_weights(a.moments, a.queries, n)
    products = first.times(second, n)
    left_over = [x for x in labels.out if x in of_a and x not in of_b]
    right_over = [x for x in labels.out if x in of_b and x not in of_a]
    of_rows = _has_positions(tuple(of_a[x] for x in left_over))
    of_columns = _has_positions(tuple(of_b[x] for x in right_over))
    along = products.both
    if of_rows != of_columns:
        along = products.rows if of_rows else products.columns
    elif of_rows:
        along = products.columns  # of one query and two keys: what a softmax compares
    moments = Moments(
        n * a.moments.mean * b.moments.mean, products.same, along, along, products.samples
    )
    axes = tuple(of_a[x] if of_a.get(x) else of_b.get(x, ()) for x in labels.out)
    noise = Noise.combined([(1.0, limited(forward, a)), (1.0, b.expression.noise)])
    if role == "position":
        noise = b.expression.noise
    output = operation.outputs[0]
    queries = products.rows if of_rows and of_columns else None
    forward.put(output, State(axes, root(settled(moments, axes), noise=noise), queries=queries))

    def pull(gradients: Gradients) -> list[Arrival]:
        # To each factor, the gradient times the other, summed over what only the other has.
        g = gradients[output]
        to_left = _back(g, _Factor.of(b.moments, _role(tuple(of_b[x] for x in right_over))))
        to_right = _Factor.of(a.moments, _role(tuple(of_a[x] for x in left_over)))
        if a.queries is not None and role == "position":
            to_right = _Factor.of_weights(a.moments, a.queries, n).turned
        of_right = dict(zip(labels.right, right.shape, strict=True))
        columns = prod(of_right[x] for x in right_over)
        rows = prod(sizes[x] for x in left_over)
        return [
            Arrival(left, to_left(columns, of_columns)),
            Arrival(right, _back(g, to_right)(rows, of_rows)),
        ]

    return pull


@dataclass(frozen=True, slots=True)
class _Products:
    """Products of two entries of a result, by what they differ in.

    Args:
        same: in nothing.
        rows: in the position that the first factor keeps.
        columns: in the position that the second keeps.
        both: in both.
        samples: in the sample.
    """

    same: float
    rows: float
    columns: float
    both: float
    samples: float


@dataclass(frozen=True, slots=True)
class _Factor:
    """Products of two entries of a factor, by what they differ in.

    Args:
        same: in nothing.
        apart: in what is summed over.
        rows: in the position that stays.
        rows_apart: in both.
        samples: in the sample.
        samples_apart: in the sample and in what is summed over.
    """

    same: float
    apart: float
    rows: float
    rows_apart: float
    samples: float
    samples_apart: float

    @classmethod
    def of(cls, x: Moments, role: Role) -> _Factor:
        """Summed over positions or over features."""
        if role == "position":
            return cls(x.second, x.positions, x.second, x.positions, x.samples, x.samples)
        square = x.mean**2
        return cls(x.second, square, x.positions, square, x.samples, square)

    @classmethod
    def of_weights(cls, x: Moments, queries: float, n: int) -> _Factor:
        """Weights of a softmax, summed over their ``n`` keys."""
        # Rows have the same sum: what two have in common at one key they lack at two.
        elsewhere = (n * x.mean**2 - queries) / max(n - 1, 1)
        square = x.mean**2
        return cls(x.second, x.positions, queries, elsewhere, square, square)

    @property
    def turned(self) -> _Factor:
        """Summed over what stayed."""
        return replace(self, apart=self.rows, rows=self.apart)

    def times(self, other: _Factor, n: int) -> _Products:
        """Of the product, summed over ``n`` entries."""

        def total(own: float, apart: float) -> float:
            return n * own + n * (n - 1) * apart

        return _Products(
            total(self.same * other.same, self.apart * other.apart),
            total(self.rows * other.same, self.rows_apart * other.apart),
            total(self.same * other.rows, self.apart * other.rows_apart),
            total(self.rows * other.rows, self.rows_apart * other.rows_apart),
            total(self.samples * other.samples, self.samples_apart * other.samples_apart),
        )


def _back(g: Moments, factor: _Factor) -> Callable[[int, bool], Moments]:
    """The gradient ``g`` times a factor, summed over entries that may be positions."""

    def summed(n: int, over_positions: bool) -> Moments:
        arriving = _Factor.of(g, "position" if over_positions else "feature")
        products = arriving.times(factor, n)
        along = products.columns if over_positions else products.both
        return Moments(0.0, products.same, along, along, products.samples)

    return summed


def _role(summed: Axes) -> Role:
    roles = [atom.role for atoms in summed for atom in atoms]
    if roles and all(role == "position" for role in roles):
        return "position"
    return "feature"


def _has_positions(dims: Axes) -> bool:
    return any(atom.role == "position" for atoms in dims for atom in atoms)


@rule("linear")
def _linear(forward: Forward, operation: Operation) -> Pullback:
    x, weight = argument(operation, 0, "input"), argument(operation, 1, "weight")
    batch = "abcdefgh"[: len(x.shape) - 1]
    fresh = "k" if len(weight.shape) == 2 else ""
    labels = Labels(batch + "j", fresh + "j", batch + fresh)
    return contract(forward, operation, x, weight, labels, argument(operation, 2, "bias"))


@rule("matmul", "bmm", "mm", "mv", "dot", "inner", "rmatmul")
def _matmul(forward: Forward, operation: Operation) -> Pullback | None:
    left, right = operation.args[0], argument(operation, 1, "other", "mat2", "vec", "tensor")
    if operation.name == "rmatmul":
        left, right = right, left
    return _matrices(forward, operation, left, right, None)


@rule("addmm", "baddbmm", "addmv", "addbmm")
def _with_bias(forward: Forward, operation: Operation) -> Pullback | None:
    scales = [operation.kwargs.get(name, 1) for name in ("alpha", "beta")]
    if operation.name == "addbmm" or scales[0] != 1 or scales[1] not in (0, 1):
        return sampled(forward, operation)
    bias, left, right = operation.args[:3]
    if not (forward.is_weight(right) or forward.is_weight(left)):
        if scales[1] == 1:
            return sampled(forward, operation)
        bias = None
    return _matrices(forward, operation, left, right, bias if scales[1] else None)


def _matrices(
    forward: Forward, operation: Operation, left: Value, right: Value, bias: Value | None
) -> Pullback:
    batch = "abcdefgh"
    rows, columns = len(left.shape), len(right.shape)
    on_left = batch[8 - max(rows - 2, 0) :] if rows > 2 else ""
    on_right = batch[8 - max(columns - 2, 0) :] if columns > 2 else ""
    longest = on_left if len(on_left) >= len(on_right) else on_right
    labels = Labels(
        on_left + ("ij" if rows > 1 else "j"),
        on_right + ("jk" if columns > 1 else "j"),
        longest + ("i" if rows > 1 else "") + ("k" if columns > 1 else ""),
    )
    return contract(forward, operation, left, right, labels, bias)


@rule("grouped_mm")
def _grouped(forward: Forward, operation: Operation) -> Pullback | None:
    """Each row by the matrix of its group."""
    left, right = argument(operation, 0, "input"), argument(operation, 1, "mat2")
    bias = argument(operation, 3, "bias")
    if (len(left.shape), len(right.shape)) != (2, 3) or bias is not None:
        return sampled(forward, operation)
    return contract(forward, operation, left, right, Labels("ij", "ejk", "ik"))


@rule("einsum")
def _einsum(forward: Forward, operation: Operation) -> Pullback | None:
    equation = operation.args[0]
    factors = operation.inputs
    if not isinstance(equation, str) or len(factors) != 2:
        return sampled(forward, operation)
    left, right, out = _parsed(equation.replace(" ", ""), factors)
    is_plain = all(len(set(each)) == len(each) for each in (left, right))
    lonely = [x for x in left if x not in right + out] + [x for x in right if x not in left + out]
    if not is_plain or lonely:
        return sampled(forward, operation)
    return contract(forward, operation, factors[0], factors[1], Labels(left, right, out))


def _parsed(equation: str, factors: tuple[Value, ...]) -> tuple[str, str, str]:
    """The letters of both factors and the result, with letters for the dots."""
    terms, _, out = equation.partition("->")
    given = terms.split(",")
    dots = [len(f.shape) - len(t.replace("...", "")) for f, t in zip(factors, given, strict=True)]
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    fill = "".join(spare[: max(dots)])
    parts = [
        t.replace("...", fill[len(fill) - n :] if n else "")
        for t, n in zip(given, dots, strict=True)
    ]
    if "->" not in equation:
        letters = "".join(parts)
        out = "..." * ("..." in terms) + "".join(
            sorted(x for x in set(letters) - set(fill) if letters.count(x) == 1)
        )
    return parts[0], parts[1], out.replace("...", fill)
