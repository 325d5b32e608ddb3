"""FAN212: deep pre-norm stacks whose branches are not scaled by the depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
        if any(not varies(weight.numbers) for weight in stack.last):
            continue
        last = _unscaled_kinds(stack)
        if not last:
            continue
        names = tuple(weight.name for weights in last for weight in weights)
        std, usual = (median(w.numbers.std for w in each) for each in (last[0], stack.other))
        count = len(stack.last)
        wanted = std / math.sqrt(count)
        some = "" if len(names) == count else f"{len(names)} of "
        yield Symptom(
            names,
            f"std {number_text(std)} in {some}the last layers of {count} branches, as in their "
            "others: from branches of equal rms the stream grows to "
            f"{times_text(math.sqrt(count))} that",
            f"std {number_text(wanted)}, {times_text(1 / math.sqrt(count))}, with which it grows "
            f"to {times_text(1.0)}",
            draw_again(evidence, names, f"normal(std={number_text(wanted)})"),
            {"blocks": stack.blocks, "std": std, "ratio": std / usual, "growth": math.sqrt(count)},
            "warning" if stack.blocks >= _DEEP else None,
        )


def _unscaled_kinds(stack: _Stack) -> list[list[Weight]]:
    """The weights that end branches of one kind, for each kind in which they are not scaled."""
    beside: dict[str, list[Weight]] = {}
    for weight in stack.other:
        beside.setdefault(_branch(weight, stack), []).append(weight)
    kinds: dict[tuple[str, str], list[Weight]] = {}
    for weight in stack.last:
        kinds.setdefault((_branch(weight, stack), _owner(weight)), []).append(weight)
    return [
        weights
        for (branch, _), weights in kinds.items()
        if _is_unscaled(weights, beside.get(branch, stack.other))
    ]


def _branch(weight: Weight, stack: _Stack) -> str:
    """What holds a weight's layer, as every block calls it: ``"self_attn"``, ``"mlp"``."""
    within = weight.name.removeprefix(f"{stack.name}." if stack.name else "")
    return ".".join(within.split(".")[1:-2])


def _is_unscaled(last: Sequence[Weight], other: Sequence[Weight]) -> bool:
    """Whether layers at the ends of branches are as large as the others of these."""
    if not other:
        return False
    std, usual = (median(w.numbers.std for w in each) for each in (last, other))
    size, usual_size = (median(map(_size, each)) for each in (last, other))
    if not usual > 0 or size < _SILENT:
        return False
    return max(std / usual, size / usual_size) >= _UNSCALED


@dataclass(frozen=True)
class _Stack:
    """Repeated blocks: the weights that end their branches, and the other matrices.

    Args:
        name: of the list of blocks.
        blocks: how many.
        last: weights that end branches.
        other: matrices before them.
    """

    name: str
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
        if any(_ends_a_branch(key) and is_norm(each) for key, each in module[0].named_children()):
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
        yield _Stack(name, len(module), last, other)


def _ends_a_branch(name: str) -> bool:
    """Whether a norm is called as one behind a branch: OLMo 2, Gemma 2 and 3, GLM-4.

    The last layer's scale does not matter before it. Llama's ``post_attention_layernorm`` is the
    norm before the second branch.
    """
    is_behind = name.startswith("post_")
    return is_behind and any(each in name for each in ("feedforward", "mlp", "ffw", "self_attn"))


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
