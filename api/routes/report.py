"""/v1/analyses/{id}/report, /charts: an analysis as a page for people, and its pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import AnalysisId, DrawerDep, EngineDep
from api.downloads import picture
from api.negotiation import HTML, PNG, SVG, negotiate
from api.openapi import problems
from api.report.chart import FILE, specification
from api.report.charts import chart_named
from api.report.drawing import Form
from api.report.page import policy, report_page
from api.schemas.queries import ReportQuery
from service.domain.analysis import Analysis
from service.domain.errors import AnalysisUnfinished, GraddxError

router = APIRouter(prefix="/v1/analyses/{analysis_id}", tags=["report"])

RETRY_AFTER = "1"
"""Seconds after which a page of an analysis that goes on should be asked for again."""
_PAGE = {"content": {HTML: {"schema": {"type": "string"}}}}
_MEDIA: dict[Form, str] = {"svg": SVG, "png": PNG}

ChartFile = Annotated[
    str,
    Path(
        pattern=r"^[a-z-]{1,40}\.(svg|png)$",
        description="gradient-flow, gain, memory, activation-scale, saturation or loss, and .svg "
        "or .png.",
        examples=["gradient-flow.svg"],
    ),
]


class NoChart(GraddxError):
    """The analysis has no such chart."""

    code = "not_found"
    title = "Not found"


@router.get(
    "/report",
    response_model=None,
    responses={
        200: {"description": "The page; also of an analysis that failed.", **_PAGE},
        202: {"description": "It goes on: a page that looks again by itself.", **_PAGE},
        **problems("invalid_request", "analysis_not_found", "not_acceptable"),
    },
)
async def read_report(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[ReportQuery, Query()],
    engine: EngineDep,
    drawer: DrawerDep,
) -> Response:
    """The analysis for people: the verdict in a sentence, gradient flow over depth before and after
    the prescription, findings, code to copy, every layer. One file that needs no network; each
    chart has a table that says the same."""
    negotiate(request, HTML)
    analysis = await run_in_threadpool(engine.get, analysis_id)
    answer = await page_response(analysis, drawer)
    if query.download:
        name = f'attachment; filename="{analysis_id}.html"'
        answer.headers["Content-Disposition"] = name
    return answer


@router.get(
    "/charts/{chart_file}",
    response_model=None,
    responses={
        200: {
            "description": "The picture.",
            "content": {
                SVG: {"schema": {"type": "string"}},
                PNG: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        304: {"description": "The caller has it: If-None-Match names its ETag."},
        **problems(
            "invalid_request",
            "analysis_not_found",
            "not_found",
            "not_acceptable",
            "analysis_unfinished",
        ),
    },
)
async def read_chart(
    request: Request,
    analysis_id: AnalysisId,
    chart_file: ChartFile,
    engine: EngineDep,
    drawer: DrawerDep,
) -> Response:
    """One chart of the report as a picture, for a README or a merge request."""
    name, _, end = chart_file.partition(".")
    form: Form = "png" if end == "png" else "svg"
    negotiate(request, _MEDIA[form])
    analysis = await run_in_threadpool(engine.get, analysis_id)
    if not analysis.status.final:
        raise AnalysisUnfinished(f"the analysis is still {analysis.status}; it goes on")
    chart = chart_named(analysis.report, name) if analysis.report else None
    if chart is None:
        raise NoChart(f"this analysis has no chart {name!r}")
    (drawn,) = await drawer.draw([specification(chart, FILE)], form)
    if drawn is None:
        raise NoChart(f"the chart {name!r} could not be drawn; the report has it as a table")
    return picture(request, drawn, _MEDIA[form])


async def page_response(analysis: Analysis, drawer: DrawerDep) -> Response:
    """The report page, with the policy that lets nothing else in."""
    headers = {"Content-Security-Policy": policy()}
    if not analysis.status.final:
        headers["Retry-After"] = RETRY_AFTER
    return Response(
        await report_page(analysis, drawer),
        status_code=200 if analysis.status.final else 202,
        media_type=HTML,
        headers=headers,
    )
