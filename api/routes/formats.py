"""/v1/analyses/{id}/sarif, /junit: a finished analysis as CI systems read it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import AnalysisId, EngineDep
from api.downloads import download
from api.formats import CONTENTS, FORMS, JUNIT, SARIF
from api.negotiation import negotiate
from api.openapi import problems
from api.schemas.queries import FormQuery
from service.domain.errors import AnalysisUnfinished
from service.use_cases import Engine

router = APIRouter(prefix="/v1/analyses/{analysis_id}", tags=["formats"])


def _answers(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    return {
        200: {
            "description": description,
            "content": {media_type: CONTENTS[media_type]},
            "headers": {
                "ETag": {**text, "description": "Of the content; for If-None-Match."},
                "Content-Disposition": {**text, "description": "A name for the file."},
            },
        },
        304: {"description": "The caller has it: If-None-Match names its ETag."},
        **problems(
            "invalid_request", "analysis_not_found", "not_acceptable", "analysis_unfinished"
        ),
    }


@router.get(
    "/sarif",
    response_model=None,
    responses=_answers(SARIF, "SARIF 2.1.0: one run; a failed analysis is a notification."),
)
def read_sarif(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[FormQuery, Query()],
    engine: EngineDep,
) -> Response:
    """The findings as SARIF 2.1.0, for code scanning: the model's file is the location, its layers
    are the logical locations, and fingerprints stay the same from run to run."""
    return _form(request, engine, analysis_id, SARIF, query.path, "sarif")


@router.get(
    "/junit",
    response_model=None,
    responses=_answers(JUNIT, "JUnit XML: one suite; a failed analysis is an error."),
)
def read_junit(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[FormQuery, Query()],
    engine: EngineDep,
) -> Response:
    """Every detector as a JUnit test case: failed at or above `fail_on`, skipped where ignored."""
    return _form(request, engine, analysis_id, JUNIT, query.path, "xml")


def _form(
    request: Request, engine: Engine, analysis_id: str, media_type: str, path: str | None, end: str
) -> Response:
    negotiate(request, media_type)
    analysis = engine.get(analysis_id)
    if not analysis.status.final:
        raise AnalysisUnfinished(f"the analysis is still {analysis.status}; it goes on")
    address = str(request.url_for("read_analysis", analysis_id=analysis.id))
    body = FORMS[media_type](analysis, address, path)
    return download(request, body, media_type, f"{analysis_id}.{end}")
