"""Drop-in for ``torch.nn.init``: fill a tensor in place, with torch's names and meanings.

``from fanin import init`` in place of ``from torch.nn import init``. Signatures, defaults, return
values, warnings and exception types are torch's; ``torch.manual_seed`` and ``generator=`` govern
the numbers, of which each call takes 64 bits. What differs is listed in docs/differences.md.
"""

from __future__ import annotations

from fanin.gains import calculate_gain
from fanin.init.deprecated import (
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    sparse,
    uniform,
    xavier_normal,
    xavier_uniform,
)
from fanin.init.elementwise import constant_, normal_, ones_, trunc_normal_, uniform_, zeros_
from fanin.init.scaled import (
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    kaiming_normal_,
    kaiming_uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fanin.init.structured import dirac_, eye_, orthogonal_, sparse_

__all__ = [
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
