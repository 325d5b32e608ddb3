"""Walks a model's trace and chooses the scale of each weight where its result is first needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from fanin.fills import derived
from fanin.flow import Operation, Trace, Value
from fanin.flow.moments import Forward, Incoming, ParameterMoments
from fanin.flow.moments.calling import on_cpu
from fanin.flow.residuals import Residual, scaled_end, weights_of
from fanin.flow.roles import LINEAR_MAPS
from fanin.flow.structure import following
from fanin.initializers import Initializer, constant, normal, ones, orthogonal, uniform, zeros
from fanin.model import Site
from fanin.model.wrappers import unwrapped
from fanin.planning import Derivation, Recipe, Rule, Step, make_plan, rule
from fanin.planning.predicting import drawn_moments
from fanin.recipes.chains import Aim, aims
from fanin.recipes.lecun import lecun
from fanin.recipes.links import weight_of
from fanin.recipes.scores import score_aims

__all__ = ["Solver"]

_RAW_STD = 0.02
"""Of raw parameters that are no linear map: positions, tokens. BERT's, which others took over."""

_SILENT = 1e-12  # second moments below: of signals that are 0 but for rounding

_ENDS = frozenset({"output", "cross_entropy", "nll_loss", "log_softmax"})


@dataclass(frozen=True, slots=True)
class Solver:
    """The rules of `auto` for a model and its trace; the fields are the recipe's options."""

    family: str
    residual: str
    balance: str
    head_std: float

    def __call__(self, model: nn.Module, trace: Trace) -> Derivation:
        """Rules by name for what the trace decides, after general ones for the rest."""
        general = _general_rules(trace)
        made = make_plan(model, Recipe("general", 1, general), seed=0).steps
        steps = {name: step for step in made for name in step.names}
        biases = _biases(trace)
        known = _known_buffers(model)
        with on_cpu():
            walk = first = _Walk(self, trace, steps, biases, known)
            found = {**aims(first.forward.finish(), biases), **score_aims(first.forward)}
            ways = first.measured_ways()
            if found or ways:
                walk = _Walk(self, trace, steps, biases, known, found, ways)
                walk.forward.finish()
        return Derivation((*general, *walk.rules), tuple(walk.forward.notes))


def _general_rules(trace: Trace) -> tuple[Rule, ...]:
    """For everything that has no scale to choose, and what the trace never meets."""

    def raw(site: Site) -> Initializer:
        users = {operation.name for operation in trace.users(site.name)}
        if "mul" in users:
            return ones()
        if len(site.shape) < 2:
            return zeros()
        # A weight that the model scales or masks before its layer takes it.
        is_map = bool(users) and users <= LINEAR_MAPS
        std = 1 / math.sqrt(math.prod(site.shape[1:])) if is_map else _RAW_STD
        return normal(mean=0.0, std=derived(std))

    forget = [
        rule(kind, ones(), parameter=name, part="f", label="forget gate")
        for kind, name in ((nn.LSTM, "bias_ih_*"), (nn.LSTMCell, "bias_ih"))
    ]
    return (rule(_is_parameter, raw, label="raw parameter"), *lecun().rules, *forget)


def _is_parameter(site: Site) -> bool:
    """Whether a value may be chosen: a buffer without values had some that were computed."""
    return not site.is_buffer


def _biases(trace: Trace) -> dict[str, str]:
    """The biases of layers, by the names of their weights."""
    found = {}
    for operation in trace.operations:
        weight = weight_of(trace, operation)
        names = weights_of(trace, operation) if weight is not None else ()
        for name in names:
            if name != weight and len(trace.parameters[name].shape) == 1:
                found[str(weight)] = name
    return found


