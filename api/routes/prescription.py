"""/v1/analyses/{id}/prescription: the repaired model to take away."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import AnalysisId, EngineDep
from api.downloads import download, file_download
from api.negotiation import JSON, negotiate
from api.openapi import problems
from api.schemas.queries import SpecQuery

router = APIRouter(prefix="/v1/analyses/{analysis_id}/prescription", tags=["prescription"])

PATCH = "application/json-patch+json"
SOURCE = "text/x-python"
SAFETENSORS = "application/octet-stream"
"""The format has no registered type."""
REFUSALS = (
    "invalid_request",
    "analysis_not_found",
    "not_acceptable",
    "analysis_unfinished",
    "no_prescription",
)


def _file(description: str, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    headers = {
        "ETag": {**text, "description": "Of the content; for If-None-Match."},
        "Content-Disposition": {**text, "description": "A name for the file."},
    }
    return {
        200: {"description": description, "content": content, "headers": headers},
        304: {"description": "The caller has it: If-None-Match names its ETag."},
    }


@router.get(
    "/spec",
    response_model=None,
    responses={
        **_file(
            "The repaired spec, or the patch to it.",
            {
                JSON: {"schema": {"type": "object"}},
                PATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
            },
        ),
        **problems(*REFUSALS, "spec_only"),
    },
)
def read_repaired_spec(
    request: Request,
    analysis_id: AnalysisId,
    query: Annotated[SpecQuery, Query()],
    engine: EngineDep,
) -> Response:
    """The repaired spec: every layer by itself, explicit sizes, ready to be posted again.

    With `?format=patch`, or `Accept: application/json-patch+json`, RFC 6902 operations instead;
    applied to the spec as it was submitted they give one that means the same."""
    accepted = negotiate(request, JSON, PATCH)
    if query.format == "patch" or (query.format is None and accepted == PATCH):
        operations = json.dumps(engine.repairing_patch(analysis_id), indent=2)
        return download(request, operations, PATCH, f"{analysis_id}.patch.json", vary="Accept")
    spec = json.dumps(engine.repaired_spec(analysis_id), indent=2)
    return download(request, spec, JSON, f"{analysis_id}.json", vary="Accept")


@router.get(
    "/code",
    response_model=None,
    responses={
        **_file(
            "PyTorch source.",
            {SOURCE: {"schema": {"type": "string"}}},
        ),
        **problems(*REFUSALS, "spec_only"),
    },
)
def read_repaired_code(request: Request, analysis_id: AnalysisId, engine: EngineDep) -> Response:
    """The repaired model as PyTorch source: `class RepairedModel(nn.Module)`, which draws its
    parameters as prescribed. Its state dict has the names of `prescription/state_dict`."""
    negotiate(request, SOURCE)
    source = engine.repaired_source(analysis_id)
    return download(request, source, SOURCE, f"{analysis_id}.py")


@router.get(
    "/state_dict",
    response_model=None,
    responses={
        **_file(
            "A safetensors file.",
            {SAFETENSORS: {"schema": {"type": "string", "format": "binary"}}},
        ),
        206: {"description": "The part that Range asked for."},
        **problems(*REFUSALS, "weights_not_kept", "artifact_not_found"),
    },
)
def read_repaired_weights(request: Request, analysis_id: AnalysisId, engine: EngineDep) -> Response:
    """The repaired weights, drawn as prescribed, as a safetensors file in the probe's precision.

    Names are those of the file that was sent, or of the repaired spec. They are kept until the
    analysis is deleted, and only where the request says `retain`: `all`."""
    negotiate(request, SAFETENSORS)
    weights = engine.repaired_weights(analysis_id)
    path = engine.artifact_path(weights.id)
    digest = weights.id.removeprefix("sha256:")
    return file_download(request, path, digest, SAFETENSORS, f"{analysis_id}.safetensors")
