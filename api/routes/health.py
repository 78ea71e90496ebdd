"""/livez, /readyz: for whoever runs the server."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.dependencies import ServerDep
from api.negotiation import JSON
from api.openapi import problems
from api.schemas.responses import LiveOut, ReadyOut

router = APIRouter(tags=["operations"])


@router.get("/livez", responses=problems())
def live() -> LiveOut:
    """The process runs."""
    return LiveOut()


@router.get(
    "/readyz",
    response_model=None,
    responses={
        200: {"model": ReadyOut},
        503: {"model": ReadyOut, "description": "Not ready: some check is false."},
        **problems(),
    },
)
def ready(engine: ServerDep) -> Response:
    """The database answers, its schema is current and a worker is up."""
    readiness = ReadyOut.model_validate(engine.readiness())
    status = 200 if readiness.ready else 503
    return Response(readiness.model_dump_json(), status_code=status, media_type=JSON)
