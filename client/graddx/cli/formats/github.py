"""Workflow commands of GitHub Actions: annotations at the model's file, worst first.

GitHub shows ten of a kind per step and drops the rest without a word, so ten are sent and the last
line tells how many there were."""

from __future__ import annotations

from pathlib import Path

from graddx.cli.formats.place import line_of, told_path
from graddx.cli.human import clean, on_server, told_layers
from graddx.errors import AnalysisFailed
from graddx.results import Analysis, Finding

MOST = 10
"""Annotations of a step that GitHub shows."""
COMMANDS = {"error": "error", "warning": "warning"}
"""Severity → command; anything else is a notice."""
WORST_FIRST = ("error", "warning")


def github(analysis: Analysis, model: Path, address: str) -> str:
    """Annotations, and the verdict in a line. `address`: of the analysis."""
    path = told_path(model)
    if analysis.diagnosis is None:
        failed = AnalysisFailed(analysis)
        told = f"{failed.title} ({failed.code}). {failed.detail}".strip()
        return _command("error", path, 1, f"{model.name}: nothing is known", told) + "\n"
    findings = sorted(analysis.diagnosis.findings, key=_rank)
    lines = [_annotation(one, model, path, address) for one in findings[:MOST]]
    return "\n".join([*lines, _verdict(analysis, model, len(findings))]) + "\n"


def _rank(one: Finding) -> int:
    known = one.severity in WORST_FIRST
    return WORST_FIRST.index(one.severity) if known else len(WORST_FIRST)


def _annotation(one: Finding, model: Path, path: str, address: str) -> str:
    where = told_layers(one.layers) or "the whole model"
    see = [f"see {on_server(address, one.docs)}"] if one.docs else []
    text = "\n".join([one.detail, f"layers: {where}", *one.causes, *see])
    command = COMMANDS.get(one.severity, "notice")
    return _command(command, path, line_of(model, one.layers), f"{one.title} ({one.code})", text)


def _verdict(analysis: Analysis, model: Path, count: int) -> str:
    assert analysis.diagnosis is not None
    passes = "passes" if analysis.passed else "does not pass"
    untold = f" {count} findings, the worst {MOST} are annotated." if count > MOST else ""
    summary = f"{analysis.diagnosis.verdict}. {analysis.diagnosis.summary}"
    # A line that begins with "::" would be a command.
    return _one_line(f"{model.name} {passes}: {summary}{untold}").lstrip(": ")


def _command(command: str, path: str, line: int, title: str, text: str) -> str:
    properties = f"file={_property(path)},line={line},title={_property(title)}"
    return f"::{command} {properties}::{_data(text)}"


def _data(text: str) -> str:
    """As actions/toolkit escapes it."""
    kept = "\n".join(clean(line) for line in text.splitlines())
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _one_line(text: str) -> str:
    return clean(" ".join(text.split()))
