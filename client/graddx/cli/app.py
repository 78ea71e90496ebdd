"""`graddx check MODEL`: a step of a CI job, or a question from a terminal; `graddx apply ID`: what
came of it; `graddx explain CODE` and `graddx history LAYER`: what it means, how it moved."""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from graddx import __version__
from graddx.cli import exit_codes
from graddx.cli.apply import chosen, id_of, take
from graddx.cli.check import Check, Form, ask, result_stream, show
from graddx.cli.complaint import complain
from graddx.cli.explain import explained, listed
from graddx.cli.formats.summary import append_summary
from graddx.cli.options import INPUT_FORM, read_baseline, read_labels, read_probe
from graddx.cli.past import past, told
from graddx.cli.settings import find_settings, read_settings
from graddx.client import Client
from graddx.errors import GraddxError
from graddx.operations.analyses import DEFAULT_WAIT
from graddx.server import API_KEY_VARIABLE, DEFAULT_URL
from graddx.spec_writer import load, write_spec

app = typer.Typer(
    name="graddx",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXIT_CODES = (
    "Exit codes: 0 passed, 1 a finding at or above --fail-on, 2 usage or input, "
    "3 server or network, 4 timeout, 5 the analysis failed, 130 interrupted."
)

APPLY_EXIT_CODES = (
    "Exit codes: 0 written, 1 there is nothing to take away, 2 usage or input, "
    "3 server or network, 4 the analysis has not ended, 130 interrupted."
)

LOOKING_EXIT_CODES = (
    "Exit codes: 0 told, 1 there is nothing, 2 usage or input, 3 server or network."
)

UrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="GRADDX_URL", metavar="URL", help=f"Address of the server. [{DEFAULT_URL}]"
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        envvar=API_KEY_VARIABLE,
        metavar="KEY",
        help="API key, where the server wants one; in the variable it is not seen by others.",
    ),
]


def main() -> None:
    """The console script. An error of its own never looks like a finding (exit code 1)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except Exception:
        traceback.print_exc()
        sys.exit(exit_codes.BROKEN)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"graddx {__version__}")
        raise typer.Exit


@app.callback()
def graddx(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Will this network train? Ask a graddx server."""


@app.command(epilog=EXIT_CODES)
def check(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A model file (.pt2 of torch.export, or TorchScript), or a JSON file with a spec,"
            " with what Keras's model.to_json() gives, or with a request.",
        ),
    ],
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help=f"Once per model input: {INPUT_FORM}."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Real batch: safetensors or npz with x, perhaps y."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Parameters of a spec, safetensors."),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="`probe` of the request, or @FILE with it."),
    ] = None,
    fail_on: Annotated[
        Literal["error", "warning", "never"] | None,
        typer.Option(help="Lowest severity that does not pass. [error]"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Stored with the analysis.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE", help="Compare with the newest analysis that carries this label."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            "--wait",
            min=0,
            metavar="SECONDS",
            help=f"To wait for the diagnosis. [{DEFAULT_WAIT:g}]",
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Of the result.")] = "human",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result there, not to stdout.")
    ] = None,
) -> None:
    """Will MODEL train as it stands? The exit code says so, stdout why.

    Defaults, and findings to ignore, can stand in graddx.toml, here or in a folder above. On GitHub
    the job's summary ($GITHUB_STEP_SUMMARY) gets the result as Markdown, whatever the format."""
    stderr = Console(stderr=True, highlight=False)
    try:
        settings = read_settings(find_settings(Path.cwd()))
        url = url or settings.url or DEFAULT_URL
        asked = Check(
            model=model,
            data=data,
            weights=weights,
            probe={**settings.probe, **read_probe(probe, inputs or ())},
            labels={**settings.labels, **read_labels(label or ())},
            ignore=settings.ignore,
            allowed_changes=settings.allowed_changes,
            fail_on=fail_on or settings.fail_on,
            baseline=read_baseline(baseline or settings.baseline),
            timeout=_first(timeout, settings.timeout, DEFAULT_WAIT),
        )
        with result_stream(output) as out, Client(url, api_key) as client:
            analysis = ask(client, asked, stderr)
            show(client, analysis, form, out, model)
            append_summary(client, analysis.id, model, stderr)
    except GraddxError as error:
        complain(stderr, error, url or DEFAULT_URL)
        raise typer.Exit(exit_codes.of_error(error)) from error
    raise typer.Exit(exit_codes.of_analysis(analysis))


