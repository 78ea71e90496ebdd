"""Markdown: a comment on a merge request, or the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator

from api.formats.told import clean, failure_of, model_path, told_layers
from api.links import docs_address
from service.domain.analysis import Analysis
from service.domain.findings import Diagnosis, Finding, Suppressed, Verdict
from service.domain.recommendations import Effect, Prescription, Recommendation
from service.domain.report import Report

MARKS = {
    Verdict.HEALTHY: "✅",
    Verdict.AT_RISK: "⚠️",
    Verdict.UNHEALTHY: "❌",
    Verdict.INCONCLUSIVE: "❔",
}

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def markdown(analysis: Analysis, address: str, path: str | None = None) -> str:
    """Verdict, findings, what to do, and the code to paste."""
    name = model_path(analysis, path)
    if analysis.report is None:
        parts = list(_failed(analysis, name))
    else:
        parts = list(_told(analysis, analysis.report, name, address))
    return "\n\n".join([*parts, f"Analysis: <{address}>"]) + "\n"


def _failed(analysis: Analysis, name: str) -> Iterator[str]:
    failure = failure_of(analysis)
    yield f"## ❔ {_text(name)}: {_text(failure.title)}"
    yield f"{_text(failure.detail)} (`{failure.code}`)"
    yield "Nothing is known about the model: this is not a pass."


def _told(analysis: Analysis, report: Report, name: str, address: str) -> Iterator[str]:
    diagnosis = report.diagnosis
    verdict = str(diagnosis.verdict).replace("_", " ")
    yield f"## {MARKS[diagnosis.verdict]} {_text(name)}: {verdict}"
    passes = "passes" if analysis.passed else "does not pass"
    confidence = f"Confidence {diagnosis.confidence:.2g}; it {passes}."
    yield f"{_text(diagnosis.summary)} {confidence}"
    yield from _findings(diagnosis, address)
    yield from _recommendations(report)
    if report.notes:
        yield "### Notes"
        yield "\n".join(f"* {_text(note)}" for note in report.notes)


def _findings(diagnosis: Diagnosis, address: str) -> Iterator[str]:
    if diagnosis.findings:
        yield "### Findings"
        rows = [_row(finding, address) for finding in diagnosis.findings]
        head = ["| severity | finding | layers | detail |", "| --- | --- | --- | --- |"]
        yield "\n".join([*head, *rows])
    if diagnosis.suppressed:
        yield "### Ignored"
        yield "\n".join(_ignored(one) for one in diagnosis.suppressed)


def _row(finding: Finding, address: str) -> str:
    because = "".join(f"<br>• {_text(cause)}" for cause in finding.causes)
    cells = (
        str(finding.severity),
        f"{_text(finding.title)} ([`{finding.code}`]({docs_address(address, finding.code)}))",
        _text(told_layers(finding.layers)),
        f"{_text(finding.detail)}{because}",
    )
    return f"| {' | '.join(cells)} |"


def _ignored(one: Suppressed) -> str:
    where = _text(told_layers(one.finding.layers))
    return f"* `{one.finding.code}` at {where}: {_text(one.reason or 'no reason given')}"


def _recommendations(report: Report) -> Iterator[str]:
    if not report.recommendations:
        return
    yield "### Recommendations"
    lines = [_line(one) for one in report.recommendations]
    if report.prescription and report.prescription.recommendations:
        lines.append(_enough(report.prescription))
    yield "\n".join(lines)
    code = "\n\n".join(
        f"# {one.id}: {one.title}\n{one.code}" for one in report.recommendations if one.code
    )
    if code:
        yield f"<details><summary>Code to paste</summary>\n\n{_fenced(clean(code))}\n\n</details>"


def _line(one: Recommendation) -> str:
    return f"* **{one.id}** {_text(one.title)}: {_text(one.why)}{_tried(one.effect)}"


def _tried(effect: Effect | None) -> str:
    if effect is None or effect.verified is None:
        return ""
    resolved = ", ".join(f"`{code}`" for code in effect.resolved) or "nothing"
    return f" Tried: resolves {resolved}."


def _enough(one: Prescription) -> str:
    together = " and ".join(one.recommendations)
    return f"* Enough: {together}, measured: {str(one.verdict_after).replace('_', ' ')} afterwards."


def _fenced(code: str) -> str:
    """Behind a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{code}\n{fence}"


def _text(text: str) -> str:
    """Plain text, on one line: nothing in it is Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", clean(" ".join(text.split())))
