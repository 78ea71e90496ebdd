"""/v1/artifacts: files stored once, by content."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from api.dependencies import ArtifactId, EngineDep, ReaderDep
from api.negotiation import JSON, negotiate
from api.openapi import file_body, problems
from api.schemas.responses import ArtifactOut

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])


@router.put(
    "",
    response_model=None,
    openapi_extra=file_body(),
    responses={
        200: {"model": ArtifactOut, "description": "It was there already."},
        201: {"model": ArtifactOut, "description": "Stored."},
        **problems(
            "invalid_request",
            "unsupported_artifact",
            "forbidden",
            "not_acceptable",
            "payload_too_large",
            "storage_full",
        ),
    },
)
async def put_artifact(request: Request, reader: ReaderDep) -> Response:
    """Store a model, a batch of real samples (`probe.data`) or the weights of a spec
    (`model.weights`), as the body itself or as the only part of a form.

    The same content gives the same id, however often it is sent."""
    negotiate(request, JSON)
    began = datetime.now(UTC)
    artifact = ArtifactOut.model_validate(await reader.artifact())
    return Response(
        artifact.model_dump_json(),
        status_code=201 if artifact.created_at >= began else 200,
        media_type=JSON,
        headers={"Location": str(request.url_for("read_artifact", artifact_id=artifact.id))},
    )


@router.get(
    "/{artifact_id}",
    response_model=None,
    responses={
        200: {"model": ArtifactOut},
        **problems("invalid_request", "artifact_not_found", "not_acceptable"),
    },
)
def read_artifact(request: Request, artifact_id: ArtifactId, engine: EngineDep) -> Response:
    """What is known of a stored file."""
    negotiate(request, JSON)
    artifact = ArtifactOut.model_validate(engine.artifact(artifact_id))
    return Response(artifact.model_dump_json(), media_type=JSON)


@router.delete(
    "/{artifact_id}",
    response_model=None,
    status_code=204,
    responses={
        204: {"description": "Deleted."},
        **problems("invalid_request", "forbidden", "artifact_not_found"),
    },
)
def delete_artifact(artifact_id: ArtifactId, engine: EngineDep) -> Response:
    """Delete a stored file. Analyses of it keep their results."""
    engine.delete_artifact(artifact_id)
    return Response(status_code=204)
