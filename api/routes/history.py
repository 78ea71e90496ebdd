"""/v1/layers/history: one statistic of one layer over past analyses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import DrawerDep, EngineDep
from api.error_handlers import InvalidParameter
from api.labels import read_labels
from api.negotiation import HTML, JSON, negotiate
from api.openapi import problems
from api.report.page import policy
from api.report.trend import trend_page
from api.schemas.queries import HistoryQuery
from api.schemas.responses import HistoryOut, HistoryPointOut
from service.domain.layer_statistics import OF_LAYERS, OF_PARAMETERS, is_statistic, value_of
from service.domain.measurements import LayerMeasurements
from service.use_cases import LayerPage

router = APIRouter(prefix="/v1/layers", tags=["history"])


@router.get(
    "/history",
    response_model=None,
    responses={
        200: {
            "model": HistoryOut,
            "content": {HTML: {"schema": {"type": "string"}}},
            "headers": {
                "Link": {"schema": {"type": "string"}, "description": "rel=next: the next page."}
            },
        },
        **problems("invalid_request", "not_acceptable"),
    },
)
async def read_layer_history(
    request: Request,
    query: Annotated[HistoryQuery, Query()],
    engine: EngineDep,
    drawer: DrawerDep,
) -> Response:
    """How one statistic of one layer moved over the analyses that succeeded, newest first:
    `?label=branch:main&layer=fc1&statistic=gradient.gain`; with `Accept: text/html` as a page with
    a chart, oldest first."""
    media_type = negotiate(request, JSON, HTML)
    if not is_statistic(query.statistic):
        raise InvalidParameter("statistic", _known())
    labels = read_labels(query.label) or {}
    page = await run_in_threadpool(
        engine.history, query.layer, labels, limit=query.limit, cursor=query.cursor
    )
    history = _history(query, page)
    following = request.url.include_query_params(cursor=page.next_cursor)
    headers = {"Vary": "Accept"}
    headers |= {"Link": f'<{following}>; rel="next"'} if page.next_cursor else {}
    if media_type == HTML:
        headers["Content-Security-Policy"] = policy()
        body = await trend_page(history, labels, drawer)
        return Response(body, media_type=HTML, headers=headers)
    return Response(history.model_dump_json(), media_type=JSON, headers=headers)


def _history(query: HistoryQuery, page: LayerPage) -> HistoryOut:
    points = (
        HistoryPointOut(
            analysis=one.analysis.id,
            created_at=one.analysis.created_at,
            labels=dict(one.analysis.labels),
            verdict=one.analysis.verdict,
            value=value_of(one.layer, query.statistic),
            low=low,
            high=high,
        )
        for one in page.items
        for low, high in (_range(one.layer, query.statistic),)
    )
    return HistoryOut(
        layer=query.layer,
        statistic=query.statistic,
        items=tuple(points),
        next_cursor=page.next_cursor,
    )


def _range(layer: LayerMeasurements, statistic: str) -> tuple[float | None, float | None]:
    return layer.spread.get(statistic, (None, None))


def _known() -> str:
    own = ", ".join(OF_LAYERS)
    return f"must be one of {own}; or PARAMETER.{{{', '.join(OF_PARAMETERS)}}}, as weight.grad_norm"
