"""``fanin_plan.json``: the plan of a checkpoint, from which it is resumed and verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fanin.checkpoint.contents import Stored
from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.safetensors import as_bytes, tensor_chunks
from fanin.errors import ArgumentError, FaninError
from fanin.planning import Plan
from fanin.stream import STREAM_VERSION

__all__ = [
    "PLAN",
    "SavedPlan",
    "contents_digest",
    "differences",
    "origin",
    "plan_text",
    "read_plan",
    "saved_seed",
    "tensor_digest",
    "value_digests",
]

PLAN = "fanin_plan.json"
_KEY = "checkpoint"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan, and what else its checkpoint holds.

    Args:
        plan: read back.
        names: under which each of its tensors is stored, by the name of the step.
        values: the digest of each tensor that is not drawn, by the name it is stored under.
        files: how many shards there are.
    """

    plan: Plan
    names: dict[str, str]
    values: dict[str, str]
    files: int


def value_digests(stored: Sequence[Stored]) -> dict[str, str]:
    """16 hex digits of the bytes of each tensor that is not drawn, by name."""
    return {each.name: tensor_digest(each.value) for each in stored if each.value is not None}


def contents_digest(
    plan: Plan, groups: Sequence[Sequence[Stored]], values: Mapping[str, str]
) -> str:
    """16 hex digits of all that decides a byte: what is drawn, what is kept, and in which file."""
    files = [[(s.name, s.aliases, str(s.dtype), s.shape) for s in group] for group in groups]
    content = json.dumps([plan.fingerprint(), files, values], sort_keys=True)
    return str(_hash(content.encode()).hexdigest())


def plan_text(
    plan: Plan, groups: Sequence[Sequence[Stored]], values: Mapping[str, str], digest: str
) -> str:
    """The plan as `Plan.from_json` reads it, with one more entry for the checkpoint."""
    drawn = [each for group in groups for each in group if each.step is not None]
    entry = {
        "contents": digest,
        "files": len(groups),
        "names": {each.step.name: each.name for each in drawn if each.step is not None},
        "values": values,
    }
    return f'{plan.to_json()[:-1]},\n"{_KEY}": {json.dumps(entry)}}}\n'


def read_plan(folder: Path, *, functions: Iterable[Callable[..., Any]] = ()) -> SavedPlan:
    """The plan of a checkpoint.

    Raises:
        CheckpointError: when there is none, or it cannot be read, or when it needs a function that
            is not passed.
    """
    path = folder / PLAN
    try:
        text = path.read_text(encoding="utf-8")
        plan = Plan.from_json(text, functions=functions)
        return _saved(plan, json.loads(text)[_KEY])
    except ArgumentError as error:
        raise CheckpointError(
            f"{error}\nThis is about {str(path)!r}. Functions are passed in Python: "
            "verify_checkpoint(folder, functions=[mine])."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, FaninError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CheckpointError(
            f"verify: a folder that fanin wrote has a {PLAN}. Got {reason} for {str(path)!r}. "
            "Name the folder that write_checkpoint or fanin init wrote."
        ) from error


def _saved(plan: Plan, entry: Any) -> SavedPlan:
    """What `plan_text` wrote, or a ValueError for what is none."""
    names, values, files = dict(entry["names"]), dict(entry["values"]), entry["files"]
    unknown = sorted(names.keys() - {step.name for step in plan.steps})
    if unknown:
        raise ValueError(f"no step for {unknown[0]!r} among its names")
    if type(files) is not int or not all(
        isinstance(text, str) for text in (*names.values(), *values.values())
    ):
        raise ValueError("something else than names, digests and a number of files")
    return SavedPlan(plan, names, values, files)


def saved_seed(folder: Path) -> int | None:
    """The seed that the folder's checkpoint was begun with; None where no plan tells."""
    try:
        seed = json.loads((folder / PLAN).read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return seed if isinstance(seed, int) and 0 <= seed < 2**64 else None


def differences(old: str, new: str) -> list[str] | None:
    """How the checkpoint of one text is another than that of the other; None for the same one."""
    after = json.loads(new)
    try:
        before = json.loads(old)
        if before[_KEY]["contents"] == after[_KEY]["contents"]:
            return None
        pairs = {key: (before[key], after[key]) for key in ("recipe", "seed")}
        pairs["dtypes"] = (_dtypes(before), _dtypes(after))
        pairs["number of files"] = (before[_KEY]["files"], after[_KEY]["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ["it is no plan of a checkpoint"]
    found = [f"{key} {was}, now {now}" for key, (was, now) in pairs.items() if was != now]
    return found or ["other parameters, rules or kept values"]


def tensor_digest(value: Tensor) -> str:
    """16 hex digits of a tensor's bytes."""
    digest = _hash()
    for chunk in tensor_chunks(value):
        digest.update(as_bytes(chunk))
    return str(digest.hexdigest())


def _dtypes(content: Any) -> str:
    return ", ".join(sorted({step["dtype"] for step in content["steps"]}))


def _hash(content: bytes = b"") -> Any:
    return hashlib.blake2b(content, digest_size=8)


def origin(plan: Plan) -> dict[str, str]:
    """What the header of a file says of where its values are from."""
    from fanin import __version__  # defined after the package's imports

    return {
        "format": "pt",
        "fanin.version": __version__,
        "fanin.stream_version": str(STREAM_VERSION),
        "fanin.recipe": plan.recipe,
        "fanin.seed": str(plan.seed),
        "fanin.fingerprint": plan.fingerprint(),
    }
