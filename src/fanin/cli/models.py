"""The model that a command names: `zoo:alexnet`, `hf:gpt2`, or `package.module:callable`."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import torch
from torch import nn

from fanin.cli.hugging_face import hugging_face_builder
from fanin.errors import ArgumentError, PlanError, UnknownNameError, one_of
from fanin.model.construction import deferred
from fanin.zoo import MODELS

__all__ = ["build_model", "find_callable", "parse_arguments"]

_WORDS = {"true": True, "false": False, "none": None}


def build_model(spec: str, arguments: dict[str, Any], *, with_values: bool = False) -> nn.Module:
    """The module that ``spec`` names, built with the arguments.

    Without values its parameters are deferred, where its constructor allows that.

    Raises:
        ArgumentError: when nothing has that name, it does not take the arguments, or it does not
            make a module.
        PlanError: when it raises.
    """
    build = _builder(spec, arguments)
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results
            model = build() if with_values else _deferred_if_possible(build)
    except Exception as error:
        raise PlanError(f"model: {spec!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model: a callable that returns an nn.Module. Got {type(model).__name__} "
            f"from {spec!r}."
        )
    return model


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """``["depth=3", "activation=gelu"]`` to keyword arguments.

    A value is a Python literal (number, string, tuple, list, dict), true, false or none; anything
    else is text.

    Example:
        >>> parse_arguments(["depth=3", "activation=gelu", "bias=false"])
        {'depth': 3, 'activation': 'gelu', 'bias': False}
    """
    arguments = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name.isidentifier()):
            raise ArgumentError(f"--arg: written key=value. Got {text!r}. As in --arg depth=3.")
        if name in arguments:
            raise ArgumentError(f"--arg: one value for each key. Got {name!r} twice.")
        arguments[name] = _literal(value)
    return arguments


def _builder(spec: str, arguments: dict[str, Any]) -> Callable[[], Any]:
    if spec.startswith("hf:") and spec != "hf:":
        return hugging_face_builder(spec.removeprefix("hf:"), arguments)
    build = find_callable(spec)
    _check_arguments(spec, build, arguments)
    return partial(build, **arguments)


def _deferred_if_possible(build: Callable[[], Any]) -> Any:
    """The model with deferred parameters; with real ones where its constructor reads them."""
    state = torch.get_rng_state()
    try:
        with deferred():
            return build()
    except Exception:
        torch.set_rng_state(state)
        return build()


def find_callable(spec: str) -> Callable[..., Any]:
    """What ``zoo:NAME`` or ``package.module:callable`` names.

    Raises:
        ArgumentError: when nothing has that name.
        PlanError: when importing its module raises.
    """
    place, separator, name = spec.partition(":")
    if not (separator and place and name):
        known = ", ".join(f"zoo:{model}" for model in sorted(MODELS))
        raise ArgumentError(
            f"model: written zoo:NAME, hf:TYPE or package.module:callable. Got {spec!r}. "
            f"In the zoo: {known}."
        )
    if place == "zoo":
        if name not in MODELS:
            raise UnknownNameError(f"model: one of the zoo's. Got {name!r}. {one_of(name, MODELS)}")
        return MODELS[name]
    return _imported(spec, place, name)


def _imported(spec: str, place: str, name: str) -> Callable[..., Any]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own file, as with python -m
    try:
        target: Any = importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"model: {place!r} is a module that can be imported from here. Got {error} for "
            f"{spec!r}. Run the command where the file is, or install the package."
        ) from error
    except Exception as error:
        raise PlanError(
            f"model: importing {place!r} raised {type(error).__name__}: {error}"
        ) from error
    for attribute in name.split("."):
        if not hasattr(target, attribute):
            known = one_of(attribute, (n for n in vars(target) if not n.startswith("_")))
            raise UnknownNameError(f"model: {place!r} has the callable. Got {name!r}. {known}")
        target = getattr(target, attribute)
    if isinstance(target, nn.Module) or not callable(target):
        raise ArgumentError(
            f"model: a callable that returns an nn.Module. Got {type(target).__name__} for "
            f"{spec!r}. Name a class or a function."
        )
    found: Callable[..., Any] = target
    return found


def _check_arguments(spec: str, build: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # some builtins have none; the call itself will tell
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ArgumentError(
            f"model: {spec!r} takes {signature}: {error}. Pass arguments by --arg key=value."
        ) from error


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
