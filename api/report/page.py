"""The page: HTML with its own style and script, allowed by their hashes, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from api import VERSION
from api.formats.told import clean, failure_of, told_layers
from api.report.chart import PAGE, Chart, number, specification
from api.report.charts import charts
from api.report.drawing import Drawer
from service.domain.analysis import Analysis
from service.domain.findings import Verdict
from service.domain.layer_statistics import OF_LAYERS
from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import LayerAfter, Recommendation
from service.domain.report import Report

if TYPE_CHECKING:
    from jinja2 import Environment

STATIC = Path(__file__).parent.parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = Path(__file__).parents[2] / "examples"
FIRST_EXAMPLE = "vanishing_sigmoid_mlp.json"
"""What stands in the form before anything is chosen."""
FIRST_STATISTICS = ("gradient.gain", "gradient.norm", "activation.rms")
MOST_ROWS = 200
"""Rows of the layer table; of more layers the first and the last half of these. All are in CSV."""
SENTENCES = {
    Verdict.HEALTHY: "This model trains as it stands.",
    Verdict.AT_RISK: "This model is at risk: it may not train as it stands.",
    Verdict.UNHEALTHY: "This model will not train as it stands.",
    Verdict.INCONCLUSIVE: "Whether this model trains cannot be told.",
}
EVIDENCE_LENGTH = 200
"""Characters told of one number, or list of numbers, of a finding."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart and its picture."""

    chart: Chart
    svg: Markup | None
    """None when it could not be drawn: the table is there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the layer table."""

    before: LayerMeasurements
    after: LayerAfter | None
    accused: tuple[str, ...]
    """Codes of the findings that name it."""


async def report_page(analysis: Analysis, drawer: Drawer) -> str:
    """Of an analysis in any state."""
    report = analysis.report
    if not analysis.status.final:
        return written("waiting.html", analysis=analysis)
    if report is None:
        return written("failed.html", analysis=analysis, failure=failure_of(analysis))
    return written(
        "report.html",
        analysis=analysis,
        report=report,
        sentence=SENTENCES[report.diagnosis.verdict],
        cure=_cure(report),
        drawings=await drawings(charts(report), drawer),
        rows=_rows(report),
        left_out=max(0, len(report.layers) - MOST_ROWS),
        has_after=bool(report.prescription and report.prescription.layers_after),
    )


def policy() -> str:
    """Content-Security-Policy of the page: its own style and script, and no network at all."""
    return f"{_policy_inside()}; frame-ancestors 'none'"


def _policy_inside() -> str:
    """As far as the page itself can say it, wherever it is saved."""
    style, script = (_digest(_asset(name)) for name in ("graddx.css", "report.js"))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def front_policy() -> str:
    """Content-Security-Policy of the front page: scripts and styles of this server alone. The
    report that it shows in its own place brings the same style."""
    style = _digest(_asset("graddx.css"))
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{style}'; "
        "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def front_page() -> str:
    """What this is, and a form to ask with."""
    groups = {"Start here": EXAMPLES, "Known cases": EXAMPLES / "seed_cases"}
    return written(
        "front.html",
        first=(EXAMPLES / FIRST_EXAMPLE).read_text(encoding="utf-8"),
        examples={group: _requests_in(folder) for group, folder in groups.items()},
        statistics=(*FIRST_STATISTICS, *(one for one in OF_LAYERS if one not in FIRST_STATISTICS)),
    )


def _requests_in(folder: Path) -> list[str]:
    """Names below the folder of examples, without ending; those that need a file are not whole."""
    whole = (one for one in sorted(folder.glob("*.json")) if "model" in json.loads(one.read_text()))
    return [str(one.relative_to(EXAMPLES).with_suffix("")) for one in whole]


def written(template: str, **values: Any) -> str:
    """A page of this room."""
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_asset("graddx.css")),
            script=Markup(_asset("report.js")),
            policy=_policy_inside(),
            version=VERSION,
            **values,
        )
    )


async def drawings(made: Sequence[Chart], drawer: Drawer) -> list[Drawing]:
    """With the colours of the page."""
    pictures = await drawer.draw([specification(one, PAGE) for one in made], "svg")
    return [
        # Vega writes what stands in the data as text, escaped; nothing else of the model is in it.
        Drawing(chart, Markup(picture.decode()) if picture else None)
        for chart, picture in zip(made, pictures, strict=True)
    ]


def _cure(report: Report) -> tuple[Recommendation, ...]:
    """The recommendations that together are the prescription."""
    chosen = report.prescription.recommendations if report.prescription else ()
    return tuple(one for one in report.recommendations if one.id in chosen)


def _rows(report: Report) -> list[Row | None]:
    after = report.prescription.layers_after if report.prescription else ()
    repaired = {one.name: one for one in after}
    accused: dict[str, list[str]] = {}
    for finding in report.diagnosis.findings:
        for name in finding.layers:
            accused.setdefault(name, []).append(finding.code)
    rows: list[Row | None] = [
        Row(one, repaired.get(one.name), tuple(accused.get(one.name, ())))
        for one in _few(report.layers)
    ]
    if len(report.layers) > MOST_ROWS:
        rows.insert(MOST_ROWS // 2, None)
    return rows


def _few(layers: Sequence[LayerMeasurements]) -> Sequence[LayerMeasurements]:
    half = MOST_ROWS // 2
    return layers if len(layers) <= MOST_ROWS else (*layers[:half], *layers[-half:])


@cache
def _environment() -> Environment:
    # Here, so that a server which is never asked for a page starts without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        # Names, notes and code come from other people's models.
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters |= {
        "number": number,
        "percent": _percent,
        "words": lambda word: str(word).replace("_", " "),
        "layers": told_layers,
        "evidence": _evidence,
    }
    return environment


def _percent(share: float | None) -> str:
    return number(share) if share is None or not math.isfinite(share) else f"{100 * share:.3g} %"


def _evidence(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= EVIDENCE_LENGTH else f"{text[:EVIDENCE_LENGTH]} …"


@cache
def _asset(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
