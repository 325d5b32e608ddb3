"""MMEngine's ``init_cfg`` dictionaries as recipes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.fills import derived, truncated_moments
from fanin.gains import calculate_gain
from fanin.initializers import (
    Initializer,
    constant,
    kaiming_normal,
    kaiming_uniform,
    lecun_uniform,
    normal,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from fanin.initializers.initializer import check_numbers
from fanin.planning import Recipe, Rule, keep, rule
from fanin.recipes.registry import get_recipe

__all__ = ["from_init_cfg"]

Cfg = Mapping[str, Any]


def from_init_cfg(init_cfg: Cfg | Sequence[Cfg], *, base: str | Recipe | None = None) -> Recipe:
    """The recipe that an ``init_cfg`` of MMEngine describes.

    As there, ``layer`` names the classes whose ``weight`` and ``bias`` are set, ``override`` the
    attribute below which all of them are, later entries win, and everything else stays as it is.
    On purpose not as there: fans are the module's own (of one group, not all; transposed
    convolutions the right way round), a class is found under all of its bases, not the nearest
    alone, and an entry without ``layer`` and ``override``, which does nothing there, is refused.

    Args:
        init_cfg: one dictionary or several, of type Constant, Xavier, Normal, TruncNormal, Uniform,
            Kaiming or Caffe2Xavier.
        base: a recipe, or its name, for what no entry sets; None keeps that as it is.

    Returns:
        A recipe; the rules carry the type as label.

    Raises:
        UnknownNameError: for an unknown type or key.
        ArgumentError: for a value that the key does not take, and for Pretrained.

    Example:
        >>> import fanin
        >>> from torch import nn
        >>> recipe = from_init_cfg({"type": "Normal", "layer": "Linear", "std": 0.01, "bias": 1})
        >>> plan = fanin.plan(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2)), recipe, seed=0)
        >>> [str(step.fill) for step in plan.steps]
        ['Normal(mean=0, std=0.01)', 'Constant(value=1)', 'None', 'None']

    Source: MMEngine, mmengine.model.weight_init and its page "Initialization".
    """
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise ArgumentError(f"init_cfg: a dictionary, or a list of them. Got {init_cfg!r}.")
    rules = [one for number, cfg in enumerate(entries) for one in _rules(cfg, f"entry {number}")]
    if base is not None:
        known = get_recipe(base) if isinstance(base, str) else base
        return known + Recipe("init_cfg", 1, tuple(rules))
    untouched = rule("**", keep(), optional=True, label="not in init_cfg")
    return Recipe("init_cfg", 1, (untouched, *rules))


def _rules(cfg: Cfg, where: str) -> list[Rule]:
    """The rules of one entry: those for its layers, then those of its overrides."""
    _check_table(cfg, where)
    own = {key: value for key, value in cfg.items() if key not in ("layer", "override")}
    weight, bias = _contents(own, where, also=("layer", "override"))
    layers = _names(cfg.get("layer", ()), "layer", where)
    overrides = cfg.get("override", ())
    overrides = [overrides] if isinstance(overrides, Mapping) else overrides
    if not isinstance(overrides, Sequence):
        raise ArgumentError(
            f"init_cfg: override is a dictionary, or a list of them. Got {overrides!r} for {where}."
        )
    if not layers and not overrides:
        raise ArgumentError(
            f"init_cfg: an entry has a layer or an override, or it sets nothing. Got {dict(cfg)} "
            f'for {where}. Write for instance layer="Conv2d".'
        )
    label = f"init_cfg {cfg['type']}"
    rules = []
    if layers:
        rules = [
            rule(None, weight, type_name=layers, parameter="weight", label=label),
            rule(None, bias, type_name=layers, parameter="bias", label=f"{label}, bias"),
        ]
    for override in overrides:
        rules += _override_rules(override, own, f"an override of {where}")
    return rules


def _override_rules(override: Cfg, own: Cfg, where: str) -> list[Rule]:
    """Everything below one attribute; an override that only names it repeats its entry."""
    _check_table(override, where)
    name = override.get("name")
    if not _is_name(name):
        raise ArgumentError(
            f"init_cfg: an override names an attribute. Got {dict(override)} for {where}. "
            'Write name="head".'
        )
    stated = {key: value for key, value in override.items() if key != "name"} or own
    weight, bias = _contents(stated, where, also=("name",))
    label = f"init_cfg {stated['type']} of {name}"
    return [
        rule(f"{name}.**", weight, parameter="weight", label=label),
        rule(f"{name}.**", bias, parameter="bias", optional=True, label=f"{label}, bias"),
    ]


def _contents(cfg: Cfg, where: str, *, also: tuple[str, ...]) -> tuple[Initializer, Initializer]:
    """What weights and biases get, by the type and the numbers; ``also`` are keys read before."""
    kind = cfg.get("type")
    if kind == "Pretrained":
        raise ArgumentError(
            f"init_cfg: a recipe says how to draw. Got type Pretrained for {where}. Load that "
            "checkpoint with load_state_dict(strict=False), and pass what it returns as only=."
        )
    if not isinstance(kind, str) or kind not in _WEIGHTS:
        raise UnknownNameError(
            f"init_cfg: type is one of a few. Got {kind!r} for {where}. "
            f"{one_of(str(kind), _WEIGHTS)}"
        )
    numbers = {key: value for key, value in cfg.items() if key not in ("type", *_BIAS)}
    takes = inspect.signature(_WEIGHTS[kind]).parameters
    for key in numbers:
        if key not in takes:
            known = one_of(str(key), [*takes, *_BIAS, *also])
            raise UnknownNameError(f"init_cfg: a key of {kind}. Got {key!r} for {where}. {known}")
    if kind == "Constant" and "val" not in numbers:
        raise ArgumentError(f"init_cfg: Constant has a val. Got none for {where}. Write val=1.")
    try:
        return _WEIGHTS[kind](**numbers), _bias(cfg)
    except ArgumentError as error:
        raise type(error)(f"{error}\nThis is in {where} of an init_cfg.") from error


def _bias(cfg: Cfg) -> Initializer:
    """A constant, or the one whose sigmoid is ``bias_prob``."""
    probability = cfg.get("bias_prob")
    if probability is None:
        return constant(cfg.get("bias", 0))
    if not (isinstance(probability, float) and 0 < probability < 1):
        raise ArgumentError(
            f"init_cfg: bias_prob lies between 0 and 1. Got {probability!r}. Write bias_prob=0.01."
        )
    return constant(derived(math.log(probability / (1 - probability))))


def _constant(val: float) -> Initializer:
    return constant(val)


def _xavier(gain: float = 1, distribution: str = "normal") -> Initializer:
    uniformly = _is_uniform(distribution)
    return xavier_uniform(gain=gain) if uniformly else xavier_normal(gain=gain)


def _normal(mean: float = 0, std: float = 1) -> Initializer:
    return normal(mean=mean, std=std)


def _uniform(a: float = 0, b: float = 1) -> Initializer:
    return uniform(low=a, high=b)


def _trunc_normal(mean: float = 0, std: float = 1, a: float = -2, b: float = 2) -> Initializer:
    """MMEngine cuts at a and b themselves, and std is that of the normal before."""
    check_numbers("TruncNormal", mean=mean, std=std, a=a, b=b)
    if std <= 0:
        raise ArgumentError(f"TruncNormal: std is positive. Got {std}. Use Constant for no spread.")
    bounds = ((a - mean) / std, (b - mean) / std)
    # Rounded where the moments are: a cut far out is to leave the std as it was written.
    share = round(truncated_moments(*bounds)[1], 12) if bounds[0] < bounds[1] else 1.0
    return trunc_normal(mean=mean, std=std * share, bounds=bounds)


def _kaiming(
    a: float = 0,
    mode: str = "fan_out",
    nonlinearity: str = "relu",
    distribution: str = "normal",
) -> Initializer:
    """With torch's gain: the one that the numbers in such a file were chosen for."""
    if nonlinearity in ("relu", "leaky_relu"):  # torch's gain is the one of any other table
        build = kaiming_uniform if _is_uniform(distribution) else kaiming_normal
        slope = a if nonlinearity == "leaky_relu" else None
        return build(nonlinearity=nonlinearity, param=slope, mode=mode)
    scale = calculate_gain(nonlinearity, a) ** 2
    form = "uniform" if _is_uniform(distribution) else "normal"
    return variance_scaling(scale, mode=mode, distribution=form)


def _caffe2_xavier() -> Initializer:
    """Kaiming of a linear function: U(±sqrt(3 / fan_in))."""
    return lecun_uniform()


def _is_uniform(distribution: str) -> bool:
    if distribution not in ("normal", "uniform"):
        raise UnknownNameError(
            f"init_cfg: distribution is normal or uniform. Got {distribution!r}."
        )
    return distribution == "uniform"


def _names(value: object, key: str, where: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(_is_name(name) for name in names):
        raise ArgumentError(
            f"init_cfg: {key} is a name, or a list of them. Got {value!r} for {where}."
        )
    return tuple(names)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def _check_table(cfg: object, where: str) -> None:
    if not isinstance(cfg, Mapping):
        raise ArgumentError(f"init_cfg: a dictionary was expected. Got {cfg!r} for {where}.")


_BIAS = ("bias", "bias_prob")
_WEIGHTS: dict[str, Callable[..., Initializer]] = {
    "Caffe2Xavier": _caffe2_xavier,
    "Constant": _constant,
    "Kaiming": _kaiming,
    "Normal": _normal,
    "TruncNormal": _trunc_normal,
    "Uniform": _uniform,
    "Xavier": _xavier,
}
