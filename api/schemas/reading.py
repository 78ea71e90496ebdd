"""From submitted JSON to the engine's request, or to every fault in it with its JSON pointer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.json_body import pointer
from api.schemas.requests import (
    NOT_YET,
    AnalysisIn,
    AnalysisOptions,
    ArtifactIn,
    KerasIn,
    kind_of,
)
from service.domain.errors import Fault, InvalidRequest, NotYetSupported
from service.domain.keras import translate
from service.domain.model_source import model_source
from service.domain.request import AnalysisRequest, ModelRequest

MAX_FAULTS = 100
"""Faults told per answer."""
MAX_TOLD = 3
"""Faults told in the one sentence of `detail`."""
DETAILS = {"missing": "required", "extra_forbidden": "unknown field"}
"""Shorter than pydantic's own words."""


def read_options(body: dict[str, Any]) -> AnalysisOptions:
    """Raises InvalidRequest, NotYetSupported."""
    try:
        return AnalysisOptions.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from error


def read_analysis(body: dict[str, Any]) -> AnalysisRequest:
    """Raises InvalidRequest, NotYetSupported; of a spec's own faults only when others keep it from
    the engine, which would tell them."""
    try:
        wire = AnalysisIn.model_validate(body)
    except ValidationError as error:
        raise _with_spec_faults(body, _invalid(error)) from error
    if isinstance(wire.model, ArtifactIn):
        return wire.to_domain(ModelRequest("artifact", artifact_id=wire.model.id))
    if isinstance(wire.model, KerasIn):
        return wire.to_domain(_keras_request(wire.model.config))
    return wire.to_domain(_spec_request(body["model"]))


def refuse(faults: list[Fault], kind: type[InvalidRequest] = InvalidRequest) -> InvalidRequest:
    """All of them in one error."""
    told = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:MAX_TOLD])
    more = len(faults) - MAX_TOLD
    return kind(told + (f"; and {more} more" if more > 0 else ""), faults=faults[:MAX_FAULTS])


def _spec_request(submitted: dict[str, Any]) -> ModelRequest:
    spec = {name: value for name, value in submitted.items() if name not in ("kind", "weights")}
    return ModelRequest("spec", spec=spec, weights_id=submitted.get("weights"))


def _keras_request(config: dict[str, Any]) -> ModelRequest:
    """The spec that a Keras model means. Raises InvalidRequest."""
    try:
        translated = translate(config)
    except InvalidRequest as error:
        raise error.within("/model/config") from error
    return ModelRequest("keras", spec=translated.spec, notes=translated.notes)


def _with_spec_faults(body: dict[str, Any], error: InvalidRequest) -> InvalidRequest:
    """The grammar's words about the spec instead of the schema's, which knows less."""
    if kind_of(body.get("model")) != "spec":
        return error
    try:
        model_source(_spec_request(body["model"]), "spec")
    except InvalidRequest as raised:
        of_spec = raised.within("/model")
        others = [fault for fault in error.faults if not _of_the_grammar(fault)]
        return refuse([*others, *of_spec.faults]) if others else of_spec
    return error


def _of_the_grammar(fault: Fault) -> bool:
    return fault.pointer.startswith("/model/") and fault.pointer != "/model/weights"


def _invalid(error: ValidationError) -> InvalidRequest:
    errors = error.errors(include_url=False, include_context=False)
    not_built = all(one["type"] == NOT_YET for one in errors)
    kind = NotYetSupported if not_built else InvalidRequest
    return refuse([_fault(one) for one in errors], kind)


def _fault(error: ErrorDetails) -> Fault:
    return Fault(pointer(_path(error)), DETAILS.get(error["type"], error["msg"]))


def _path(error: ErrorDetails) -> tuple[int | str, ...]:
    """pydantic's path without what is not in the body: the chosen member of the union behind
    "model", and the mark of a bad name behind a label."""
    path = error["loc"]
    if error["type"] == "model_kind":
        return ("model", "kind") if isinstance(error["input"], Mapping) else ("model",)
    if path[0] == "model":
        return ("model", *path[2:])
    return path[:2] if path[0] == "labels" else path