def _known_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Scales, masks and tables; what a norm has seen of earlier data is no part of a start."""
    return {
        name: each
        for name, each in unwrapped(model).named_buffers()
        if not each.is_meta and not name.endswith(("running_mean", "running_var"))
    }


@dataclass(frozen=True, slots=True)
class _Way:
    """What second moments are multiplied by, on the way from a weight to where its target is.

    Args:
        there: from what the weight gives to the operand of the addition, or to the model's use of
            a lookup: a factor of a half, a gate.
        behind: from the sum to the stream that goes on, as in ``(x + f(x)) / sqrt(2)``.
    """

    there: float = 1.0
    behind: float = 1.0


@dataclass(slots=True)
class _Walk:
    """Chooses as the walk asks, and keeps what was chosen as rules."""

    options: Solver
    trace: Trace
    steps: Mapping[str, Step]
    biases: Mapping[str, str]
    buffers: Mapping[str, Tensor]
    aims: Mapping[str, Aim] = field(default_factory=dict)
    ways: Mapping[str, _Way] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    branches: dict[str, Residual] = field(init=False)
    scales: dict[str, Residual] = field(init=False)
    shifts: dict[str, float] = field(init=False)
    depth: int = field(init=False)
    start: float | None = field(init=False, default=None)
    asked: dict[str, float] = field(init=False, default_factory=dict)
    forward: Forward = field(init=False)

    def __post_init__(self) -> None:
        found = self.trace.residuals()
        self.depth = max((each.depth for each in found), default=1)
        self.branches, self.scales = {}, {}
        for each in found:  # a weight that ends several branches, by the first of them
            scale = self._last_scale(each)
            if scale is not None:
                self.scales.setdefault(scale, each)
            if each.last is not None:
                self.branches.setdefault(each.last, each)
        self.shifts = {
            self.biases[name]: math.sqrt(aim.of_bias * aim.second)
            for name, aim in self.aims.items()
            if aim.of_bias and self._is_inner(name)
        }
        self.forward = Forward(self.trace, self.choose, buffers=self.buffers)

    def choose(self, name: str, operation: Operation, incoming: Incoming) -> ParameterMoments:
        """Mean and std of a parameter, from what it meets."""
        step = self.steps[name]
        if name in self.scales:
            residual = self.scales[name]
            target = self._branch_target(name, residual)
            value = derived(math.sqrt(target))
            why = f"{self._place(residual)}, a factor of √{target:.3g}"
            return self._keep(name, constant(value), ParameterMoments(value, 0.0), why)
        if name in self.shifts:
            std = derived(self.shifts[name])
            made = ParameterMoments(0.0, std)
            return self._keep(name, normal(mean=0.0, std=std), made, "bias of a chain")
        if operation.name.startswith(_RECURRENT) or not _has_scale(step, incoming):
            return drawn_moments(step) or ParameterMoments(0.0, 0.0)
        std, why = self._std(name, step, incoming)
        std = derived(std)
        return self._keep(name, self._initializer(step, std), ParameterMoments(0.0, std), why)

    def measured_ways(self) -> dict[str, _Way]:
        """Those that are not 1, of a walk that has finished."""
        found = {}
        for name, target in self.asked.items():
            residual = self.scales.get(name) or self.branches[name]
            there = self._second(residual.branch) / target if target > 0 else 1.0
            # Else it is no matter of scale: a norm without factors, a function that is never 0.
            there = there if _REACH[0] < there < _REACH[1] else 1.0
            found[name] = _Way(there, self._behind(residual.operation.outputs[0]))
        for step in self.steps.values():
            users = self.trace.users(step.name)
            if step.layout is not None and step.layout.is_lookup and users:
                found[step.name] = _Way(self._behind(users[0].outputs[0]))
        return {
            name: way
            for name, way in found.items()
            if max(abs(math.log(way.there)), abs(math.log(way.behind))) > 0.01
        }

    def _behind(self, value: Value) -> float:
        """What constant factors make of a value's second moment."""
        before, after = self._second(value), self._second(scaled_end(self.trace, value))
        return after / before if before > _SILENT and after > _SILENT else 1.0

    def _second(self, value: Value) -> float:
        state = self.forward.states.get(value)
        return state.moments.second if state is not None else 0.0

    def _keep(
        self, name: str, content: Initializer, made: ParameterMoments, why: str
    ) -> ParameterMoments:
        self.rules.append(rule(name, content, label=why))
        return made

    def _std(self, name: str, step: Step, incoming: Incoming) -> tuple[float, str]:
        """The std of a weight, and why."""
        if step.layout is not None and step.layout.is_lookup:
            return self._table_std(name)
        kind, aim = self._aim(name)
        target = aim.second * (1 - aim.of_bias)
        terms, second = incoming.terms, incoming.moments.second
        if second <= _SILENT:
            return 0.0, f"{kind} of a silent signal"
        if kind == "layer" and target > _MOST**2 * second:
            std, why = _MOST / math.sqrt(terms), f"{_MOST:g} / √{terms:.4g}, the most"
        else:
            std = math.sqrt(target / (terms * second))
            why = f"√({target:.3g} / ({terms:.4g} · {second:.3g}))"
        fans = step.fans
        power = _BALANCE[self.options.balance]
        if power and fans is not None and kind == "layer":
            std *= (fans.fan_in / fans.fan_out) ** power
            why += f" · ({fans.fan_in:g} / {fans.fan_out:g})^{power:g}"
        return std, f"{kind}, {why}"

    def _aim(self, name: str) -> tuple[str, Aim]:
        """What a linear map should give, and what it is to the model."""
        if self._is_inner(name):
            return "layer", self.aims.get(name, Aim(1.0))
        if name in self.branches and self._last_scale(self.branches[name]) is None:
            residual = self.branches[name]
            return self._place(residual), Aim(self._branch_target(name, residual))
        return "head", Aim(self.options.head_std**2)

    def _place(self, residual: Residual) -> str:
        return f"branch {residual.depth} of {self.depth}"

    def _is_inner(self, name: str) -> bool:
        """Whether neither a residual stream nor a head says what a linear map should give."""
        ends_branch = name in self.branches and self._last_scale(self.branches[name]) is None
        return not (ends_branch or self._is_head(name))

    def _branch_target(self, name: str, residual: Residual) -> float:
        """Second moment that a residual branch should have where its scale is set."""
        state = self.forward.states.get(residual.skip)
        stream = state.moments.second if state is not None else 1.0
        if residual.depth == 1 or self.start is None:
            self.start = stream
        laws = {"scaled": stream / self.depth, "sqrt_depth": self.start, "constant": 0.0}
        added, way = laws[self.options.residual], self.ways.get(name, _Way())
        if added and way.behind < 1:  # what the factor takes away, branches have to bring
            count = sum(each.operation is residual.operation for each in self.trace.residuals())
            added = ((stream + count * added) / way.behind - stream) / count
        self.asked[name] = added
        return added / way.there

    def _last_scale(self, residual: Residual) -> str | None:
        """The factor for each feature that a branch ends with: of a norm, or a scale of its own."""
        last = residual.last
        if last is None:
            return None
        behind = residual.parameters[residual.parameters.index(last) + 1 :]
        ones = [name for name in behind if self.steps[name].moments == (1.0, 0.0)]
        return ones[-1] if ones else None

    def _is_head(self, name: str) -> bool:
        """Whether the model, or a loss, takes what the map gives; lookups in it do not count."""
        maps = [user for user in self.trace.users(name) if user.name in LINEAR_MAPS]
        found = following(self.trace, (value for user in maps for value in user.outputs))
        return bool(found) and _ENDS.issuperset(found)

    def _table_std(self, name: str) -> tuple[float, str]:
        """Of all lookups alike, since models add them: that of one which is a head too."""
        tables = [
            step
            for step in self.steps.values()
            if step.layout is not None and step.layout.is_lookup and self._is_head(step.name)
        ]
        if not tables:
            factor = math.sqrt(self.ways.get(name, _Way()).there)
            return 1 / factor, "lookup" if factor == 1 else f"lookup, 1 / {factor:.3g}"
        width = max(step.shape[-1] for step in tables)
        why = f"lookup like the head {tables[0].name!r}, {self.options.head_std:g} / √{width}"
        return self.options.head_std / math.sqrt(width), why

    def _initializer(self, step: Step, std: float) -> Initializer:
        layout = step.layout
        if std == 0:
            return zeros()
        is_matrix = layout is not None and layout.is_shaped and not layout.is_lookup
        if self.options.family == "orthogonal" and layout is not None and is_matrix:
            fans = layout.fans
            rows = fans.fan_out * fans.fan_in
            outs = math.prod(layout.shape[axis] for axis in layout.out_axes)
            return orthogonal(gain=derived(std * math.sqrt(max(outs, rows / outs))))
        if self.options.family == "uniform" and not (layout is not None and layout.is_lookup):
            bound = derived(std * math.sqrt(3))
            return uniform(low=-bound, high=bound)
        return normal(mean=0.0, std=std)


def _has_scale(step: Step, incoming: Incoming) -> bool:
    """Whether it is a linear map or a table, by its layout or by what it does."""
    layout = step.layout
    if layout is not None:
        return bool(layout.in_axes and layout.out_axes)
    return incoming.terms > 1


_MOST = 4.0  # gain of a layer: weights larger yet would be changed too little by any step
_REACH = (0.01, 4.0)  # of what lies between a branch's last map and the addition
_RECURRENT = ("lstm", "gru", "rnn")
_BALANCE = {"forward": 0.0, "geometric": 0.25, "backward": 0.5}
