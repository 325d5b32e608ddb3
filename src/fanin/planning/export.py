"""A plan as JSON and back, and the short hash by which two machines compare theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import torch

from fanin.errors import FaninError, PlanError
from fanin.fills import fill_from_json, origin_of
from fanin.geometry import Layout
from fanin.planning.step import Step
from fanin.stream import STREAM_VERSION, Key

__all__ = ["plan_fingerprint", "plan_from_json", "plan_json"]


def plan_json(
    steps: Sequence[Step],
    *,
    seed: int,
    recipe: str,
    overridden: Sequence[str] = (),
    unused: Sequence[str] = (),
    prefix: str = "",
) -> str:
    """JSON text of all that decides a bit, and of what a reader wants to know; a line a step."""
    waiting = next((step for step in steps if step.is_pending), None)
    if waiting is not None:
        raise PlanError(
            f"to_json: a plan with every shape known can be written down. Got {waiting.name!r} of "
            "a lazy module. Run one forward pass first, or pass example_inputs= to initialize."
        )
    head = {
        "recipe": recipe,
        "seed": seed,
        "stream_version": STREAM_VERSION,
        "fingerprint": plan_fingerprint(steps, seed),
        "overridden": list(overridden),
        "unused": list(unused),
        **({"prefix": prefix} if prefix else {}),
    }
    lines = [json.dumps({**_drawn(step), **_explained(step)}) for step in steps]
    return f'{json.dumps(head)[:-1]}, "steps": [\n' + ",\n".join(lines) + "\n]}"


def plan_fingerprint(steps: Sequence[Step], seed: int) -> str:
    """16 hex digits over the stream's version, the seed, and what each step draws."""
    content = json.dumps([STREAM_VERSION, seed, [_drawn(step) for step in steps]], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def plan_from_json(
    text: str, *, functions: Iterable[Callable[..., Any]] = ()
) -> tuple[tuple[Step, ...], int, str, tuple[str, ...], tuple[str, ...], str]:
    """Steps, seed, recipe, overridden and unused rules, and prefix that `plan_json` wrote."""
    try:
        data = json.loads(text)
        version, seed = data["stream_version"], int(data["seed"])
        recipe, overridden = str(data["recipe"]), tuple(data.get("overridden", ()))
        unused, prefix = tuple(data.get("unused", ())), str(data.get("prefix", ""))
        lines = list(data["steps"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlanError(f"from_json: the text that to_json wrote. Got {error!r}.") from error
    if version != STREAM_VERSION:
        raise PlanError(
            f"from_json: a plan of stream version {STREAM_VERSION}. Got version {version}. "
            "Install the fanin that made it, or make the plan again."
        )
    known = {origin_of(function): function for function in functions}
    steps = tuple(_step(line, seed, known) for line in lines)
    if plan_fingerprint(steps, seed) != data.get("fingerprint"):
        raise PlanError(
            f"from_json: a plan as it was written. Got fingerprint {data.get('fingerprint')!r}, "
            f"and steps of {plan_fingerprint(steps, seed)!r}. It was edited: make a new plan."
        )
    return steps, seed, recipe, overridden, unused, prefix


def _drawn(step: Step) -> dict[str, object]:
    return {
        "name": step.name,
        "aliases": step.aliases,
        "shape": step.shape,
        "dtype": str(step.dtype).removeprefix("torch."),
        "fill": step.fill.to_json() if step.fill is not None else None,
        "key": f"{step.key.value:016x}" if step.key is not None else None,
        "padding_row": step.padding_row,
        **({"pending": [str(rule) for rule in step.pending]} if step.pending else {}),
    }


def _explained(step: Step) -> dict[str, object]:
    mean, std = step.moments or (None, None)
    return {
        "stream": step.key.name if step.key is not None else None,
        "layout": _layout_json(step.layout) if step.layout is not None else None,
        "fan_in": step.fans.fan_in if step.fans else None,
        "fan_out": step.fans.fan_out if step.fans else None,
        "mean": mean,
        "std": std,
        "rule": step.rule,
        "reason": step.reason,
        "note": step.note,
    }


def _layout_json(layout: Layout) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    return {
        field.name: getattr(layout, field.name)
        for field in fields(layout)
        if getattr(layout, field.name) != field.default
    }


def _step(line: dict[str, Any], seed: int, functions: dict[str, Callable[..., Any]]) -> Step:
    try:
        layout, fill, stream = line["layout"], line["fill"], line["stream"]
        dtype = getattr(torch, line["dtype"], None)
        if not isinstance(dtype, torch.dtype):
            raise PlanError(f"from_json: a dtype of torch. Got {line['dtype']!r}.")
        return Step(
            name=line["name"],
            aliases=tuple(line["aliases"]),
            shape=tuple(line["shape"]),
            dtype=dtype,
            layout=Layout(**_tuples(layout)) if layout is not None else None,
            fill=fill_from_json(fill, functions=functions) if fill is not None else None,
            key=Key(seed, stream) if stream is not None else None,
            rule=line["rule"],
            reason=line["reason"],
            note=line["note"],
        )
    except FaninError:
        raise
    except (KeyError, TypeError) as error:
        name = line.get("name") if isinstance(line, dict) else line
        raise PlanError(
            f"from_json: a step has the fields that to_json writes. Got {error!r} for {name!r}."
        ) from error


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
