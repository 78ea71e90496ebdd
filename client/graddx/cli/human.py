"""An analysis for people: the verdict in a sentence, the gradient over depth, what was found and
why, what to do, and last the code to paste."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graddx.cli.flow import flow_lines
from graddx.errors import AnalysisFailed
from graddx.results import Analysis, Diagnosis, Effect, Finding, Prescription, Recommendation

VERDICT_STYLE = {"healthy": "bold green", "at_risk": "bold yellow", "unhealthy": "bold red"}
SEVERITY_STYLE = {"error": "red", "warning": "yellow"}
MOST_LAYERS = 6
"""Names told of a list of layers; of longer lists the first, the last and how many."""

FLOW_WIDTH = 60
"""Columns of the gradient flow, at most."""
LABEL_WIDTH = 36
"""Columns that its labels take."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What could move a terminal's cursor or change its colours: names come from other people's
models."""


def print_diagnosis(console: Console, name: str, analysis: Analysis, address: str) -> None:
    """A succeeded analysis."""
    diagnosis = analysis.diagnosis or Diagnosis(analysis.verdict or "unknown")
    _print_verdict(console, name, analysis, diagnosis, address)
    _print_flow(console, diagnosis)
    for title, parts in (
        ("Findings", [_finding(one, address) for one in diagnosis.findings]),
        ("Ignored", [_ignored(one) for one in diagnosis.suppressed]),
        ("Notes", [_text(note) for note in analysis.notes]),
        ("Recommendations, in order of preference", _recommendations(analysis.id, diagnosis)),
    ):
        _print_section(console, title, parts)
    _print_code(console, diagnosis.recommendations)


def print_failure(console: Console, name: str, failed: AnalysisFailed, address: str) -> None:
    """An analysis that failed or was cancelled: nothing is known."""
    line = Text("FAILED", "bold red")
    console.print(
        line.append(f"  {clean(failed.title)} ({clean(failed.code)})", "default not bold")
    )
    console.print(_text(f"Nothing is known about {name}: this is not a pass."))
    _print_exactly(console, address, "dim")
    if failed.detail:
        console.print()
        console.print(_text(failed.detail))


def on_server(address: str, path: str) -> str:
    """A path as an address that leads there from anywhere; what is none stays. `address`: of an
    analysis on the same server."""
    server, _, _ = address.partition("/v1/")
    return f"{server}{path}" if path.startswith("/") else path


def told_layers(layers: Sequence[str]) -> str:
    """Names, and how many there are where not all are told."""
    if len(layers) <= MOST_LAYERS:
        return ", ".join(layers)
    first = ", ".join(layers[: MOST_LAYERS // 2])
    return f"{first} … {layers[-1]} ({len(layers)} layers)"


def _print_verdict(
    console: Console, name: str, analysis: Analysis, diagnosis: Diagnosis, address: str
) -> None:
    word = clean(diagnosis.verdict.replace("_", " ").upper())
    style = VERDICT_STYLE.get(diagnosis.verdict, "bold magenta")
    console.print(Text.assemble((word, style), f"  {clean(diagnosis.summary)}"))
    passes = "passes" if analysis.passed else "does not pass"
    sure = "" if diagnosis.confidence is None else f" Confidence {diagnosis.confidence:.2g}."
    console.print(_text(f"{name} {passes}: {_counted(diagnosis)}.{sure}"))
    _print_exactly(console, address, "dim")


def _print_flow(console: Console, diagnosis: Diagnosis) -> None:
    """Where the gradient is lost, in one line; a second one tells what the prescription does."""
    plain = not console.encoding.startswith("utf")
    lines = flow_lines(diagnosis, max(1, min(FLOW_WIDTH, console.width - LABEL_WIDTH)), plain=plain)
    if not lines:
        return
    console.print()
    console.print(Text("Gradient over depth, last layer = 1, logarithmic", "bold"))
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    for style in ("dim", "", "dim"):
        table.add_column(no_wrap=True, style=style)
    for line, style in zip(lines, ("yellow", "green"), strict=False):
        table.add_row(line.label, Text(line.bars, style), line.ends)
    console.print(Padding(table, (0, 0, 0, 2)))


def _counted(diagnosis: Diagnosis) -> str:
    counted = Counter(one.severity for one in diagnosis.findings)
    told = [f"{count} {_plural(what, count)}" for what, count in counted.items()]
    if diagnosis.verdict == "inconclusive":
        told.append("no verdict")
    return ", ".join(told) or "no findings"


def _print_section(console: Console, title: str, parts: Sequence[Text | Group]) -> None:
    if not parts:
        return
    console.print()
    console.print(Text(title, "bold"))
    for part in parts:
        console.print()
        console.print(Padding(part, (0, 0, 0, 2)))


def _print_code(console: Console, recommendations: Sequence[Recommendation]) -> None:
    pasted = [one for one in recommendations if one.code]
    if not pasted:
        return
    console.print()
    console.print(Text("Code to paste (from torch import nn)", "bold"))
    for one in pasted:
        console.print()
        _print_exactly(console, f"# {one.id}: {one.title}", "dim")
        _print_exactly(console, one.code)


def _finding(one: Finding, address: str) -> Group:
    style = SEVERITY_STYLE.get(one.severity, "")
    head = _head((one.severity, style), one.title, one.code)
    layers = ("layers", told_layers(one.layers) or "the whole model")
    causes = [("because", cause) for cause in one.causes]
    return _entry(head, one.detail, [layers, *causes, ("see", on_server(address, one.docs))])


def _ignored(one: Finding) -> Text:
    where = told_layers(one.layers) or "the whole model"
    return _text(f"{one.code} at {where}: {one.reason or 'no reason given'}")


def _recommendations(analysis_id: str, diagnosis: Diagnosis) -> list[Text | Group]:
    parts: list[Text | Group] = [_recommendation(one) for one in diagnosis.recommendations]
    if diagnosis.prescription and diagnosis.prescription.recommendations:
        parts.append(_prescription(diagnosis.prescription))
        parts += _take_away(analysis_id, diagnosis.prescription)
    return parts


def _recommendation(one: Recommendation) -> Group:
    head = _head((one.id, "cyan"), one.title, one.kind)
    layers = ("layers", told_layers(one.layers))
    rows = [layers, ("for", ", ".join(one.resolves)), ("tried", _effect(one.effect))]
    return _entry(head, one.why, rows)


def _effect(effect: Effect | None) -> str:
    if effect is None or effect.verified is None:
        return ""
    resolved = ", ".join(effect.resolved) or "nothing"
    introduced = f"; brings {', '.join(effect.introduced)}" if effect.introduced else ""
    return f"resolves {resolved}{introduced}"


def _prescription(one: Prescription) -> Text:
    together = " and ".join(one.recommendations)
    return _text(f"Enough: {together}, measured: {one.verdict_after} afterwards{_trial(one)}.")


def _take_away(analysis_id: str, one: Prescription) -> list[Text | Group]:
    there = {"--spec": one.links.spec, "--code": one.links.code, "--weights": one.links.state_dict}
    forms = " | ".join(option for option, link in there.items() if link)
    return [_text(f"To take it away: graddx apply {analysis_id} {forms}")] if forms else []


def _trial(one: Prescription) -> str:
    told = []
    for when in ("before", "after"):
        run = (one.trial or {}).get(when)
        losses = run.get("loss") if isinstance(run, dict) else None
        if isinstance(losses, list) and losses and None not in (losses[0], losses[-1]):
            told.append(f"{when} {losses[0]:.3g} → {losses[-1]:.3g}")
    return f"; loss in the short training {', '.join(told)}" if told else ""


def _head(mark: tuple[str, str], title: str, kind: str) -> Text:
    word, style = mark
    return Text.assemble(
        (clean(word), style), "  ", (clean(title), "bold"), (f" ({clean(kind)})", "dim")
    )


def _entry(head: Text, paragraph: str, rows: Sequence[tuple[str, str]]) -> Group:
    """A heading, a paragraph, and what else there is, each behind its label."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    before = ""
    for label, value in rows:
        if value:
            table.add_row("" if label == before else label, _text(value))
            before = label
    inner = [_text(paragraph), table] if paragraph else [table]
    return Group(head, Padding(Group(*inner), (0, 0, 0, 2)))


def _print_exactly(console: Console, text: str, style: str = "") -> None:
    """Without wrapping: addresses and code are to be copied."""
    console.print(Text(clean(text), style), soft_wrap=True)


def _text(text: str) -> Text:
    return Text(clean(text))


def clean(text: str) -> str:
    """`text` without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _plural(word: str, count: int) -> str:
    return word if count == 1 or word == "info" else f"{word}s"
