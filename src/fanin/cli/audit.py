"""`fanin audit`: what is wrong with a model's start?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from fanin.cli.inputs import InputOptions
from fanin.cli.labels import with_labels
from fanin.cli.loading import is_checkpoint, load_checkpoint
from fanin.cli.models import find_callable
from fanin.cli.options import (
    Arguments,
    DtypeName,
    InputFile,
    InputShape,
    Overrides,
    SeedOfAll,
    StartRecipe,
    TrainMode,
)
from fanin.cli.passing import mode_note, told_pass
from fanin.cli.plans import Request, checked_seed, seed_torch
from fanin.cli.starts import start, start_notes, start_text, title
from fanin.errors import ArgumentError, FaninError, UnknownNameError, one_of

__all__ = ["audit"]

_FAILS = 1
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
    recipe: StartRecipe = None,
    init: Annotated[
        str | None, typer.Option(metavar="INIT", help="One initializer, as for probe.")
    ] = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    seed: SeedOfAll = None,
    dtype: DtypeName = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Load these values: a .safetensors file, a folder or an index of them, or a .pt. "
            "With --recipe they are compared with its plan."
        ),
    ] = None,
    input_shape: InputShape = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Inputs to draw. Without it, --input-shape, --length and --input nothing goes in."
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Of a text, for hf: models that take token ids.")
    ] = None,
    input_file: InputFile = None,
    train: TrainMode = True,
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
    model and back as well, with labels for the language models and classifiers of transformers.
    `fanin explain CODE` shows the page of a finding.

    Exit status: 0, 1 for findings that fail (errors; with --strict warnings too), 2 for bad input.
    """
    try:
        _check_format(output_format)
        if out is not None:
            check_target(out, force=True)
        settings = _settings(config, select, ignore, isolated=isolated, strict=strict)
        typed = InputOptions(input_file, batch, input_shape, length)
        if is_checkpoint(model):
            needless = (recipe, init, overrides, arguments, seed, dtype, checkpoint)
            _check_alone(model, any(each is not None for each in needless), typed)
            found = audit_checkpoint(model, select=settings.select, ignore=settings.ignore)
            found, source = replace(found, title=model), Source.at(model)
        else:
            chosen = checked_seed(seed)
            given = (overrides or (), arguments or (), dtype, init, typed)
            found = _audited(
                Request(model, recipe, chosen, *given), settings, checkpoint=checkpoint, train=train
            )
            again = () if seed is not None else (f"again by --seed {chosen}",)
            found, source = replace(found, notes=(*found.notes, *again)), _source(model)
        found = settings.applied(found)
        content = _FORMATS[output_format](found, source)
        if out is not None:
            with whole_file(out, force=True) as file:
                file.write(content.encode())
    except FaninError as error:
        raise ArgumentError(str(error)) from error  # exit status 1 means findings
    fails = settings.fails(found)
    if out is not None:
        typer.echo(f"{found.summary}\n{out}")
    elif output_format == "text":
        _print(found, fails=fails)
    else:
        typer.echo(content, nl=False)
    if fails:
        raise typer.Exit(_FAILS)


def _audited(
    request: Request, settings: Configuration, *, checkpoint: Path | None, train: bool
) -> Audit:
    """From building the model to the findings."""
    begun = start(request, needs_inputs=False)
    model = begun.model.train(train)
    inputs = with_labels(model, begun.inputs, seed=request.seed)
    notes = start_notes(request) if checkpoint is None else load_checkpoint(model, checkpoint)
    if inputs.value is not None and not _lacks_memory(model):
        notes = (mode_note(inputs.text, train=train), *notes)
    seed_torch(request.seed)  # for dropout
    with told_pass(model, inputs):
        found = audit_model(
            model,
            inputs.value,
            plan=begun.plan,
            select=settings.select,
            ignore=settings.ignore,
        )
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


def _settings(
    config: Path | None,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    *,
    isolated: bool,
    strict: bool,
) -> Configuration:
    """What a file says, and what was typed: another selection, more to ignore, or strictness."""
    if config is not None and isolated:
        raise ArgumentError(
            f"--isolated: no configuration is read. Got --config {str(config)!r} besides. Leave "
            "one of them away."
        )
    if isolated:
        read = Configuration()
    else:
        read = find_configuration() if config is None else load_configuration(config)
    return replace(
        read,
        select=_codes("--select", select) if select else read.select,
        ignore=(*read.ignore, *_codes("--ignore", ignore or ())),
        strict=read.strict or strict,
    )


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
