"""One check: send the model, wait, show the answer."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console

from graddx.cli.formats.github import github
from graddx.cli.formats.gitlab import gitlab
from graddx.cli.formats.place import told_path
from graddx.cli.human import print_diagnosis, print_failure
from graddx.cli.progress import doing, progress, sending
from graddx.cli.settings import IgnoreRule
from graddx.client import Client
from graddx.errors import AnalysisFailed, AnalysisNotFound, InvalidInput
from graddx.results import Analysis

Form = Literal["human", "json", "github", "gitlab", "sarif", "junit", "markdown", "html"]

FILE_WIDTH = 100
"""Columns of the human form in a file."""


@dataclass(frozen=True, slots=True)
class Check:
    """What is asked, with everything that graddx.toml and the options say."""

    model: Path
    """A model file, or a JSON file with a spec, a Keras model or a request."""
    data: Path | None
    """A real batch; None: the server draws one."""
    weights: Path | None
    """Parameters of a spec; None: the server initializes it."""
    probe: dict[str, Any]
    """As in a request."""
    labels: dict[str, str]
    """As in a request."""
    ignore: tuple[IgnoreRule, ...]
    """Findings that are accepted."""
    allowed_changes: tuple[str, ...] | None
    """Kinds of recommendation; None: the server's default."""
    fail_on: str | None
    """error, warning or never; None: the server's default."""
    baseline: dict[str, str] | None
    """As in a request; None: nothing to compare with."""
    timeout: float
    """Seconds to wait for the diagnosis, ≥ 0."""


def ask(client: Client, check: Check, stderr: Console) -> Analysis:
    """The final analysis, also one that failed. Raises GraddxError."""
    with progress(stderr) as say:
        name = check.model.name
        say(f"sending {name}")
        try:
            return client.analyze(
                check.model,
                probe=check.probe or None,
                data=check.data,
                weights=check.weights,
                labels=check.labels or None,
                allowed_changes=check.allowed_changes,
                ignore=[asdict(rule) for rule in check.ignore] or None,
                fail_on=check.fail_on,
                baseline=check.baseline,
                wait=check.timeout,
                progress=(lambda now: say(doing(now))) if stderr.is_terminal else None,
                sent=lambda done, total: say(sending(name, done, total)),
            )
        except AnalysisFailed as failed:
            return failed.analysis


def show(client: Client, analysis: Analysis, form: Form, out: TextIO, model: Path) -> None:
    """Write the result, in one of the forms. Raises InvalidInput when it cannot be written,
    ApiError and ConnectionFailed when the server does not give it."""
    try:
        out.write(_in_form(client, analysis, form, out, model))
        out.flush()
    except BrokenPipeError:
        # `graddx check … | head`: the exit code is still the answer. Python flushes once more
        # when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except OSError as error:
        raise InvalidInput(f"the result cannot be written: {error.strerror}") from error


@contextmanager
def result_stream(path: Path | None) -> Iterator[TextIO]:
    """stdout, or the file, opened before anything is asked: a wrong path costs no analysis.
    Raises InvalidInput."""
    if path is None:
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"--output {path}: {error.strerror}") from error
    with file:
        yield file


def _in_form(client: Client, analysis: Analysis, form: Form, out: TextIO, model: Path) -> str:
    match form:
        case "json":
            return _json(analysis)
        case "github":
            return github(analysis, model, client.address(analysis.id))
        case "gitlab":
            return gitlab(analysis, model)
        case "sarif" | "junit" | "markdown" | "html":
            return _written_by_the_server(client, analysis.id, form, told_path(model))
    return _human(analysis, out, model.name, client.address(analysis.id))


def _written_by_the_server(
    client: Client, analysis_id: str, form: Literal["sarif", "junit", "markdown", "html"], path: str
) -> str:
    written = {"sarif": client.sarif, "junit": client.junit, "markdown": client.markdown}
    try:
        if form == "html":
            return client.report(analysis_id)
        return written[form](analysis_id, path)
    except AnalysisNotFound as error:
        raise InvalidInput(
            f"--format {form} is written by the server, which keeps nothing of this analysis "
            "(`retain` of the request); take human, json, github or gitlab"
        ) from error


def _json(analysis: Analysis) -> str:
    return json.dumps(analysis.raw, indent=2, ensure_ascii=False) + "\n"


def _human(analysis: Analysis, out: TextIO, name: str, address: str) -> str:
    """For this stream: its width, and colours only where it has them."""
    width = None if out is sys.stdout else FILE_WIDTH
    console = Console(file=out, width=width, highlight=False)
    with console.capture() as captured:
        if analysis.status == "succeeded":
            print_diagnosis(console, name, analysis, address)
        else:
            print_failure(console, name, AnalysisFailed(analysis), address)
    # rich fills the cells of its tables with spaces.
    return re.sub(r" +$", "", captured.get(), flags=re.MULTILINE)
