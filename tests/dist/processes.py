"""Several processes with a gloo group, for as many cases as a test file has."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import distributed

__all__ = ["run"]

# Children fork from a process that has imported these and done nothing else: torch's threads do
# not survive a fork, and importing takes seconds.
_PRELOADED = ["fanin", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"]
_SECONDS = 120  # after which a process is taken to wait for another


def run(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function returns in each of several processes, by rank.

    An exception in one of them is an AssertionError here, with its traceback.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(world_size):
            ours, theirs = context.Pipe(duplex=False)
            place = (rank, world_size, f"file://{folder}/store")
            process = context.Process(target=_work, args=(theirs, place, function, args))
            process.start()
            theirs.close()
            started.append((process, ours))
        results = [_result(rank, pipe) for rank, (_, pipe) in enumerate(started)]
        for process, _ in started:
            process.join(1)
            process.kill()
    failed = [error for error, _ in results if error]
    assert not failed, failed[0]
    return [value for _, value in results]


def _result(rank: int, pipe: Connection) -> tuple[str, Any]:
    try:
        return pipe.recv() if pipe.poll(_SECONDS) else (f"rank {rank} does not answer", None)
    except EOFError:
        return f"rank {rank} ended without a result", None


def _work(
    pipe: Connection, place: tuple[int, int, str], function: Callable[..., Any], args: Any
) -> None:
    rank, world_size, store = place
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    try:
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
        pipe.send(("", function(*args)))
    except BaseException:
        pipe.send((f"rank {rank}: {traceback.format_exc()}", None))
    finally:
        pipe.close()
        os._exit(0)  # the group's threads may be waiting for a process that has failed
