"""`stream.clear`: the native engine zeroes what the reference does, in any memory order."""

import pytest
import torch

from fanin.stream import native, reference


@pytest.mark.parametrize("zeros", [0, 1, 30, 51, 99, 100])
@pytest.mark.parametrize("order", ["rows", "columns", "strided"])
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex128, torch.float8_e5m2]
)
def test_engines_zero_the_same_places(zeros, order, dtype):
    def made():
        slices = {
            "rows": lambda: torch.ones(700, 100),
            "columns": lambda: torch.ones(100, 700).mT,
            "strided": lambda: torch.ones(1400, 300)[::2, ::3],
        }[order]()
        return torch.ones(slices.shape).to(dtype) if order == "rows" else _like(slices, dtype)

    expected, actual = made(), made()
    reference.clear(5, 11, zeros, expected)
    native.clear(5, 11, zeros, actual)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    assert torch.equal(actual.to(wide), expected.to(wide))
    assert torch.equal((actual.to(wide) == 0).sum(1), torch.full((700,), zeros))


def test_slices_do_not_depend_on_what_is_cleared_with_them():
    together, alone = torch.ones(200, 50), torch.ones(3, 50)
    native.clear(5, 0, 20, together)
    native.clear(5, 100, 20, alone)
    assert torch.equal(alone, together[100:103])


def _like(slices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty_strided(slices.shape, slices.stride(), dtype=dtype)
    return out.copy_(slices)
