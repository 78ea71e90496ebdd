"""/v1/catalog: everything this server can find, advise and build."""

from __future__ import annotations

from inspect import getdoc

from fastapi import APIRouter, Request, Response

from api.negotiation import JSON, negotiate
from api.openapi import problems
from api.schemas.responses import (
    ArgumentOut,
    CatalogOut,
    DetectorOut,
    InitializerOut,
    LayerTypeOut,
    RemedyOut,
)
from service.diagnosis.detectors import ALL_DETECTORS
from service.domain.layers import LAYER_TYPES
from service.domain.layers.initializers import INITIALIZERS
from service.domain.layers.signature import REQUIRED, Argument
from service.recommendation import ALL_REMEDIES

router = APIRouter(prefix="/v1", tags=["catalog"])


@router.get(
    "/catalog",
    response_model=None,
    responses={200: {"model": CatalogOut}, **problems("not_acceptable")},
)
def catalog(request: Request) -> Response:
    """Detectors, remedies, layer types, activations and initializers, with their docs."""
    negotiate(request, JSON)
    return Response(_catalog().model_dump_json(), media_type=JSON)


def _catalog() -> CatalogOut:
    return CatalogOut(
        detectors=tuple(
            DetectorOut(code=one.code, title=one.title, docs=getdoc(type(one)) or "")
            for one in ALL_DETECTORS
        ),
        remedies=tuple(
            RemedyOut(
                kind=one.kind, resolves=tuple(sorted(one.cures)), docs=getdoc(type(one)) or ""
            )
            for one in ALL_REMEDIES
        ),
        layer_types=tuple(
            LayerTypeOut(
                name=one.name,
                category=one.category,
                summary=one.summary,
                arguments=_arguments(one.arguments),
            )
            for one in LAYER_TYPES.values()
        ),
        activations=tuple(one.name for one in LAYER_TYPES.values() if one.category == "activation"),
        initializers=tuple(
            InitializerOut(name=one.name, summary=one.summary, arguments=_arguments(one.arguments))
            for one in INITIALIZERS.values()
        ),
    )


def _arguments(arguments: tuple[Argument, ...]) -> tuple[ArgumentOut, ...]:
    return tuple(
        ArgumentOut(
            name=one.name,
            required=one.required,
            inferred=one.infer is not None,
            default=None if one.default is REQUIRED else one.default,
        )
        for one in arguments
    )
