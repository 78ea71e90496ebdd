"""/v1/analyses/{id}/events: an analysis followed while it is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from api.dependencies import AnalysisId, EngineDep
from api.events import EVENT_STREAM, events, last_percent
from api.negotiation import negotiate
from api.openapi import problems
from service.domain.progress import END

router = APIRouter(prefix="/v1/analyses/{analysis_id}", tags=["analyses"])

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="`id` of the last event seen: percentages go on from there.",
    ),
]


@router.get(
    "/events",
    response_model=None,
    responses={
        200: {
            "description": "Events `progress` and, last, `end`, whose data are like `ProgressOut`; "
            "comments keep the connection alive.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        },
        204: {"description": "Last-Event-ID is that of the end: there is nothing more."},
        **problems("invalid_request", "analysis_not_found", "not_acceptable"),
    },
)
async def follow_analysis(
    request: Request,
    analysis_id: AnalysisId,
    engine: EngineDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Stage and progress as Server-Sent Events, until the analysis is final.

    `percent` only grows. The diagnosis itself is at `GET /v1/analyses/{id}`; reading events does
    not count as reading it (`retain`)."""
    negotiate(request, EVENT_STREAM)
    analysis = await run_in_threadpool(engine.head, analysis_id)
    told = last_percent(last_event_id)
    if analysis.status.final and told == END:
        return Response(status_code=204)
    # Proxies that collect an answer before they pass it on would hold every event back.
    headers = {"X-Accel-Buffering": "no"}
    return EventSourceResponse(events(engine, analysis, told), headers=headers)
