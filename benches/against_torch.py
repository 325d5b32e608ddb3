"""`fanin.init` against `torch.nn.init`: the same calls, in the same run, on the same memory.

    python benches/against_torch.py [--size 4096] [--pairs 7] [--build avx2] [--threads 2]
                                    [--only normal_] [--json]

A build's number is torch's time over fanin's, the median over pairs measured in turn. Page faults
are excluded: all calls write one tensor that was touched before. Results are checked after the
clock has stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

from cases import Case, cases
from fanin import init, stream
from fanin.errors import one_of
from fanin.stream import native
from peers import jax_run, numpy_run
from presentation import Result, as_json, as_text
from rounds import extra_import_seconds, timed_rounds


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    builds = _builds(options.build)
    results = []
    for case in cases(options.size):
        if options.only in case.name:
            print(f"{case.name} …", file=sys.stderr)
            results.append(measure(case, builds, options.pairs))
    imports = extra_import_seconds("fanin", after="torch", count=5)
    show = as_json if options.json else as_text
    print(show(results, builds, imports, options.pairs))


def measure(case: Case, builds: list[str], pairs: int) -> Result:
    """Time a case on one tensor, then check what every build writes."""
    tensor = torch.zeros(case.shape, dtype=case.dtype)
    theirs, ours = (getattr(module, case.function) for module in (torch.nn.init, init))

    def calls(function: Callable[..., object], build: str = "", **arguments: object) -> None:
        _use(build)
        for _ in range(case.calls):
            function(tensor, **arguments)

    contenders: dict[str, Callable[[], object]] = {
        "torch": lambda: calls(theirs, **case.arguments),
        "fill_": lambda: calls(torch.Tensor.fill_, value=1.0),
    }
    for build in builds:
        contenders[build] = lambda build=build: calls(ours, build, **case.arguments)
    for name, peer_run in (("NumPy", numpy_run), ("JAX", jax_run)):
        run = peer_run(case.peer, case.shape)
        if run is not None:
            contenders[name] = run
    seconds = timed_rounds(contenders, pairs)
    _check(case, tensor, ours, builds)
    return Result(case, {name: [t / case.calls for t in seconds[name]] for name in seconds})


def _check(
    case: Case, tensor: torch.Tensor, ours: Callable[..., object], builds: list[str]
) -> None:
    """The numbers, and that all builds write the same (orthogonal: but for 4e-6)."""
    first = None
    for build in builds:
        _use(build)
        torch.manual_seed(0)
        ours(tensor, **case.arguments)
        case.check(tensor)
        first = tensor.float().clone() if first is None else first
        tolerance = 4e-6 if case.function == "orthogonal_" else 0.0
        if not torch.allclose(tensor.float(), first, rtol=0, atol=tolerance):
            raise SystemExit(f"{case.name}: {build} writes other numbers than {builds[0]}")


def _use(build: str) -> None:
    if build not in ("", "reference"):
        native.use(build)


def _builds(wanted: str) -> list[str]:
    """What runs here, best first; without the native engine, the reference."""
    here = native.builds() if stream.native_is_active() else ["reference"]
    if wanted and wanted not in here:
        raise SystemExit(f"--build: one that runs here. Got {wanted!r}. {one_of(wanted, here)}")
    return [wanted] if wanted else here


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fanin.init against torch.nn.init")
    parser.add_argument("--size", type=int, default=4096, help="matrices are SIZE by SIZE")
    parser.add_argument("--pairs", type=int, default=7, help="rounds, after one that is not timed")
    parser.add_argument("--build", default="", help="one build of the native engine (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--json", action="store_true", help="every time of every round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
