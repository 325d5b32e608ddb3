"""FAN301, FAN302: tables of embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.plausible import is_written
from fanin.auditing.weights import Weight
from fanin.model import module_type
from fanin.report import number_text

__all__ = ["EMBEDDING_CHECKS"]

_LOGITS = 4.0
"""Std of first logits above which the loss starts 8 too high: s²/2. GPT-2's is 0.55."""

# Attributes of a configuration that say how logits are scaled or capped after the head.
_SCALES = (
    "scale_decoder_outputs",
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "dim_model_base",
)
_SCALED_MODELS = ("t5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop")
"""Models of transformers that multiply by ``d_model ** -0.5`` before a tied head."""


def _tied_scale(evidence: Evidence) -> Iterator[Symptom]:
    for weight in evidence.weights:
        heads = _heads(evidence, weight)
        if not heads or len(weight.shape) != 2 or not is_written(weight):
            continue
        vocabulary, dim = weight.shape
        std = weight.numbers.rms
        logits = std * math.sqrt(dim)
        if not logits > _LOGITS or _scales(evidence) or _measured(evidence, vocabulary):
            continue
        yield Symptom(
            (weight.name, *heads),
            f"std {number_text(std)}, tied to an output head: logits of std {number_text(logits)} "
            f"and a first loss of about {number_text(_first_loss(vocabulary, logits))}",
            f"std {number_text(1 / math.sqrt(dim))} or less: a loss near ln({vocabulary}) = "
            f"{number_text(math.log(vocabulary))}",
            f"fanin.init.normal_({expression(weight.name)}, std=0.02)",
            {"std": std, "logits": logits, "dim": dim, "vocabulary": vocabulary},
            "note" if _is_transformers(evidence) else None,
        )


def _first_loss(vocabulary: int, std: float) -> float:
    """The mean of log Σ exp of normal logits, less that of one: ln V + s²/2, up to s² = 2 ln V.

    Beyond, the largest logit alone is the sum: ``s·sqrt(2 ln V)``.
    """
    entropy = math.log(vocabulary)
    return entropy + std**2 / 2 if std**2 <= 2 * entropy else std * math.sqrt(2 * entropy)


def _heads(evidence: Evidence, weight: Weight) -> tuple[str, ...]:
    """Names under which the table of an embedding is the weight of a linear layer."""
    names = (weight.name, *weight.aliases)
    kinds = {name: evidence.modules.get(name.rpartition(".")[0]) for name in names}
    if not any(isinstance(module, nn.Embedding) for module in kinds.values()):
        return ()
    return tuple(name for name, module in kinds.items() if isinstance(module, nn.Linear))


def _scales(evidence: Evidence) -> bool:
    """Whether a configuration says that what the head gives is scaled."""
    config: Any = getattr(evidence.model, "config", None)
    if config is None:
        return False
    if getattr(config, "model_type", None) in _SCALED_MODELS:
        return getattr(config, "scale_decoder_outputs", True) is not False
    return any(getattr(config, name, None) not in (None, False, 1, 1.0) for name in _SCALES)


def _measured(evidence: Evidence, vocabulary: int) -> bool:
    """Whether inputs have shown logits that are small."""
    outputs = evidence.signals.outputs if evidence.signals is not None else None
    if outputs is None or not outputs.ndim or outputs.shape[-1] != vocabulary:
        return False
    return float(outputs.float().std(correction=0)) < _LOGITS


def _is_transformers(evidence: Evidence) -> bool:
    return any(kind.__module__.startswith("transformers.") for kind in type(evidence.model).__mro__)


def _padding(evidence: Evidence) -> Iterator[Symptom]:
    for weight in evidence.weights:
        module, kind = weight.module, weight.kind
        if module is None or kind is None or weight.attribute != "weight" or not is_written(weight):
            continue
        if not issubclass(module_type(module), nn.Embedding | nn.EmbeddingBag):
            continue
        row: Any = module.padding_idx
        if row is None or not bool(weight.tensor[row].any()):
            continue
        rms = float(weight.tensor[row].double().square().mean().sqrt())
        yield Symptom(
            (weight.name,),
            f"row {row}, of padding, has rms {number_text(rms)}",
            "zeros",
            f"fanin.init.zeros_({expression(weight.name)}.data[{row}])",
            {"row": row, "rms": rms},
            "note" if weight.aliases else None,
        )


EMBEDDING_CHECKS = (
    Check(
        "FAN301",
        "embedding-scale",
        "warning",
        "a table of embeddings is too large for the output head that it is tied to",
        "The model starts sure of random tokens, and the first steps go into unlearning that.",
        _tied_scale,
    ),
    Check(
        "FAN302",
        "padding-row",
        "warning",
        "the row of padding_idx is not zero",
        "No gradient reaches that row: padding adds the same random vector for ever.",
        _padding,
    ),
)
