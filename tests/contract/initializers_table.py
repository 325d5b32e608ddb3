"""Every initializer once: text form, a layout that fits it, and the fill it resolves to.

A new initializer adds a row; the suites that import the table test it from then on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanin import fills
from fanin.geometry import Layout

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    text: str
    layout: Layout
    fill: fills.Fill
    std: float  # of the entries, by the formula of the initializer's source

    @property
    def name(self) -> str:
        return self.text.partition("(")[0]


_LINEAR = Layout.linear(18, 32)  # fan_in 32, fan_out 18, fan_avg 25, fan_geo_avg 24
_CONV = Layout.conv(8, 4, 3, 3, groups=2)  # fan_in 18, fan_out 36


def _normal(std: float) -> fills.Normal:
    return fills.Normal(0.0, fills.derived(std))


def _uniform(bound: float) -> fills.Uniform:
    bound = fills.derived(bound)
    return fills.Uniform(-bound, bound)


def _truncated(std: float) -> fills.TruncNormal:
    parent_std = fills.derived(std / 0.8796256610342397757)  # std of N(0, 1) cut at ±2
    return fills.TruncNormal(0.0, parent_std, *(fills.derived(s * parent_std) for s in (-2, 2)))


ROWS = (
    Row("constant(value=0.5)", Layout.vector(7), fills.Constant(0.5), 0.0),
    Row("ones()", Layout.vector(7), fills.Constant(1.0), 0.0),
    Row("zeros()", _LINEAR, fills.Constant(0.0), 0.0),
    Row("uniform(low=-3.0)", Layout.vector(7), fills.Uniform(-3.0, 1.0), 2 / math.sqrt(3)),
    Row("normal(std=0.02)", _LINEAR, fills.Normal(0.0, 0.02), 0.02),
    Row("trunc_normal(std=0.02)", _LINEAR, _truncated(0.02), 0.02),
    Row("variance_scaling()", _LINEAR, _normal(math.sqrt(1 / 32)), math.sqrt(1 / 32)),
    Row(
        "variance_scaling(scale=6.0, mode=fan_geo_avg, distribution=truncated_normal)",
        _LINEAR,
        _truncated(0.5),
        0.5,
    ),
    Row("xavier_normal()", _LINEAR, _normal(0.2), 0.2),
    Row("xavier_uniform(gain=2.0)", _LINEAR, _uniform(0.4 * math.sqrt(3)), 0.4),
    Row("kaiming_normal()", _LINEAR, _normal(0.25), 0.25),
    Row("kaiming_uniform()", _CONV, _uniform(math.sqrt(6 / 18)), 1 / 3),
    Row("kaiming_normal(mode=fan_out)", _LINEAR, _normal(1 / 3), 1 / 3),
    Row("lecun_normal()", _CONV, _normal(math.sqrt(1 / 18)), math.sqrt(1 / 18)),
    Row("lecun_uniform()", _LINEAR, _uniform(math.sqrt(3 / 32)), math.sqrt(1 / 32)),
    Row("eye()", Layout.linear(4, 16), fills.Eye(1.0), math.sqrt(1 / 16 * 15 / 16)),
    Row("dirac()", _CONV, fills.Dirac(2), math.sqrt(4 / 144 * 140 / 144)),
    Row("orthogonal(gain=2.0)", Layout.linear(4, 16), fills.Orthogonal(2.0), 0.5),
    Row(
        "orthogonal()",
        Layout.linear_transposed(16, 4),
        fills.Rearranged(fills.Orthogonal(), (1, 0)),
        0.25,
    ),
    Row("delta_orthogonal()", Layout.conv(16, 4, 2, 2), fills.DeltaOrthogonal(), 0.125),
    Row("sparse(sparsity=0.75)", Layout.linear(5, 16), fills.Sparse(0.75, 0.01, dim=1), 0.005),
)
