"""Where commands are typed."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def directory_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Go to an empty directory and put a module of this name and text there."""

    def go(module: str, text: str) -> Path:
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text).lstrip())
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return tmp_path

    return go
