"""FAN212: deep pre-norm stacks whose branches are not scaled by the depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from torch import nn

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.plausible import varies
from fanin.auditing.remedy import draw_again
from fanin.auditing.weights import Weight
from fanin.errors import LayoutError
from fanin.model import module_type
from fanin.recipes.families import is_norm
from fanin.report import number_text, times_text

__all__ = ["RESIDUAL_CHECKS"]

_BLOCKS = 12  # the fewest that GPT-2 scales: 1 / sqrt(24) there
_DEEP = 48  # from GPT-2 XL's depth on it is a warning: ×9.8

_SILENT = 0.01  # outputs of a branch that leave the stream as it is, for inputs of rms 1
_UNSCALED = 0.8  # of the std of other projections; 1 / sqrt(2 · 12) is 0.2

# What the last linear layer of a branch is called: GPT-2 (c_proj), Llama, Mistral, Qwen, Gemma
# (o_proj, down_proj), OPT, BART (out_proj, fc2), T5 (o, wo), torch (out_proj, linear2), timm
# (proj, fc2), Mixtral (w2), Bloom, Falcon and Pythia (dense_4h_to_h), GPT-J (fc_out).
_LAST = frozenset(
    {"c_proj", "o_proj", "out_proj", "down_proj", "fc2", "linear2", "proj", "wo", "w2", "o"}
    | {"fc_out", "dense_4h_to_h", "to_out", "output_proj"}
)


def _unscaled(evidence: Evidence) -> Iterator[Symptom]:
    for stack in _stacks(evidence):
        last, other = stack.last, stack.other
        if not last or not other or any(not varies(weight.numbers) for weight in last):
            continue
        std, usual = (median(w.numbers.std for w in each) for each in (last, other))
        size, usual_size = (median(map(_size, each)) for each in (last, other))
        if not usual > 0 or size < _SILENT:
            continue
        ratio = max(std / usual, size / usual_size)
        if ratio < _UNSCALED:
            continue
        count = len(last)
        names = tuple(weight.name for weight in last)
        wanted = std / math.sqrt(count)
        yield Symptom(
            names,
            f"std {number_text(std)} in the last layers of {count} branches, as in their others: "
            f"from branches of equal rms the stream grows to {times_text(math.sqrt(count))} that",
            f"std {number_text(wanted)}, {times_text(1 / math.sqrt(count))}, with which it grows "
            f"to {times_text(1.0)}",
            draw_again(evidence, names, f"normal(std={number_text(wanted)})"),
            {"blocks": stack.blocks, "std": std, "ratio": ratio, "growth": math.sqrt(count)},
            "warning" if stack.blocks >= _DEEP else None,
        )


@dataclass(frozen=True)
class _Stack:
    """Repeated blocks: the weights that end their branches, and the other matrices."""

    blocks: int
    last: tuple[Weight, ...]
    other: tuple[Weight, ...]


def _stacks(evidence: Evidence) -> Iterator[_Stack]:
    """Lists of blocks of one class that norms precede, not follow; inner lists are not their own.

    A stack whose branches start with a norm needs one more at its end, beside the list or one
    level further out; where norms follow the sums there is none.
    """
    for name, module in evidence.modules.items():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < _BLOCKS:
            continue
        kinds = {module_type(block) for block in module}
        if len(kinds) > 1 or not any(True for _ in module[0].children()):
            continue
        if not any(is_norm(each) for each in module[0].modules()):
            continue
        if not _ends_with_norm(evidence, name) or _is_scaled_otherwise(evidence, name):
            continue
        inside = [
            weight
            for weight in evidence.weights
            if weight.name.startswith(f"{name}." if name else "")
            and weight.is_matrix
            and not weight.is_lookup
            and len(weight.shape) == 2
        ]
        last = tuple(weight for weight in inside if _owner(weight) in _LAST)
        other = tuple(weight for weight in inside if _owner(weight) not in _LAST)
        yield _Stack(len(module), last, other)


def _owner(weight: Weight) -> str:
    return weight.name.rpartition(".")[0].rpartition(".")[2]


def _ends_with_norm(evidence: Evidence, name: str) -> bool:
    """Whether a norm hangs beside a list, or beside what holds it, registered after it."""
    child = name
    for _ in range(2):
        parent, _, own = child.rpartition(".")
        beside = evidence.modules.get(parent) if child else None
        if beside is None:
            return False
        names = [*beside._modules]
        after = names[names.index(own) + 1 :] if own in names else []
        found = ((key, beside._modules[key]) for key in after if "embed" not in key)
        if any(each is not None and is_norm(each) for _, each in found):
            return True
        child = parent
    return False


def _is_scaled_otherwise(evidence: Evidence, name: str) -> bool:
    """Whether branches are scaled by parameters (LayerScale, ReZero) or by a multiplier."""
    small = any(
        weight.name.startswith(f"{name}.")
        and weight.numbers.is_constant
        and weight.numbers.high < 1
        and not weight.is_matrix
        and not weight.attribute.endswith("bias")
        and weight.module is not None
        and not is_norm(weight.module)
        for weight in evidence.weights
    )
    config = getattr(evidence.model, "config", None)
    multipliers = (getattr(config, key, None) for key in ("residual_multiplier", "scale_depth"))
    return small or any(each not in (None, 1, 1.0) for each in multipliers)


def _size(weight: Weight) -> float:
    """rms of the outputs for inputs of rms 1."""
    assert weight.layout is not None
    try:
        return weight.numbers.std * math.sqrt(weight.layout.fans.fan_in)
    except LayoutError:
        return weight.numbers.std


RESIDUAL_CHECKS = (
    Check(
        "FAN212",
        "unscaled-residuals",
        "note",
        "a deep pre-norm stack whose branches are not scaled by its depth",
        "Each branch adds its variance to the stream, which grows with the square root of their "
        "number: late blocks change it by ever smaller shares.",
        _unscaled,
    ),
)
