"""Which weights a signal meets one after the other, where the modules alone say so for certain."""

from __future__ import annotations

import dis
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fanin.auditing.evidence import Evidence
from fanin.auditing.provenance import code_names
from fanin.auditing.weights import Weight
from fanin.errors import FaninError
from fanin.gains import gain
from fanin.model import module_type
from fanin.recipes.families import is_norm

__all__ = ["Link", "chains", "has_norms"]

Layer = nn.Linear | _ConvNd


@dataclass(frozen=True, eq=False)
class Link:
    """A weight of a chain, and what it and the function after it do to the rms of a signal.

    Args:
        weight: of a linear layer or a convolution.
        least: smallest factor that the function which follows can bring.
        most: largest.
        after: the function in words.
        is_bounded: whether it cuts large signals off, as tanh.
    """

    weight: Weight
    least: float
    most: float
    after: str
    is_bounded: bool

    @property
    def scale(self) -> float:
        """rms of the layer's outputs for inputs of rms 1: ``std · sqrt(fan_in)``."""
        return self.weight.numbers.std * math.sqrt(fan_in(self.weight))

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest factor of layer and function together."""
        return self.scale * self.least, self.scale * self.most


def chains(evidence: Evidence) -> tuple[tuple[Link, ...], ...]:
    """The runs of linear layers and convolutions that feed each other and nothing else.

    A model has some only if its modules and code show that nothing else can happen: no norms, no
    layers of other kinds with weights, and every `forward` that is not torch's free of
    arithmetic, so that no branch is added and nothing is rescaled. The order is that of
    registration, sizes fit, and a chain ends where they do not.
    """
    if evidence.model is None or not _is_plain(evidence):
        return ()
    weights = {id(w.module): w for w in evidence.weights if w.attribute == "weight"}
    found: list[list[Link]] = [[]]
    steps = list(_steps(evidence))
    for place, (layer, between, text) in enumerate(steps):
        weight = weights.get(id(layer))
        follower = steps[place + 1][0] if place + 1 < len(steps) else None
        is_last = follower is None or not _feeds(layer, follower)
        link = _link(weight, between, "" if is_last else text) if weight else None
        if link is None:
            found.append([])
            continue
        found[-1].append(link)
        if is_last:
            found.append([])
    return tuple(tuple(links) for links in found if links)


def has_norms(evidence: Evidence) -> bool:
    """Whether any module of the model sets the scale of what passes through it."""
    return any(
        is_norm(module) or "norm" in module_type(module).__name__.lower()
        for name, module in evidence.modules.items()
        if "parametrizations" not in name.split(".")
    )


def fan_in(weight: Weight) -> float:
    """Terms that one output sums; of a transposed convolution, on average."""
    layout, module = weight.layout, weight.module
    fans = layout.fans.fan_in if layout is not None and not layout.parts else math.nan
    return fans / math.prod(module.stride) if isinstance(module, _ConvTransposeNd) else fans


# Where torch keeps what may lie between layers and leaves the scale alone, or nearly.
_PASSING = tuple(
    f"torch.nn.modules.{name}"
    for name in ("dropout", "flatten", "padding", "pixelshuffle", "pooling", "upsampling")
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_BOUNDED = (nn.Tanh, nn.Hardtanh, nn.Softsign, nn.ReLU6)
# Their outputs have a mean far from 0, so that their size says nothing of what is left of inputs.
_SHIFTING = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)

_RELU = 1 / math.sqrt(2)  # rms of relu(x) for normal x of rms 1
_MIXING = frozenset(
    {"add", "add_", "cat", "concat", "concatenate", "stack", "mul", "mul_", "div", "div_", "sin"}
    | {"normalize", "layer_norm", "batch_norm", "group_norm", "rms_norm", "instance_norm", "cos"}
    | {"einsum", "matmul", "bmm", "mm", "softmax", "sigmoid", "addmm", "baddbmm", "softplus"}
)


def _is_plain(evidence: Evidence) -> bool:
    if has_norms(evidence):
        return False
    return all(
        _is_known(module)
        for name, module in evidence.modules.items()
        if "parametrizations" not in name.split(".")
    )


def _is_known(module: nn.Module) -> bool:
    kind = module_type(module)
    if not _is_torchs(kind):
        return not module._parameters and _passes_on(kind)
    if isinstance(module, (*_CONTAINERS, nn.Linear, _ConvNd)) or _passes(module):
        return True
    is_function = kind.__module__ == "torch.nn.modules.activation"
    return is_function and not isinstance(module, nn.MultiheadAttention)


def _passes(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or module_type(module).__module__ in _PASSING


def _is_torchs(kind: type) -> bool:
    return kind.__module__.startswith("torch.")


def _passes_on(kind: type[nn.Module]) -> bool:
    """Whether a class's forward only calls: no sums, products or branches that meet again."""
    code = getattr(kind.forward, "__code__", None)
    if not isinstance(code, CodeType) or _MIXING & code_names(code):
        return False
    return not any(_has_arithmetic(each) for each in _all_code(code))


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _all_code(each)


