"""Text that is nested too deeply for a parser is refused like any other that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import fanin
from fanin.auditing import Audit, audit_checkpoint
from fanin.auditing.configuration import load_configuration
from fanin.cli.models import build_model
from fanin.errors import FaninError
from fanin.planning import Plan
from fanin.probing.signal_report import SignalReport
from fanin.recipes.data import from_json
from fanin.recipes.toml import from_toml

DEEP = "[" * 100_000
DEEP_TOML = f"a = {DEEP}"


def in_file(name: str, text: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    def written(folder: Path) -> object:
        (folder / name).write_text(text)
        return read(folder / name)

    return written


READERS: dict[str, Callable[[Path], object]] = {
    "audit": lambda folder: Audit.from_json(DEEP),
    "plan": lambda folder: Plan.from_json(DEEP),
    "report": lambda folder: SignalReport.from_json(DEEP),
    "recipe in JSON": lambda folder: from_json(DEEP),
    "recipe in TOML": lambda folder: from_toml(DEEP_TOML),
    "configuration of audits": in_file("pyproject.toml", DEEP_TOML, load_configuration),
    "index": in_file("model.safetensors.index.json", DEEP, audit_checkpoint),
    "config of transformers": in_file(
        "config.json", DEEP, lambda path: build_model(f"hf:{path}", {}, with_values=False)
    ),
    "plan of a checkpoint": in_file(
        "fanin_plan.json", DEEP, lambda path: fanin.verify_checkpoint(path.parent)
    ),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_it_is_refused(reader: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(FaninError, match=r"maximum recursion depth exceeded|RecursionError"):
        reader(tmp_path)
