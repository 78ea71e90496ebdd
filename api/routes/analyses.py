"""/v1/analyses: submit, read, list, cancel."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.dependencies import AnalysisId, DrawerDep, EngineDep, ReaderDep
from api.error_handlers import STATUS, InvalidParameter
from api.formats import CONTENTS, FORMS
from api.gate import DEFAULT_WAIT, reason_to_refuse, refusal
from api.labels import read_labels
from api.layers import Layers
from api.negotiation import CSV, HTML, JSON, negotiate
from api.openapi import analysis_body, problems
from api.presenting import analyses_out, analysis_json
from api.report.drawing import Drawer
from api.routes.report import page_response
from api.schemas.queries import HoldQuery, LayersQuery, ListQuery
from api.schemas.responses import AnalysesOut, AnalysisOut, LayersOut
from api.waiting import preferred_wait, wait_until_final
from service.domain.analysis import Analysis
from service.use_cases import Engine, Filter

router = APIRouter(prefix="/v1/analyses", tags=["analyses"])

RETRY_AFTER = "1"
"""Seconds after which a caller should ask again for an analysis that goes on."""
GATE = ("gate_failed", "analysis_failed", "not_finished")
FINISHED = {
    "model": AnalysisOut,
    "description": "Final: succeeded, failed or cancelled.",
    "content": {**CONTENTS, HTML: {"schema": {"type": "string"}}},
}
UNDER_WAY = {
    "model": AnalysisOut,
    "description": "Queued or running.",
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "Address of the analysis."},
        "Retry-After": {"schema": {"type": "string"}, "description": "Seconds."},
    },
}

PreferHeader = Annotated[
    str | None, Header(description="`wait=SECONDS` (RFC 7240), as the parameter `wait`.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Your own word for this request, 1 … 255 visible characters, as a random "
        "UUID. The same request again, as JSON or as a form, is answered with the analysis that "
        "the first one made; another request with the same key is refused."
    ),
]
NEXT_PAGE = {"schema": {"type": "string"}, "description": "rel=next: the next page."}
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@router.post(
    "",
    response_model=None,
    openapi_extra=analysis_body(),
    responses={
        200: FINISHED,
        202: UNDER_WAY,
        **problems(
            "invalid_request",
            "unknown_layer_type",
            "shape_mismatch",
            "unsupported_artifact",
            "artifact_rejected",
            "artifact_not_found",
            "idempotency_conflict",
            "idempotency_in_flight",
            "not_acceptable",
            "payload_too_large",
            "unsupported_media_type",
            "forbidden",
            "queue_full",
            "sandbox_unavailable",
            "storage_full",
            *GATE,
        ),
    },
)
async def submit_analysis(
    request: Request,
    query: Annotated[HoldQuery, Query()],
    engine: EngineDep,
    reader: ReaderDep,
    drawer: DrawerDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Analyse a model: will it train as it stands, and if not, what would make it?

    Send JSON (an architecture spec, or the id of an artifact uploaded before), or a form with the
    model file and, optionally, a file of real samples in `data` and everything else as JSON in
    `request`: `-F model=@net.pt -F data=@batch.npz`. With `?gate=true` the HTTP status alone tells
    whether the model passed: `curl --fail-with-body` is then a CI step. `Accept` names the form of
    the answer: JSON, SARIF, JUnit XML, Markdown or the HTML report; an analysis that goes on is
    told in JSON, or in HTML."""
    media_type = negotiate(request, JSON, *FORMS, HTML)
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise InvalidParameter("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    preferred_wait(prefer)
    analysis = await reader.submit(idempotency_key)
    return await _held(request, engine, analysis, query, prefer, media_type, drawer)


@router.get(
    "/{analysis_id}",
    response_model=None,
    responses={
        200: FINISHED,
        202: UNDER_WAY,
        **problems("invalid_request", "analysis_not_found", "not_acceptable", *GATE),
    },
)
async def read_analysis(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[HoldQuery, Query()],
    engine: EngineDep,
    drawer: DrawerDep,
    prefer: PreferHeader = None,
) -> Response:
    """Where an analysis stands and, once it succeeded, the whole diagnosis; by `Accept` in JSON,
    SARIF, JUnit XML, Markdown or as the HTML report."""
    media_type = negotiate(request, JSON, *FORMS, HTML)
    preferred_wait(prefer)
    analysis = await run_in_threadpool(engine.get, analysis_id)
    return await _held(request, engine, analysis, query, prefer, media_type, drawer)


@router.get(
    "",
    response_model=None,
    responses={
        200: {
            "model": AnalysesOut,
            "headers": {"Link": NEXT_PAGE},
        },
        **problems("invalid_request", "not_acceptable"),
    },
)
def list_analyses(
    request: Request, query: Annotated[ListQuery, Query()], engine: EngineDep
) -> Response:
    """Analyses without their results, newest first."""
    negotiate(request, JSON)
    where = Filter(query.status, query.verdict, read_labels(query.label), query.model_sha256)
    page = engine.list(where, limit=query.limit, cursor=query.cursor)
    following = request.url.include_query_params(cursor=page.next_cursor)
    link = {"Link": f'<{following}>; rel="next"'} if page.next_cursor else {}
    return Response(analyses_out(page).model_dump_json(), media_type=JSON, headers=link)


@router.delete(
    "/{analysis_id}",
    response_model=None,
    status_code=204,
    responses={
        202: {"model": AnalysisOut, "description": "Cancelled: it was queued or running."},
        204: {"description": "Deleted: it was final."},
        **problems("invalid_request", "forbidden", "analysis_not_found", "not_acceptable"),
    },
)
def remove_analysis(request: Request, analysis_id: AnalysisId, engine: EngineDep) -> Response:
    """Cancel an analysis that is queued or running, else delete it."""
    negotiate(request, JSON)
    if not engine.remove(analysis_id):
        return Response(status_code=204)
    body = analysis_json(engine.get(analysis_id))
    return Response(body, status_code=202, media_type=JSON)


@router.get(
    "/{analysis_id}/layers",
    response_model=None,
    responses={
        200: {
            "model": LayersOut,
            "content": {CSV: {"schema": {"type": "string"}}},
            "headers": {"Link": NEXT_PAGE},
        },
        **problems("invalid_request", "analysis_not_found", "not_acceptable"),
    },
)
def list_layers(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[LayersQuery, Query()],
    engine: EngineDep,
) -> Response:
    """Every per-layer statistic; a table with `?format=csv` or `Accept: text/csv`. Empty until it
    succeeded. With `limit` in pages (`next_cursor`, and `Link` with rel=next), else all of them in
    one answer."""
    asked = {"json": JSON, "csv": CSV}.get(query.format or "")
    media_type = asked or negotiate(request, JSON, CSV)
    layers = Layers(engine, analysis_id, query.limit, query.cursor)
    headers = {"Vary": "Accept"}
    if layers.next_cursor:
        following = request.url.include_query_params(cursor=layers.next_cursor)
        headers["Link"] = f'<{following}>; rel="next"'
    if query.format == "csv":
        headers["Content-Disposition"] = f'attachment; filename="{analysis_id}.csv"'
    body = layers.csv() if media_type == CSV else layers.json()
    return StreamingResponse(body, media_type=media_type, headers=headers)


async def _held(
    request: Request,
    engine: Engine,
    analysis: Analysis,
    query: HoldQuery,
    prefer: str | None,
    media_type: str,
    drawer: Drawer,
) -> Response:
    """The answer once the analysis is final or the caller waited long enough."""
    preferred = preferred_wait(prefer) if query.wait is None else None
    asked = query.wait if preferred is None else preferred
    seconds = asked if asked is not None else DEFAULT_WAIT if query.gate else 0
    analysis = await wait_until_final(engine, analysis, seconds, request)
    address = str(request.url_for("read_analysis", analysis_id=analysis.id))
    if media_type in FORMS and analysis.status.final:
        answer = await run_in_threadpool(_in_form, analysis, address, query, media_type)
    elif media_type == HTML and (analysis.status.final or not query.gate):
        answer = await _as_page(analysis, address, query, drawer)
    else:
        # In a thread: thousands of layers take seconds, and others wait meanwhile.
        answer = await run_in_threadpool(_answer, analysis, address, query)
    answer.headers["Vary"] = "Accept"
    if analysis.status.final and not await request.is_disconnected():
        answer.background = BackgroundTask(engine.answered, analysis)  # once it is sent
    if preferred is not None:
        answer.headers["Preference-Applied"] = f"wait={preferred}"
    return answer


def _answer(analysis: Analysis, address: str, query: HoldQuery) -> Response:
    if query.gate and (refused := refusal(analysis, address)):
        return refused
    body = analysis_json(analysis)
    if analysis.status.final:
        return Response(body, media_type=JSON, headers={"Content-Location": address})
    headers = {"Location": address, "Retry-After": RETRY_AFTER}
    return Response(body, status_code=202, media_type=JSON, headers=headers)


async def _as_page(analysis: Analysis, address: str, query: HoldQuery, drawer: Drawer) -> Response:
    """The report, or a page that waits for it."""
    answer = await page_response(analysis, drawer)
    where = "Content-Location" if analysis.status.final else "Location"
    answer.headers[where] = address
    if query.gate and (code := reason_to_refuse(analysis)):
        answer.status_code = STATUS[code]
    return answer


def _in_form(analysis: Analysis, address: str, query: HoldQuery, media_type: str) -> Response:
    """The gate's status with the form that was asked for: it says why, too."""
    body = FORMS[media_type](analysis, address, query.path)
    code = reason_to_refuse(analysis) if query.gate else None
    return Response(
        body,
        status_code=STATUS[code] if code else 200,
        media_type=media_type,
        headers={"Content-Location": address},
    )
