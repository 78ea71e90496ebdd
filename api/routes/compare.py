"""/v1/analyses/{id}/compare/{other}: what changed between two analyses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from api.dependencies import AnalysisId, EngineDep, checked_analysis_id
from api.negotiation import JSON, negotiate
from api.openapi import problems
from api.presenting import findings_out
from api.schemas.responses import ComparisonOut, FindingChangeOut, LayerChangeOut, SideOut
from service.domain.analysis import Analysis

router = APIRouter(prefix="/v1/analyses", tags=["history"])


def _other(
    other: Annotated[str, Path(description="`id` of the analysis to compare with: the second.")],
) -> str:
    return checked_analysis_id(other)


@router.get(
    "/{analysis_id}/compare/{other}",
    response_model=None,
    responses={
        200: {"model": ComparisonOut},
        **problems(
            "invalid_request", "analysis_not_found", "analysis_unfinished", "not_acceptable"
        ),
    },
)
def compare_analyses(
    request: Request,
    analysis_id: AnalysisId,
    other: Annotated[str, Depends(_other)],
    engine: EngineDep,
) -> Response:
    """What changed from the first analysis to the other: verdict, findings, and layer by layer
    every statistic with its spread. Layers are matched by name."""
    negotiate(request, JSON)
    found = engine.compare(analysis_id, other)
    out = ComparisonOut(
        before=_side(found.before),
        after=_side(found.after),
        same_model=found.same_model,
        probe_differs=found.probe_differs,
        appeared=findings_out(found.appeared),
        gone=findings_out(found.gone),
        kept=tuple(FindingChangeOut.model_validate(one) for one in found.kept),
        layers=tuple(LayerChangeOut.model_validate(one) for one in found.layers),
    )
    return Response(out.model_dump_json(), media_type=JSON)


def _side(analysis: Analysis) -> SideOut:
    return SideOut(
        id=analysis.id,
        status=analysis.status,
        created_at=analysis.created_at,
        labels=dict(analysis.labels),
        verdict=analysis.verdict,
        passed=analysis.passed,
        model_sha256=analysis.model_sha256,
    )