@app.command()
def spec(
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="FILE.py:NAME or PACKAGE.MODULE:NAME of a torch.nn.Module, or of what makes one"
            " without arguments. Its code is run here; torch must be installed.",
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", metavar="SHAPE", help=f"One per input of its forward: {INPUT_FORM}."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to stdout."),
    ] = None,
) -> None:
    """Write the architecture spec of a module, or say where none can say it."""
    stderr = Console(stderr=True, highlight=False)
    try:
        given = read_probe(None, inputs)["inputs"]
        text = json.dumps(write_spec(load(module), given), indent=2, ensure_ascii=False)
        with result_stream(output) as out:
            out.write(f"{text}\n")
    except GraddxError as error:
        complain(stderr, error, DEFAULT_URL)
        raise typer.Exit(exit_codes.of_error(error)) from error


@app.command(epilog=APPLY_EXIT_CODES)
def apply(
    analysis: Annotated[
        str, typer.Argument(metavar="ID", help="Of an analysis, or the address of one.")
    ],
    spec: Annotated[
        bool, typer.Option("--spec", help="The repaired spec, JSON; also where nothing is said.")
    ] = False,
    patch: Annotated[
        bool, typer.Option("--patch", help="RFC 6902 operations on the spec as it was submitted.")
    ] = False,
    code: Annotated[bool, typer.Option("--code", help="The repaired spec as PyTorch.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="The repaired weights, safetensors.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to stdout."),
    ] = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """Take the prescribed repair of an analysis away, in one of its forms."""
    with _asking(url, api_key) as client:
        part = chosen({"spec": spec, "patch": patch, "code": code, "weights": weights})
        take(client, id_of(analysis), part, output)


@app.command(epilog=LOOKING_EXIT_CODES)
def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE",
            help="Of a finding, a recommendation, a layer type or an initializer.",
        ),
    ] = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """What CODE means: what is seen, why it matters, known false alarms. Without CODE: all there
    are."""
    with _asking(url, api_key) as client:
        catalog = client.catalog()
        sys.stdout.write(listed(catalog) if code is None else explained(catalog, code))


@app.command(epilog=LOOKING_EXIT_CODES)
def history(
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="Its name, as in the diagnosis.")],
    statistic: Annotated[
        str, typer.Argument(metavar="STATISTIC", help="As activation.rms or weight.grad_norm.")
    ] = "gradient.gain",
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the analyses; all must match.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Analyses, the newest.")] = 30,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """How a statistic of a layer moved over past analyses, the newest last."""
    with _asking(url, api_key) as client:
        points = past(client, layer, statistic, read_labels(label or ()), most)
        sys.stdout.write(told(points))
    if not points:
        where = " that carries these labels" if label else ""
        typer.echo(f"no analysis{where} has a layer {layer!r}", err=True)
        raise typer.Exit(exit_codes.NOTHING)


@contextmanager
def _asking(url: str | None, api_key: str | None) -> Iterator[Client]:
    """A client; what goes wrong is told, and ends the program with its exit code."""
    stderr = Console(stderr=True, highlight=False)
    try:
        url = url or read_settings(find_settings(Path.cwd())).url or DEFAULT_URL
        with Client(url, api_key) as client:
            yield client
    except GraddxError as error:
        complain(stderr, error, url or DEFAULT_URL)
        raise typer.Exit(exit_codes.of_error(error)) from error


def _first(*candidates: float | None) -> float:
    return next(one for one in candidates if one is not None)
