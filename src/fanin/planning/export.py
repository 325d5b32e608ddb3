"""A plan as JSON, and the short hash by which two machines compare theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from fanin.planning.step import Step
from fanin.stream import STREAM_VERSION

__all__ = ["plan_fingerprint", "plan_json"]


def plan_json(steps: Sequence[Step], *, seed: int, recipe: str) -> str:
    """JSON text of all that decides a bit, and of what a reader wants to know; a line a step."""
    head = {
        "recipe": recipe,
        "seed": seed,
        "stream_version": STREAM_VERSION,
        "fingerprint": plan_fingerprint(steps, seed),
    }
    lines = [json.dumps({**_drawn(step), **_explained(step)}) for step in steps]
    return f'{json.dumps(head)[:-1]}, "steps": [\n' + ",\n".join(lines) + "\n]}"


def plan_fingerprint(steps: Sequence[Step], seed: int) -> str:
    """16 hex digits over the stream's version, the seed, and what each step draws."""
    content = json.dumps([STREAM_VERSION, seed, [_drawn(step) for step in steps]], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _drawn(step: Step) -> dict[str, object]:
    return {
        "name": step.name,
        "aliases": step.aliases,
        "shape": step.shape,
        "dtype": str(step.dtype).removeprefix("torch."),
        "fill": step.fill.to_json() if step.fill is not None else None,
        "key": f"{step.key.value:016x}" if step.key is not None else None,
        "padding_row": step.padding_row,
    }


def _explained(step: Step) -> dict[str, object]:
    mean, std = step.moments or (None, None)
    return {
        "fan_in": step.fans.fan_in if step.fans else None,
        "fan_out": step.fans.fan_out if step.fans else None,
        "mean": mean,
        "std": std,
        "rule": step.rule,
        "reason": step.reason,
    }
