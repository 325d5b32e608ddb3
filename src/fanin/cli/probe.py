"""`fanin probe`: do signals and gradients survive the depth of a model?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fanin.cli.inputs import InputOptions
from fanin.cli.options import (
    Arguments,
    Batch,
    DtypeName,
    InputFile,
    InputShape,
    Length,
    Model,
    Overrides,
    SeedOfAll,
    StartRecipe,
    TrainMode,
)
from fanin.cli.passing import mode_note, told_pass
from fanin.cli.plans import Request, checked_seed, seed_torch
from fanin.cli.reports import STDOUT, ReportFiles, print_json, print_reports
from fanin.cli.starts import start, start_notes, start_text, title
from fanin.errors import ArgumentError, FaninError
from fanin.initializers import BUILDERS
from fanin.probing.probe import probe as probe_model
from fanin.probing.signal_report import SignalReport
from fanin.recipes.registry import RECIPES

__all__ = ["ProbeCommand", "probe"]

_NOT_HEALTHY = 1


class ProbeCommand(TyperCommand):
    """Lets `--json` go without a file, which it takes for one only if it ends in .json."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the sign for stdout where no file follows."""
        following = [*args[1:], ""]
        pairs = (
            (arg, str(STDOUT)) if arg == "--json" and not _is_json_file(after) else (arg,)
            for arg, after in zip(args, following, strict=True)
        )
        return super().parse_args(ctx, [text for pair in pairs for text in pair])


def probe(
    model: Model,
    recipe: StartRecipe = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="INIT",
            help="One initializer for all weights of two dims or more, as in 'normal(std=1)': on "
            "top of --recipe; without one biases are zero, norms the identity, and the rest as "
            "the constructor makes it.",
        ),
    ] = None,
    overrides: Overrides = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="R1,R2",
            help="Recipes to put side by side, with what --recipe and --init say if given.",
        ),
    ] = None,
    depth: Annotated[int | None, typer.Option(help="--arg depth=…")] = None,
    width: Annotated[
        int | None,
        typer.Option(help="--arg width=…; for zoo:mlp also --arg in_features=…, unless given."),
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="--arg activation=…; none for zoo:mlp without any.")
    ] = None,
    in_features: Annotated[int | None, typer.Option(help="--arg in_features=…")] = None,
    arguments: Arguments = None,
    seed: SeedOfAll = None,
    dtype: DtypeName = None,
    batch: Batch = None,
    input_shape: InputShape = None,
    length: Length = None,
    input_file: InputFile = None,
    train: TrainMode = True,
    backward: Annotated[
        bool, typer.Option("--backward/--no-backward", help="Also measure gradients.")
    ] = True,
    stop_at_nonfinite: Annotated[
        bool,
        typer.Option("--stop-at-nonfinite", help="End after the first call that gives NaN or inf."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--every", help="Show every call, and every parameter.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write one page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="[FILE.json]", help="Write JSON; without a file print only that."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 unless every verdict is healthy.")
    ] = False,
) -> None:
    """Run a batch through a model and back, and show what becomes of signals and gradients.

    Nothing is trained and nothing but the files asked for is written; those are replaced where
    they exist.

    Exit status: 0, 1 for a verdict that is not healthy with --strict, 2 for bad input.
    """
    try:
        files = ReportFiles(html, png, json)
        files.check()
        shorthand = {
            "depth": depth,
            "width": width,
            "activation": activation,
            "in_features": in_features,
        }
        asked = Request(
            model,
            recipe,
            checked_seed(seed),
            overrides or (),
            _all_arguments(model, shorthand, arguments or []),
            dtype,
            init,
            InputOptions(input_file, batch, input_shape, length),
        )
        passing = _Pass(train, backward, stop_at_nonfinite)
        reports = [passing.report(request) for request in _requests(asked, compare)]
        written = files.write(reports)
    except FaninError as error:
        raise ArgumentError(str(error)) from error  # exit status 1 means not healthy
    if json == STDOUT:
        print_json(reports)
    else:
        print_reports(reports, every=every)
        typer.echo("\n".join(written), nl=bool(written))
    if strict and not all(report.verdict.is_healthy for report in reports):
        raise typer.Exit(_NOT_HEALTHY)


def _all_arguments(
    model: str, shorthand: Mapping[str, object], arguments: Sequence[str]
) -> list[str]:
    """What `--arg` says, and what its shorthands say."""
    found = [f"{key}={value}" for key, value in shorthand.items() if value is not None]
    given = {text.partition("=")[0] for text in (*arguments, *found)}
    if model == "zoo:mlp" and shorthand["width"] is not None and "in_features" not in given:
        found.append(f"in_features={shorthand['width']}")  # the first layer is like the others
    return [*arguments, *found]


def _requests(asked: Request, compare: str | None) -> list[Request]:
    """What was asked for; then the same model from each of the starts to compare."""
    if compare is None:
        return [asked]
    starts = [start.strip() for start in re.split(r",(?![^()]*\))", compare)]
    if not all(starts):
        raise ArgumentError(
            f"--compare: recipes or initializers with commas. Got {compare!r}. "
            "As in --compare xavier,kaiming."
        )
    first = [] if asked.recipe is None and asked.init is None else [asked]
    found = [*first, *(_started(asked, start) for start in starts)]
    if len(found) < 2:
        raise ArgumentError(
            f"--compare: at least two, --recipe and --init included. Got {compare!r} alone."
        )
    return found


def _started(asked: Request, start: str) -> Request:
    """From a recipe, or from one initializer if only an initializer is called so."""
    name = start.partition("(")[0].strip()
    if name in BUILDERS and name not in RECIPES:
        return asked._replace(recipe=None, init=start)
    return asked._replace(recipe=start, init=None)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What every model that is compared goes through."""

    train: bool
    backward: bool
    stop_at_nonfinite: bool

    def report(self, request: Request) -> SignalReport:
        """From building the model to the verdict."""
        begun = start(request)
        model, inputs = begun.model.train(self.train), begun.inputs
        seed_torch(request.seed)  # for dropout
        advice = ", and --no-backward leaves the backward pass out"
        with told_pass(model, inputs, advice=advice):
            found = probe_model(
                model,
                inputs.value,
                backward=self.backward,
                plan=begun.plan,
                stop_at_nonfinite=self.stop_at_nonfinite,
            )
        return replace(
            found,
            title=title(request),
            recipe=start_text(request, begun.plan),
            seed=request.seed,
            notes=(
                mode_note(inputs.text, train=self.train),
                *start_notes(request),
                *found.notes,
            ),
        )


def _is_json_file(text: str) -> bool:
    return text == str(STDOUT) or (text.endswith(".json") and not text.startswith("hf:"))