def _has_arithmetic(code: CodeType) -> bool:
    return any(step.opname == "BINARY_OP" for step in dis.get_instructions(code))


def _steps(evidence: Evidence) -> Iterator[tuple[Layer, list[nn.Module], str]]:
    """Each layer, the modules up to the next one, and what their container calls itself."""
    layer: Layer | None = None
    between: list[nn.Module] = []
    place = ""
    for name, module in evidence.modules.items():
        if isinstance(module, nn.Linear | _ConvNd):
            if layer is not None:
                yield layer, between, _called(evidence.modules, place, name)
            layer, between, place = module, [], name
        elif not module._modules:
            between.append(module)
    if layer is not None:
        yield layer, between, ""


def _called(modules: Mapping[str, nn.Module], name: str, following: str) -> str:
    """``"nothing"`` between two layers of nested Sequentials; ``"relu"`` where the code says so."""
    shared = []
    for one, other in zip(name.split("."), following.split("."), strict=False):
        if one != other:
            break
        shared.append(one)
    above = [*_between(name, len(shared)), *_between(following, len(shared)), ".".join(shared)]
    owners = [modules[each] for each in above if each in modules]
    if owners and all(isinstance(owner, nn.Sequential) for owner in owners):
        return "nothing"
    while shared and isinstance(modules.get(".".join(shared)), nn.ModuleList | nn.ModuleDict):
        shared.pop()
    kind = module_type(modules[".".join(shared)]) if ".".join(shared) in modules else nn.Module
    code = getattr(kind.forward, "__code__", None)
    names = code_names(code) if isinstance(code, CodeType) else frozenset()
    return "relu" if names & {"relu", "relu_"} else "unknown"


def _between(name: str, shared: int) -> list[str]:
    """The containers of a module below the first components of its name."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(shared + 1, len(parts))]


def _link(weight: Weight, between: list[nn.Module], text: str) -> Link | None:
    """None where nobody knows what follows, or what the layer holds."""
    if math.isnan(fan_in(weight)) or weight.numbers.not_finite or weight.numbers.is_constant:
        return None
    functions = [m for m in between if not isinstance(m, _CONTAINERS) and not _passes(m)]
    if any(isinstance(each, _SHIFTING) for each in functions) or len(functions) > 1:
        return None
    if functions:
        function = functions[0]
        if not _is_torchs(module_type(function)):
            return None
        try:
            factor = 1 / gain(function)
        except FaninError:
            return None
        bounded = isinstance(function, _BOUNDED)
        most = max(factor, 1.0) if bounded else factor
        return Link(weight, factor, most, type(function).__name__, bounded)
    least = 1.0 if text in ("nothing", "") else _RELU
    most = _RELU if text == "relu" else 1.0
    words = {"nothing": "no function", "": "no function", "relu": "ReLU"}.get(text, "some function")
    return Link(weight, least, most, words, False)


def _feeds(layer: Layer, follower: Layer) -> bool:
    """Whether the outputs of a layer have the size that the next one takes."""
    made = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if isinstance(follower, nn.Linear):
        taken = follower.in_features
        # From a convolution through a flattening, or a pixel shuffle.
        return taken == made or (isinstance(layer, _ConvNd) and taken % made == 0)
    return follower.in_channels == made or isinstance(layer, nn.Linear)
