"""Several processes with a gloo group, or one that takes itself for one of many."""

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

__all__ = ["pretend", "run"]

# Children fork from a process that has imported these and done nothing else: torch's threads do
# not survive a fork, and importing takes seconds.
_PRELOADED = ["fanin", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"]
_SECONDS = 120  # after which a process is taken to wait for another


def run(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function returns in each of several processes, by rank.

    An exception in one of them is an AssertionError here, with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        group = {"backend": "gloo", "init_method": f"file://{folder}/store"}
        return _results(range(world_size), group | {"world_size": world_size}, function, args)


def pretend(rank: int, world_size: int, function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process that takes itself for one of many.

    The group is torch's fake one, whose collectives do nothing. The process is a new one: torch
    remembers meshes, with the place that the process had in them.
    """
    group = {"backend": "fake", "world_size": world_size}
    return _results(range(rank, rank + 1), group, function, args)[0]


def _results(
    ranks: range, group: dict[str, Any], function: Callable[..., Any], args: Any
) -> list[Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    started = []
    for rank in ranks:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(theirs, group | {"rank": rank}, function, args)
        )
        process.start()
        theirs.close()
        started.append((process, ours))
    results = [_result(rank, pipe) for rank, (_, pipe) in zip(ranks, started, strict=True)]
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


def _work(pipe: Connection, group: dict[str, Any], function: Callable[..., Any], args: Any) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    try:
        distributed.init_process_group(**group)
        pipe.send(("", function(*args)))
    except BaseException:
        pipe.send((f"rank {group['rank']}: {traceback.format_exc()}", None))
    finally:
        pipe.close()
        os._exit(0)  # the group's threads may be waiting for a process that has failed
