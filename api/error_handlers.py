"""One table: error code → HTTP status. Every error leaves as application/problem+json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from asgi_correlation_id import correlation_id
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.schemas.problems import MEDIA_TYPE, Problem, ProblemFault
from service.domain.api_keys import without_secrets
from service.domain.errors import GraddxError, InvalidRequest

STATUS: dict[str, int] = {
    "invalid_request": 422,
    "unknown_layer_type": 422,
    "shape_mismatch": 422,
    "unsupported_artifact": 422,
    "artifact_rejected": 422,
    "change_refused": 422,
    "idempotency_conflict": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "analysis_not_found": 404,
    "artifact_not_found": 404,
    "no_prescription": 404,
    "weights_not_kept": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "idempotency_in_flight": 409,
    "analysis_unfinished": 409,
    "spec_only": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "gate_failed": 417,
    "rate_limited": 429,
    "internal_error": 500,
    "analysis_failed": 502,
    "queue_full": 503,
    "sandbox_unavailable": 503,
    "not_finished": 504,
    "storage_full": 507,
}
"""Every code that an HTTP answer can carry."""

CODE_OF_STATUS = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}
"""For what Starlette itself refuses."""

RETRY_AFTER = {
    "queue_full": "5",
    "not_finished": "5",
    "analysis_unfinished": "1",
    "storage_full": "60",
    "idempotency_in_flight": "1",
}
"""Seconds after which asking again makes sense."""


class NotAcceptable(GraddxError):
    """None of the media types in Accept can be given."""

    code = "not_acceptable"
    title = "Not acceptable"


class UnsupportedMediaType(GraddxError):
    """The body is of a type that this call does not read."""

    code = "unsupported_media_type"
    title = "Unsupported media type"


class Forbidden(GraddxError):
    """The caller may not do this."""

    code = "forbidden"
    title = "Forbidden"


class RateLimited(GraddxError):
    """Too many calls."""

    code = "rate_limited"
    title = "Too many calls"


class InvalidParameter(GraddxError):
    """A query parameter or header cannot be understood."""

    code = "invalid_request"
    title = "Invalid request"

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.faults = (ProblemFault(parameter=parameter, detail=detail),)


def install(app: FastAPI) -> None:
    """Errors raised by routes, by FastAPI and by Starlette, all as problems."""
    app.add_exception_handler(GraddxError, _graddx_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)


def problem(code: str, title: str, detail: str, errors: Iterable[ProblemFault] = ()) -> Problem:
    """What every error answer holds."""
    return Problem(
        type=f"urn:graddx:problem:{code}",
        title=title,
        status=STATUS[code],
        code=code,
        detail=detail,
        request_id=correlation_id.get(),
        errors=tuple(errors),
    )


def of_error(error: GraddxError) -> Problem:
    """An error as what its answer holds."""
    return problem(error.code, error.title, error.detail, _faults(error))


def respond(body: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response; a key that strayed into the request is not told again."""
    retry = {"Retry-After": RETRY_AFTER[body.code]} if body.code in RETRY_AFTER else {}
    return Response(
        without_secrets(body.model_dump_json()),
        status_code=body.status,
        media_type=MEDIA_TYPE,
        headers={**retry, **(headers or {})},
    )


def internal_error() -> Response:
    """Says nothing of what happened; the log has it under the same request id."""
    detail = "The server failed; its log has the request id."
    return respond(problem("internal_error", "Internal error", detail))


async def _graddx_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GraddxError)
    if STATUS.get(error.code, 500) == 500:
        raise error
    return respond(of_error(error))


def _faults(error: GraddxError) -> tuple[ProblemFault, ...]:
    if isinstance(error, InvalidParameter):
        return error.faults
    if isinstance(error, InvalidRequest):
        return tuple(ProblemFault(pointer=one.pointer, detail=one.detail) for one in error.faults)
    return ()


async def _invalid_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        ProblemFault(parameter=str(one["loc"][1]), detail=_DETAILS.get(one["type"], one["msg"]))
        for one in error.errors()
    ]
    detail = "; ".join(f"{fault.parameter}: {fault.detail}" for fault in faults)
    return respond(problem("invalid_request", "Invalid request", detail, faults))


_DETAILS = {"missing": "required", "extra_forbidden": "unknown parameter"}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405 and (documented := _methods(request)):
        headers["Allow"] = ", ".join(documented)
    code = CODE_OF_STATUS.get(error.status_code, "invalid_request")
    title = HTTPStatus(error.status_code).phrase
    return respond(problem(code, title, str(error.detail)), headers)


def _methods(request: Request) -> list[str]:
    """Of all routes of this path; Starlette tells only those of the first."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, ()))


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)
