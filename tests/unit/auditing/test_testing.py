"""`fanin.testing.assert_healthy`: in a project's own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fanin
from fanin.errors import ArgumentError
from fanin.testing import Configuration, assert_healthy


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a configuration, as far as this one is below none."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def constant() -> nn.Linear:
    layer = nn.Linear(16, 8)
    nn.init.constant_(layer.weight, 0.5)
    return layer


def unused() -> nn.Module:
    """A warning, once inputs are given: half of its parameters do nothing."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.other = nn.Linear(16, 8), nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.used(x)
            return out

    return Half()


def test_a_healthy_model_passes_and_its_audit_is_returned() -> None:
    model = nn.Linear(16, 8)
    plan = fanin.initialize(model, "xavier", seed=0)
    found = assert_healthy(
        model, torch.randn(8, 16), plan=plan, loss=lambda y: F.mse_loss(y, torch.zeros_like(y))
    )
    assert found.findings == ()
    assert "FAN401" in found.checks


def test_errors_fail_with_all_that_was_found() -> None:
    with pytest.raises(AssertionError, match=r"weight: FAN104 constant-weight \(error\)\n    obs"):
        assert_healthy(constant())


def test_warnings_fail_when_strict() -> None:
    inputs = torch.randn(8, 16)
    assert assert_healthy(unused(), inputs).codes == ("FAN405",)
    with pytest.raises(AssertionError, match="FAN405"):
        assert_healthy(unused(), inputs, strict=True)


def test_checks_are_chosen() -> None:
    assert assert_healthy(constant(), ignore=["FAN104"]).findings == ()
    assert assert_healthy(constant(), select=["FAN101"]).checks == ("FAN101",)


def test_the_nearest_configuration_is_read(here: Path) -> None:
    settings = here / "pyproject.toml"
    settings.write_text('[tool.fanin.audit]\nignore = ["FAN104"]\nstrict = true')
    assert assert_healthy(constant()).findings == ()
    with pytest.raises(AssertionError, match="FAN104"):
        assert_healthy(constant(), configuration=Configuration())
    with pytest.raises(AssertionError, match="FAN405"):
        assert_healthy(unused(), torch.randn(8, 16))
    assert assert_healthy(unused(), torch.randn(8, 16), strict=False).codes == ("FAN405",)
    assert (
        assert_healthy(constant(), ignore=["FAN101"]).checks
        == assert_healthy(constant(), ignore=["FAN101", "FAN104"]).checks
    )  # ignored besides the configuration's


def test_what_is_allowed_with_a_reason_passes(here: Path) -> None:
    settings = here / "pyproject.toml"
    settings.write_text(
        '[[tool.fanin.audit.allow]]\ncodes = ["FAN104"]\nnames = ["weight"]\nreason = "a table"'
    )
    assert assert_healthy(constant()).ignored == 1
    assert assert_healthy(nn.Linear(16, 8)).notes == ("allowed and not found: FAN104 for weight",)
    settings.write_text('[[tool.fanin.audit.allow]]\ncodes = ["FAN104"]')
    with pytest.raises(ArgumentError, match="each has a reason"):
        assert_healthy(constant())


def test_neither_is_imported_with_fanin() -> None:
    code = (
        "import sys, fanin; "
        "print([name for name in sys.modules if name.startswith(('fanin.audit', 'fanin.test'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
