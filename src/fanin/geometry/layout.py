"""What the axes of a parameter mean to the module that uses it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace

from fanin.errors import LayoutError
from fanin.geometry.fans import Fans

__all__ = ["Layout", "MatrixView"]

Parts = tuple[tuple[str, int], ...]

_ANY: tuple[int, ...] = (-1,)  # the shape of a layout that is stated before shapes are known
_EQUAL = -1  # the size of a part of such a layout: as large as the others


@dataclass(frozen=True, slots=True, repr=False)
class Layout:
    """The axes of a parameter as its module uses them, and the parts that are packed in it.

    Axes that are neither in, out nor batch are a kernel's: they count in both fans. Without in
    and out axes a parameter has no fans, as a bias or a norm's weight.

    Args:
        shape: of the whole logical parameter; without it the axes are stated for any, and
            `with_shape` makes a layout of them.
        in_axes: dims that are summed over; negative ones count from the end.
        out_axes: dims that make different outputs.
        batch_axes: dims that hold independent weights (experts, members of an ensemble).
        groups: blocks along dim 0 that hold independent weights (grouped convolutions).
        stride: product of strides by which fan_in is divided (transposed convolutions).
        is_lookup: whether one input is chosen, not all summed (embeddings): fan_in is 1.
        padding_idx: the row of an embedding that stays zero.
        parts: ``(name, size)`` of the parts that lie side by side along ``part_dim``.
        part_dim: the dim of the parts.

    Raises:
        LayoutError: when an axis does not exist or has two meanings, or sizes do not add up.

    Example:
        >>> Layout.conv(64, 32, 3, 3, groups=4).fans
        Fans(fan_in=72, fan_out=144)
        >>> experts = Layout((8, 64, 16), in_axes=(2,), out_axes=(1,), batch_axes=(0,))
        >>> experts.fans == Layout.linear(64, 16).fans
        True
    """

    shape: tuple[int, ...] = _ANY
    _: KW_ONLY
    in_axes: tuple[int, ...] = ()
    out_axes: tuple[int, ...] = ()
    batch_axes: tuple[int, ...] = ()
    groups: int = 1
    stride: int = 1
    is_lookup: bool = False
    padding_idx: int | None = None
    parts: Parts = ()
    part_dim: int = 0

    def __post_init__(self) -> None:
        if self.shape == _ANY:
            return
        object.__setattr__(self, "shape", tuple(self.shape))
        for field in ("in_axes", "out_axes", "batch_axes"):
            object.__setattr__(self, field, self._axes(field))
        self._check_axes()
        self._check_groups()
        self._check_parts()

    @classmethod
    def linear(cls, out_features: int, in_features: int) -> Layout:
        """A weight (out, in)."""
        return cls((out_features, in_features), out_axes=(0,), in_axes=(1,))

    @classmethod
    def linear_transposed(cls, in_features: int, out_features: int) -> Layout:
        """A weight (in, out), for ``x @ w``: the Conv1D of Hugging Face's GPT-2."""
        return cls((in_features, out_features), in_axes=(0,), out_axes=(1,))

    @classmethod
    def bilinear(cls, out_features: int, in1_features: int, in2_features: int) -> Layout:
        """A weight (out, in1, in2): one output sums over all pairs."""
        return cls((out_features, in1_features, in2_features), out_axes=(0,), in_axes=(1, 2))

    @classmethod
    def conv(cls, out_channels: int, in_channels: int, *kernel: int, groups: int = 1) -> Layout:
        """A kernel (out, in / groups, *k)."""
        shape = (out_channels, _per_group(in_channels, groups), *kernel)
        return cls(shape, out_axes=(0,), in_axes=(1,), groups=groups)

    @classmethod
    def conv_transpose(
        cls,
        in_channels: int,
        out_channels: int,
        *kernel: int,
        groups: int = 1,
        stride: int | Sequence[int] = 1,
        effective: bool = False,
    ) -> Layout:
        """A kernel (in, out / groups, *k) of a transposed convolution.

        ``effective=True`` divides fan_in by the product of strides (one number stands for all
        dims of the kernel): the number of terms that one output really sums, on average.
        """
        shape = (in_channels, _per_group(out_channels, groups), *kernel)
        strides = [stride] * len(kernel) if isinstance(stride, int) else stride
        divisor = math.prod(strides) if effective else 1
        return cls(shape, in_axes=(0,), out_axes=(1,), groups=groups, stride=divisor)

    @classmethod
    def embedding(cls, vocab: int, dim: int, *, padding_idx: int | None = None) -> Layout:
        """A table (vocab, dim): a lookup has fan_in 1; one entry enters ``dim`` outputs."""
        return cls(
            (vocab, dim), in_axes=(0,), out_axes=(1,), is_lookup=True, padding_idx=padding_idx
        )

    @classmethod
    def vector(cls, *shape: int) -> Layout:
        """A parameter without fans: a bias, a norm's weight, a scale."""
        return cls(shape)

    def packed(self, parts: Sequence[str] | Mapping[str, int], *, dim: int = 0) -> Layout:
        """The same axes, with parts side by side along ``dim``.

        Args:
            parts: names of parts of equal size, or the size of each.
            dim: where they lie.

        Example:
            >>> Layout.linear(3 * 64, 64).packed(("q", "k", "v")).fans
            Fans(fan_in=64, fan_out=64)
        """
        if not isinstance(parts, Mapping):
            parts = dict.fromkeys(parts, _EQUAL)
        return self._with_parts(self.shape, tuple(parts.items()), dim)

    def with_shape(self, shape: Sequence[int]) -> Layout:
        """These axes for a parameter of this shape; parts without sizes are equal.

        Example:
            >>> Layout(in_axes=(-1,), out_axes=(-2,), batch_axes=(0,)).with_shape((8, 64, 16)).fans
            Fans(fan_in=16, fan_out=64)
        """
        return self._with_parts(tuple(shape), self.parts, self.part_dim)

    @property
    def is_shaped(self) -> bool:
        """Whether these are the axes of one shape, not of any."""
        return self.shape != _ANY

    @property
    def fans(self) -> Fans:
        """The fans of the parameter, or of each of its parts where these agree.

        Raises:
            LayoutError: when there are no in and out axes, or when parts differ.
        """
        if self.parts:
            each = {name: part.fans for name, _, _, part in self.split()}
            first, *others = set(each.values())
            if others:
                raise LayoutError(
                    f"a parameter has fans when its parts have the same. Got {each} for shape "
                    f"{self.shape}. Ask each layout of split()."
                )
            return first
        if not self.in_axes and not self.out_axes:
            raise LayoutError(
                f"a fan needs a weight with in and out axes. Got shape {self.shape}, without any. "
                "Match it with ones() or zeros(), leave it with keep(), or state its axes: "
                "Layout(shape, in_axes=…, out_axes=…)."
            )
        kernel = math.prod(self.shape[axis] for axis in self.kernel_axes)
        fan_in = math.prod(self.shape[axis] for axis in self.in_axes) * kernel
        fan_out = math.prod(self.shape[axis] for axis in self.out_axes) * kernel
        if 0 in self.in_axes:
            fan_in //= self.groups
        else:
            fan_out //= self.groups
        return Fans(1 if self.is_lookup else _divided(fan_in, self.stride), fan_out)

    @property
    def kernel_axes(self) -> tuple[int, ...]:
        """Axes that are neither in, out nor batch."""
        named = {*self.in_axes, *self.out_axes, *self.batch_axes}
        return tuple(axis for axis in range(len(self.shape)) if axis not in named)

    @property
    def matrix(self) -> MatrixView:
        """How the parameter is viewed as matrices (out, in · kernel), one for each batch index.

        Raises:
            LayoutError: when in or out axes are missing.
        """
        if not self.in_axes or not self.out_axes:
            raise LayoutError(
                f"a matrix needs in and out axes. Got shape {self.shape}, with in_axes="
                f"{self.in_axes}, out_axes={self.out_axes}. Choose an initializer without "
                "structure, or state the axes: Layout(shape, in_axes=…, out_axes=…)."
            )
        grouped = self.groups > 1
        order = (*self.batch_axes, *self.out_axes, *self.in_axes, *self.kernel_axes)
        return MatrixView(
            groups=self.groups,
            dims=(0, *(axis + 1 for axis in order)) if grouped else order,
            num_batch=len(self.batch_axes) + grouped,
            num_out=len(self.out_axes),
            num_in=len(self.in_axes),
        )

    def split(self) -> tuple[tuple[str, int, int, Layout], ...]:
        """Name, start, stop along ``part_dim``, and layout of each part."""
        start, pieces = 0, []
        for name, size in self.parts:
            shape = (*self.shape[: self.part_dim], size, *self.shape[self.part_dim + 1 :])
            part = replace(self, shape=shape, parts=(), part_dim=0)
            pieces.append((name, start, start + size, part))
            start += size
        return tuple(pieces)

    def __repr__(self) -> str:
        stated = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        )
        shape = [] if self.shape == _ANY else [str(self.shape)]
        return f"Layout({', '.join([*shape, *stated])})"

    def _with_parts(self, shape: tuple[int, ...], parts: Parts, dim: int) -> Layout:
        """A layout of this shape, the sizes of equal parts worked out where there is one."""
        if shape == _ANY or not parts:
            return replace(self, shape=shape, parts=parts, part_dim=dim)
        length = replace(self, shape=shape, parts=(), part_dim=0)._length(dim)
        stated = sum(size for _, size in parts if size != _EQUAL)
        equal = [name for name, size in parts if size == _EQUAL]
        size, rest = divmod(length - stated, max(len(equal), 1))
        if equal and (rest or size < 0):
            raise LayoutError(
                f"packed: parts without sizes are equal. Got {len(equal)} parts for dim {dim} "
                f"of shape {shape}. Pass a mapping from part to size."
            )
        sized = tuple((name, size if given == _EQUAL else given) for name, given in parts)
        return replace(self, shape=shape, parts=sized, part_dim=dim)

    def _length(self, dim: int) -> int:
        return self.shape[self._axis("part_dim", dim)]

    def _axes(self, field: str) -> tuple[int, ...]:
        axes = getattr(self, field)
        if isinstance(axes, int):
            raise LayoutError(f"Layout: {field} is a tuple of dims. Got {axes}. Write ({axes},).")
        return tuple(self._axis(field, axis) for axis in axes)

    def _axis(self, field: str, axis: int) -> int:
        rank = len(self.shape)
        if not -rank <= axis < rank:
            raise LayoutError(
                f"Layout: an axis is a dim of the parameter. Got {axis} in {field} for shape "
                f"{self.shape}. Count dims from 0, or from the end with -1."
            )
        return axis % rank

    def _check_axes(self) -> None:
        if any(size < 0 for size in self.shape):
            raise LayoutError(f"Layout: sizes are not negative. Got shape {self.shape}.")
        axes = (*self.in_axes, *self.out_axes, *self.batch_axes)
        twice = sorted({axis for axis in axes if axes.count(axis) > 1})
        if twice:
            raise LayoutError(
                f"Layout: an axis is in, out or batch, once. Got {twice} more than once in "
                f"in_axes={self.in_axes}, out_axes={self.out_axes}, batch_axes={self.batch_axes}."
            )
        if self.stride < 1:
            raise LayoutError(f"Layout: a stride is positive. Got {self.stride}.")
        rows = self.shape[0] if self.shape else 0
        if self.padding_idx is not None and not -rows <= self.padding_idx < rows:
            raise LayoutError(
                f"Layout: padding_idx is a row. Got {self.padding_idx} for shape {self.shape}."
            )

    def _check_groups(self) -> None:
        if self.groups == 1:
            return
        if 0 not in self.in_axes and 0 not in self.out_axes:
            raise LayoutError(
                f"Layout: groups split dim 0, an in or out axis. Got groups={self.groups} for "
                f"{(self.in_axes, self.out_axes)} as in and out axes. Use batch_axes."
            )
        if self.groups < 1 or self.shape[0] % self.groups:
            raise LayoutError(
                f"Layout: groups divide dim 0. Got groups={self.groups} for shape {self.shape}. "
                "Pass the groups of the convolution."
            )
        if self.parts:
            raise LayoutError(
                f"Layout: a parameter has groups or parts. Got groups={self.groups} and "
                f"parts={self.parts}."
            )

    def _check_parts(self) -> None:
        if not self.parts:
            return
        dim = self._axis("part_dim", self.part_dim)
        object.__setattr__(self, "part_dim", dim)
        names = [name for name, _ in self.parts]
        if len(set(names)) < len(names):
            raise LayoutError(f"Layout: each part has its own name. Got {names}.")
        if any(size < 0 for _, size in self.parts) or (
            sum(size for _, size in self.parts) != self.shape[dim]
        ):
            raise LayoutError(
                f"Layout: sizes of parts add up to the dim they lie along. Got {dict(self.parts)} "
                f"for dim {dim} of shape {self.shape}."
            )


@dataclass(frozen=True, slots=True)
class MatrixView:
    """The view of a parameter as (batch…, out…, in…, kernel…).

    Args:
        groups: blocks that dim 0 is split into first, if more than 1: a new dim before it.
        dims: the permutation that follows.
        num_batch: leading dims of the view that hold a matrix each; the groups are one.
        num_out: dims after those: rows.
        num_in: dims after those; with the kernel's they are columns.
    """

    groups: int
    dims: tuple[int, ...]
    num_batch: int
    num_out: int
    num_in: int

    @property
    def is_stored(self) -> bool:
        """Whether the parameter itself is the view."""
        return self.groups == 1 and self.dims == tuple(range(len(self.dims)))


def _per_group(channels: int, groups: int) -> int:
    if groups < 1 or channels % groups:
        raise LayoutError(
            f"Layout: groups divide the channels. Got groups={groups} for {channels} channels. "
            "Pass the groups of the convolution."
        )
    return channels // groups


def _divided(fan: int, by: int) -> float:
    """The fan divided, an integer where it comes out as one."""
    return fan / by if fan % by else fan // by
