"""A report as JSON and back, and as a data frame."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanin.errors import ArgumentError, FaninError
from fanin.probing.rows import Expected, Histogram, SignalRow, Statistics, WeightRow

if TYPE_CHECKING:
    from fanin.probing.signal_report import SignalReport

__all__ = ["report_dataframe", "report_from_json", "report_json"]

_VERSION = 1  # of the JSON


def report_json(report: SignalReport) -> str:
    """JSON text that any reader takes: what is not finite is the text nan, inf or -inf."""
    verdict = report.verdict
    head = {
        "fanin_report": _VERSION,
        "title": report.title,
        "recipe": report.recipe,
        "seed": report.seed,
        "loss": report.loss,
        "notes": report.notes,
        "verdict": {
            "kind": verdict.kind,
            "lines": verdict.lines,
            "suggestion": verdict.suggestion,
            "forward": asdict(verdict.forward) if verdict.forward else None,
            "backward": asdict(verdict.backward) if verdict.backward else None,
        },
    }
    rows, weights = (_lines(each) for each in (report.rows, report.weights))
    return f'{_dumps(head)[:-1]}, "rows": {rows}, "weights": {weights}}}'


def report_from_json(made: type[SignalReport], text: str) -> SignalReport:
    """The report that `report_json` wrote; the verdict is judged anew."""
    try:
        data = json.loads(text)
        if data["fanin_report"] != _VERSION:
            raise ArgumentError(
                f"from_json: a report of version {_VERSION}. Got version {data['fanin_report']}. "
                "Read it with the fanin that wrote it."
            )
        return made(
            rows=tuple(_signal_row(row) for row in data["rows"]),
            weights=tuple(_weight_row(row) for row in data["weights"]),
            loss=_number(data["loss"]),
            title=data["title"],
            recipe=data["recipe"],
            seed=data["seed"],
            notes=tuple(data["notes"]),
        )
    except ArgumentError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArgumentError(
            f"from_json: the text that to_json wrote. Got {error!r}. Write the report again."
        ) from error


def report_dataframe(rows: Sequence[SignalRow]) -> Any:
    """A row for each call; statistics of gradient and input have their name before them."""
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise FaninError(
            "to_dataframe: a data frame is one of pandas. Got an environment without it. "
            "Install it: pip install 'fanin[report]'."
        ) from error
    return pandas.DataFrame([_flat(row) for row in rows])


def _flat(row: SignalRow) -> dict[str, Any]:
    own = ("index", "name", "kind", "call", "depth", "is_layer")
    flat = {name: getattr(row, name) for name in own}
    parts = {"": row.output, "gradient_": row.gradient, "input_": row.input}
    for prefix, statistics in parts.items():
        for field in fields(Statistics):
            if field.name != "histogram":
                flat[prefix + field.name] = getattr(statistics, field.name, None)
    for field in fields(Expected):
        flat[f"expected_{field.name}"] = getattr(row.expected, field.name, None)
    return flat


def _lines(rows: Sequence[SignalRow] | Sequence[WeightRow]) -> str:
    """A JSON list with a line for each row."""
    return "[\n" + ",\n".join(_dumps(asdict(row)) for row in rows) + "\n]"


def _dumps(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    """Numbers that JSON does not know as texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _number(value: float | str | None) -> float | None:
    """The number that a text names."""
    return float(value) if isinstance(value, str) else value


def _signal_row(data: dict[str, Any]) -> SignalRow:
    parts = {name: _statistics(data[name]) for name in ("output", "gradient", "input")}
    expected = data.get("expected")
    if expected is not None:
        expected = Expected(**{name: float(value) for name, value in expected.items()})
    return SignalRow(**{**data, **parts, "expected": expected})


def _weight_row(data: dict[str, Any]) -> WeightRow:
    names = ("expected_std", "std", "rms", "gradient_rms", "ratio")
    numbers = {name: _number(data[name]) for name in names}
    shape, histogram = tuple(data["shape"]), _histogram(data["histogram"])
    return WeightRow(**{**data, **numbers, "shape": shape, "histogram": histogram})


def _statistics(data: dict[str, Any] | None) -> Statistics | None:
    if data is None:
        return None
    names = ("mean", "std", "rms", "abs_max", "zeros", "saturated")
    numbers = {name: _number(data[name]) for name in names}
    shape, histogram = tuple(data["shape"]), _histogram(data["histogram"])
    return Statistics(**{**data, **numbers, "shape": shape, "histogram": histogram})


def _histogram(data: dict[str, Any] | None) -> Histogram | None:
    if data is None:
        return None
    return Histogram(float(data["low"]), float(data["high"]), tuple(data["counts"]))
