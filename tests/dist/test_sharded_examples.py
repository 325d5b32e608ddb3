"""The examples run under torchrun, as a person runs them, but that they share four processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ["fsdp2", "hsdp", "tensor_parallel", "pipeline"]

# To import torch takes a process longer than all of the examples. Each makes a process group of
# its own; torchrun's store serves one, so that the others meet in files.
_IN_TURN = """
import functools, os, runpy, sys
from contextlib import redirect_stdout
from torch import distributed

folder, *names = sys.argv[1:]
rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
make_group = distributed.init_process_group
sys.path.insert(0, "examples")
for name in names:
    if name != names[0]:
        distributed.init_process_group = functools.partial(
            make_group, init_method=f"file://{folder}/{name}", rank=rank, world_size=world_size
        )
    with open(f"{folder}/{name}.{rank}", "w") as said, redirect_stdout(said):
        runpy.run_path(f"examples/{name}.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What all processes of each example have printed."""
    folder = tmp_path_factory.mktemp("examples")
    script = folder / "in_turn.py"
    script.write_text(_IN_TURN)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "4", str(script), str(folder), *NAMES),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {name: "".join(path.read_text() for path in folder.glob(f"{name}.*")) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, said: dict[str, str]) -> None:
    assert said[name].count("first loss 4.5750") == 1  # one model, however it is spread
