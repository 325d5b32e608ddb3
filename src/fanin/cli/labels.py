"""Labels for a model of transformers, so that it returns its loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fanin import fills
from fanin.cli.hugging_face_inputs import is_hugging_face
from fanin.cli.inputs import Inputs
from fanin.drawing import draw
from fanin.errors import ArgumentError
from fanin.geometry import Region
from fanin.report import shape_text
from fanin.stream import Key

__all__ = ["with_labels", "with_needed_labels"]

# Ends of the names of classes whose labels are one class for each input.
_CLASSIFIERS = ("ForImageClassification", "ForSequenceClassification", "ForAudioClassification")
# Of those whose labels are token ids. Not ForPreTraining: ELECTRA's labels are 0 or 1, and BERT
# returns no loss without those of its second task.
_LANGUAGE = ("LMHeadModel", "ForCausalLM", "ForMaskedLM", "ForConditionalGeneration")


def with_labels(model: nn.Module, inputs: Inputs, *, seed: int) -> Inputs:
    """The same inputs with labels where it is known what they are; otherwise as they were.

    Labels are the token ids themselves, or classes drawn from the stream.

    Args:
        model: that is to return its loss.
        inputs: which may have labels already.
        seed: of the classes, on the stream ``"labels"``.
    """
    values = inputs.value
    if not isinstance(values, Mapping) or "labels" in values or not is_hugging_face(model):
        return inputs
    if "labels" not in inspect.signature(model.forward).parameters:
        return inputs
    kind = type(model).__name__
    ids = values.get("decoder_input_ids", values.get("input_ids"))
    if kind.endswith(_CLASSIFIERS):
        return _with(inputs, _classes(model, values, seed), "classes")
    if kind.endswith(_LANGUAGE) and isinstance(ids, Tensor):
        return _with(inputs, ids.clone(), "the token ids")
    return inputs


def with_needed_labels(model: nn.Module, inputs: Inputs, *, asked: str, seed: int) -> Inputs:
    """The same with labels, as `with_labels` has them.

    Args:
        model: likewise.
        inputs: likewise.
        asked: the option that needs a loss, for messages.
        seed: likewise.

    Raises:
        ArgumentError: for a model whose labels are not known.
    """
    found = with_labels(model, inputs, seed=seed)
    if isinstance(found.value, Mapping) and "labels" in found.value:
        return found
    raise ArgumentError(
        f"{asked}: needs a loss, which language models and classifiers of transformers return. Got "
        f"{type(model).__name__}. Choose another method, put labels into --input for a model that "
        "takes them, or call fanin.calibrate(model, batch, ..., loss=..., targets=...) from Python."
    )


def _with(inputs: Inputs, labels: Tensor, what: str) -> Inputs:
    text = f"{inputs.text}; labels {shape_text(labels.shape)}, {what}"
    return replace(inputs, value={**inputs.value, "labels": labels}, text=text)


def _classes(model: Any, values: Mapping[str, Any], seed: int) -> Tensor:
    """Uniform in ``0 … num_labels - 1``, one for each input."""
    size = (len(values[model.main_input_name]),)
    drawn = torch.empty(size, dtype=torch.float64)
    draw(fills.Uniform(0.0, 1.0), Key(seed, "labels"), Region.whole(size), drawn)
    count = int(model.config.num_labels)
    return (drawn * count).long().clamp_(max=count - 1)
