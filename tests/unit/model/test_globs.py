from __future__ import annotations

import pytest

from fanin.errors import ArgumentError
from fanin.planning import matches


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("weight", ["weight"], ["bias", "0.weight", "weights"]),
        ("*", ["weight"], ["0.weight"]),
        ("*.weight", ["0.weight", "head.weight"], ["weight", "a.0.weight", "0.bias"]),
        ("**.weight", ["weight", "0.weight", "a.b.weight"], ["aweight", "a.weight.b"]),
        ("blocks.**", ["blocks.a", "blocks.0.attn.q"], ["blocks", "block.a", "myblocks.a"]),
        ("**", ["weight", "a.b.c"], [""]),
        ("a.**.z", ["a.z", "a.b.z", "a.b.c.z"], ["az", "a.bz", "b.a.z"]),
        ("blocks.?.w", ["blocks.3.w"], ["blocks.12.w", "blocks...w"]),
        ("blocks.[0-2].w", ["blocks.0.w", "blocks.2.w"], ["blocks.3.w"]),
        ("blocks.[!0-2].w", ["blocks.3.w"], ["blocks.0.w", "blocks...w"]),
        ("norm*.weight", ["norm1.weight", "norm.weight"], ["norm1.x.weight"]),
        ("w+(x)", ["w+(x)"], ["wwx"]),
        (r"re:blocks\.\d+\.w", ["blocks.12.w"], ["blocks.a.w", "xblocks.1.w", "blocks.1.wx"]),
    ],
)
def test_patterns(pattern: str, fitting: list[str], other: list[str]) -> None:
    assert [name for name in fitting if not matches(pattern, name)] == []
    assert [name for name in other if matches(pattern, name)] == []


@pytest.mark.parametrize("pattern", ["", "re:", "re:(", "[z-a]"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ArgumentError, match="name pattern"):
        matches(pattern, "weight")
