"""The model that `hf:` names: a class of transformers and a configuration, without weights.

Nothing is looked up on a network: a name is a model type that the installed library knows, or a
file.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fanin.errors import ArgumentError, UnknownNameError, one_of

__all__ = ["hugging_face_builder"]

# Of which kind a model is built when its configuration names no class: the first that has one.
# A type that can be read in several ways (BERT as a decoder, BART without its encoder) comes
# under what it was published as.
_ENCODER_DECODERS = ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ")
_KINDS = ("CAUSAL_LM", "IMAGE_CLASSIFICATION", "IMAGE_TEXT_TO_TEXT")

# Fields of every configuration that `--arg` does not set.
_INTERNAL = {"self", "args", "kwargs", "model_type", "transformers_version", "_name_or_path"}


def hugging_face_builder(name: str, arguments: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """What builds the model: a class applied to a configuration, both checked.

    Args:
        name: a model type such as ``gpt2``, a configuration file, or a directory that has one.
        arguments: fields of the configuration; ``architecture`` names the class instead.

    Raises:
        ArgumentError: when transformers is not installed, when nothing has that name, or when the
            configuration does not take a field.
    """
    transformers = _transformers()
    fields = dict(arguments)
    architecture = fields.pop("architecture", None)
    content = _content(transformers, name)
    config = _config(transformers, name, content, fields)
    return partial(_model_class(transformers, config, architecture), config)


def _transformers() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ArgumentError(
            f"model: hf: needs the package transformers. Got {error}. "
            "Install it: pip install transformers."
        ) from error


def _content(transformers: Any, name: str) -> dict[str, Any]:
    """The configuration as a dictionary with a known ``model_type``."""
    known = transformers.CONFIG_MAPPING
    if name in known:
        return {"model_type": name}
    path = Path(name, "config.json") if Path(name).is_dir() else Path(name)
    if path.suffix != ".json" and not path.is_file():
        near = _near(name, known) or "As in hf:gpt2 or hf:path/to/config.json."
        raise UnknownNameError(
            f"model: hf: takes a model type of transformers, a config.json, or a directory with "
            f"one; nothing is downloaded. Got {name!r}. {near}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"model: cannot read {str(path)!r}: {reason}.") from error
    model_type = content.get("model_type") if isinstance(content, dict) else None
    if model_type not in known:
        raise UnknownNameError(
            f"model: a configuration has the model_type of one that transformers "
            f"{transformers.__version__} has. Got {model_type!r} in {str(path)!r}. "
            f"{_near(str(model_type), known)}".rstrip()
        )
    return dict(content)


def _config(
    transformers: Any, name: str, content: dict[str, Any], fields: Mapping[str, Any]
) -> Any:
    kind = transformers.CONFIG_MAPPING[content["model_type"]]
    base = transformers.PretrainedConfig
    known = {*inspect.signature(kind.__init__).parameters, *base().to_dict(), *content}
    known = (known | set(kind.attribute_map)) - _INTERNAL
    for field in fields:
        if field not in known:
            near = _near(field, known) or f"Known: {', '.join(sorted(known))}."
            raise UnknownNameError(
                f"--arg: a field of {kind.__name__}, or architecture. Got {field!r}. {near}"
            )
    given = {kind.attribute_map.get(field, field): value for field, value in fields.items()}
    try:
        return kind.from_dict({**content, **given})
    except Exception as error:
        raise ArgumentError(
            f"model: the configuration of 'hf:{name}' is refused: {_line(error)}"
        ) from error


def _model_class(transformers: Any, config: Any, architecture: str | None) -> Any:
    asked = architecture or next(iter(config.architectures or ()), None)
    if asked is None:
        return next(_classes(transformers, config, _kinds(config)))
    found = getattr(transformers, str(asked), None)
    fits = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    if fits and isinstance(config, getattr(found, "config_class", None) or ()):
        return found
    mappings = [n for n in dir(transformers) if n.startswith("MODEL_") and n.endswith("_MAPPING")]
    kinds = [n.removeprefix("MODEL_FOR_").removesuffix("_MAPPING") for n in mappings]
    choices = {choice.__name__ for choice in _classes(transformers, config, kinds)}
    raise UnknownNameError(
        f"--arg architecture: a class of transformers for {type(config).__name__}. "
        f"Got {asked!r}. {one_of(str(asked), choices)}"
    )


def _kinds(config: Any) -> tuple[str, ...]:
    """Kinds of model in the order in which one is looked for."""
    first = _ENCODER_DECODERS if config.is_encoder_decoder else ()
    masked = () if getattr(config, "is_decoder", False) else ("MASKED_LM",)
    return (*first, *masked, *_KINDS, "MODEL")


def _classes(transformers: Any, config: Any, kinds: Iterable[str]) -> Iterator[Any]:
    for kind in kinds:
        name = "MODEL_MAPPING" if kind == "MODEL" else f"MODEL_FOR_{kind}_MAPPING"
        mapping = getattr(transformers, name, {})
        if type(config) in mapping:
            found = mapping[type(config)]
            yield found[0] if isinstance(found, tuple) else found


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _line(error: Exception) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
