"""Write native/coefficients.h from the tables in fanin/stream/elementary.py (``--check``: compare).

One source for the constants: the reference engine's. A test runs the comparison.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fanin.stream.elementary import _TABLES, CENTRAL

HEADER = Path(__file__).parent.parent / "native" / "coefficients.h"


def header() -> str:
    """The text of the C++ header."""
    lines = [
        "// Written by tools/coefficients.py from src/fanin/stream/elementary.py: edit there.",
        "#pragma once",
        "",
        "namespace fanin {",
        "",
        "template <class Real>",
        "struct Coefficients;",
        "",
    ]
    for dtype, name, suffix in ((torch.float32, "float", "f"), (torch.float64, "double", "")):
        table = _TABLES[dtype]
        lines += [
            "template <>",
            f"struct Coefficients<{name}> {{",
            f"    static constexpr {name} central_from = {CENTRAL.hex()}{suffix};",
            f"    static constexpr {name} ln2 = {table.ln2.hex()}{suffix};",
        ]
        for field in (
            "log",
            "sin",
            "cos",
            "central_numerator",
            "central_denominator",
            "tail_numerator",
            "tail_denominator",
        ):
            numbers = list(getattr(table, field))
            if field.endswith("denominator"):
                numbers.append(1.0)
            lines.append(f"    static constexpr {name} {field}[] = {{")
            lines += [f"        {number.hex()}{suffix}," for number in numbers]
            lines.append("    };")
        lines += ["};", ""]
    return "\n".join([*lines, "}  // namespace fanin", ""])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(HEADER.read_text() != header())
    HEADER.write_text(header())
