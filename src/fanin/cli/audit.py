"""`fanin audit`: what is wrong with a model's start?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from torch import nn
from torch.nn.parameter import is_lazy

from fanin.auditing import CHECKS, Audit, Configuration, audit_checkpoint
from fanin.auditing import audit as audit_model
from fanin.auditing.configuration import find_configuration, load_configuration
from fanin.auditing.finding import Severity
from fanin.auditing.selection import chosen_checks
from fanin.auditing.source import Source, source_of
from fanin.cli.files import check_target, whole_file
from fanin.cli.inputs import InputOptions, Inputs, make_inputs
from fanin.cli.loading import is_checkpoint, load_checkpoint
from fanin.cli.models import find_callable
from fanin.cli.options import Arguments, DtypeName, Overrides
from fanin.cli.passing import pass_progress
from fanin.cli.plans import Request, checked_seed, seed_torch
from fanin.cli.starts import start, start_notes, start_text, title
from fanin.errors import ArgumentError, FaninError, ProbeError, UnknownNameError, one_of

__all__ = ["audit"]

_FAILS = 1
_NOTHING = Inputs(None, "")
_COLOURS: dict[Severity, str] = {
    "error": typer.colors.RED,
    "warning": typer.colors.YELLOW,
    "note": typer.colors.BLUE,
}


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="zoo:NAME, hf:TYPE, hf:CONFIG.json, or package.module:callable; or a "
            ".safetensors file or a folder of them, read without a model."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="As for init. Without it and --init: as the constructor makes it.",
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="INIT", help="One initializer, as for probe.")
    ] = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of weights and inputs, in [0, 2**64). Without it a fresh one is drawn."),
    ] = None,
    dtype: DtypeName = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Load these values: a .safetensors file, a folder or an index of them, or a .pt. "
            "With --recipe they are compared with its plan."
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(metavar="3,224,224", help="Of one input, drawn from N(0, 1)."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Inputs to draw. Without this and the other two nothing goes in."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Of a text, for hf: models that take token ids.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", help="A .npy, .pt, .safetensors (the whole batch) or image file instead."
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train/--eval", help="Mode of the model.  [default: train]", show_default=False
        ),
    ] = True,
    output_format: Annotated[
        str, typer.Option("--format", metavar="text|json|sarif|github", help="Of the findings.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Write the findings to a file, and print the summary.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Only these: FAN104,FAN2 or names. Repeatable."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="CODES", help="Not these. Repeatable.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail like errors.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with [tool.fanin.audit].  [default: the nearest pyproject.toml]"
        ),
    ] = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="Read no configuration.")] = False,
) -> None:
    """Find what is wrong with a model's start.

    The weights are read; with --batch, --input-shape, --length or --input a batch goes through the
    model and back as well. `fanin explain CODE` shows the page of a finding.

    Exit status: 0, 1 for findings that fail (errors; with --strict warnings too), 2 for bad input.
    """
    try:
        _check_format(output_format)
        if out is not None:
            check_target(out, force=True)
        settings = _settings(config, isolated=isolated)
        settings = replace(settings, strict=settings.strict or strict)
        checks = _Checks(
            _codes("--select", select) if select else settings.select,
            (*settings.ignore, *_codes("--ignore", ignore or ())),
        )
        typed = InputOptions(input_file, batch, input_shape, length)
        if is_checkpoint(model):
            needless = (recipe, init, overrides, arguments, seed, dtype, checkpoint)
            _check_alone(model, any(each is not None for each in needless), typed)
            found = audit_checkpoint(model, select=checks.select, ignore=checks.ignore)
            found, source = replace(found, title=model), Source.at(model)
        else:
            request = Request(
                model,
                recipe,
                checked_seed(seed),
                overrides or (),
                arguments or (),
                dtype,
                init,
            )
            found = _audited(request, typed, checks, checkpoint=checkpoint, train=train)
            if seed is None:
                found = replace(found, notes=(*found.notes, f"again by --seed {request.seed}"))
            source = _source(model)
        found = settings.applied(found)
        if out is not None:
            with whole_file(out, force=True) as file:
                file.write(_FORMATS[output_format](found, source).encode())
    except FaninError as error:
        raise ArgumentError(str(error)) from error  # exit status 1 means findings
    if out is not None:
        typer.echo(f"{found.summary}\n{out}")
    elif output_format == "text":
        _print(found, fails=settings.fails(found))
    else:
        typer.echo(_FORMATS[output_format](found, source), nl=False)
    if settings.fails(found):
        raise typer.Exit(_FAILS)


@dataclass(frozen=True, slots=True)
class _Checks:
    """Which checks run."""

    select: tuple[str, ...] | None
    ignore: tuple[str, ...]


def _audited(
    request: Request,
    typed: InputOptions,
    checks: _Checks,
    *,
    checkpoint: Path | None,
    train: bool,
) -> Audit:
    """From building the model to the findings."""

    def inputs_for(model: nn.Module) -> Inputs:
        if typed == InputOptions():
            return _NOTHING
        return make_inputs(model, request.model, typed, seed=request.seed)

    begun = start(request._replace(inputs=typed), make_inputs=inputs_for)
    model, inputs = begun.model.train(train), begun.inputs
    notes = start_notes(request) if checkpoint is None else load_checkpoint(model, checkpoint)
    if inputs.value is not None and not _lacks_memory(model):
        mode = "training" if train else "evaluation"
        notes = (f"inputs: {inputs.text}; the model is in {mode} mode", *notes)
    seed_torch(request.seed)  # for dropout
    try:
        with pass_progress(model):
            found = audit_model(
                model,
                inputs.value,
                plan=begun.plan,
                select=checks.select,
                ignore=checks.ignore,
            )
    except ProbeError as error:
        raise ArgumentError(
            f"{error}\nThe inputs were {inputs.text}. Here --input-shape, --length and --input say "
            "what they are."
        ) from error
    name = ", ".join(filter(None, [title(request), start_text(request, begun.plan)]))
    return replace(found, title=name, notes=(*notes, *found.notes))


def _lacks_memory(model: nn.Module) -> bool:
    """Whether nothing can go in."""
    return any(is_lazy(parameter) or parameter.is_meta for parameter in model.parameters())


def _source(model: str) -> Source | None:
    """Where findings point: the code of a callable, or the configuration of an ``hf:`` model."""
    kind, _, name = model.partition(":")
    if kind == "hf":
        path = Path(name, "config.json") if Path(name).is_dir() else Path(name)
        return Source.at(path) if path.is_file() else None
    return source_of(find_callable(model))


def _settings(config: Path | None, *, isolated: bool) -> Configuration:
    if config is not None and isolated:
        raise ArgumentError(
            f"--isolated: no configuration is read. Got --config {str(config)!r} besides. Leave "
            "one of them away."
        )
    if isolated:
        return Configuration()
    return find_configuration() if config is None else load_configuration(config)


def _check_alone(model: str, has_more: bool, typed: InputOptions) -> None:
    if has_more or typed != InputOptions():
        raise ArgumentError(
            f"audit: a checkpoint is read as it is. Got {model!r} with options of a model. Name "
            f"the model, and say --checkpoint {model}."
        )


def _codes(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The codes between the commas."""
    codes = tuple(code.strip() for text in texts for code in text.split(","))
    if not all(codes):
        raise ArgumentError(
            f"{option}: codes with commas. Got {', '.join(map(repr, texts))}. As in "
            f"{option} FAN104,FAN2."
        )
    chosen_checks(CHECKS, select=codes, asked=option)
    return codes


def _check_format(name: str) -> None:
    if name not in _FORMATS:
        raise UnknownNameError(f"--format: one of a few. Got {name!r}. {one_of(name, _FORMATS)}")


def _print(found: Audit, *, fails: bool) -> None:
    """The text, in colours on a terminal."""
    for finding in found.findings:
        first, *rest = finding.text.splitlines()
        typer.secho(first, fg=_COLOURS[finding.severity], bold=True)
        typer.echo("\n".join([*rest, ""]))
    for note in found.notes:
        typer.echo(f"note: {note}")
    colour = typer.colors.RED if fails else typer.colors.GREEN
    typer.secho(found.summary, fg=colour, bold=True)


_FORMATS: dict[str, Callable[[Audit, Source | None], str]] = {
    "text": lambda found, source: f"{found}\n",
    "json": lambda found, source: found.to_json(),
    "sarif": lambda found, source: found.to_sarif(source=source),
    "github": lambda found, source: found.to_github(source=source),
}
