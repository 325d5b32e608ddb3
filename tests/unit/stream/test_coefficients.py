"""The C++ constants are those of the reference engine."""

import runpy
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "coefficients.py"


def test_the_header_is_written_from_the_reference_tables():
    tool = runpy.run_path(str(TOOL))
    assert tool["HEADER"].read_text() == tool["header"]()
