"""Everything this client raises on purpose.

GraddxError
├── InvalidInput              what was given cannot be sent: a file, an address, a setting
│   └── ExportFailed          torch could not write the module as TorchScript
├── ConnectionFailed          no answer came
├── ApiError                  the server refused: status, code, detail, errors, request_id
│   ├── InvalidRequest        invalid_request, idempotency_conflict
│   │   ├── UnknownLayerType
│   │   ├── ShapeMismatch
│   │   ├── UnsupportedArtifact
│   │   └── ArtifactRejected
│   ├── NotFound              not_found: the address is not that of a graddx server
│   │   ├── AnalysisNotFound
│   │   ├── ArtifactNotFound
│   │   └── NoPrescription    no_prescription, spec_only, weights_not_kept: nothing to take away
│   ├── AnalysisUnfinished    what was asked for is there once the analysis has ended
│   ├── AccessDenied
│   │   ├── Unauthorized      no API key, or none that is good
│   │   └── Forbidden         the key has not the scope
│   ├── PayloadTooLarge
│   ├── Busy                  idempotency_in_flight: every retry was refused too
│   │   ├── RateLimited
│   │   └── QueueFull
│   └── ServerError           the server cannot: sandbox_unavailable, internal_error
│       └── StorageFull
├── NotFinished               the time to wait is over; the analysis goes on
└── AnalysisFailed            the analysis ended without a diagnosis: code, detail
    └── AnalysisCancelled
"""

from __future__ import annotations

from dataclasses import dataclass

from graddx.results import Analysis


class GraddxError(Exception):
    """Something went wrong that this client can name."""


class InvalidInput(GraddxError):
    """What was given cannot be sent."""


class ExportFailed(InvalidInput):
    """torch could not write the module as TorchScript."""


class ConnectionFailed(GraddxError):
    """No answer came from the server."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request."""

    detail: str
    """What is wrong and what was expected."""
    pointer: str | None = None
    """JSON pointer (RFC 6901) into the request body; None: not in the body."""
    parameter: str | None = None
    """Name of the query parameter or header, when it is that."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer (RFC 9457)."""

    status: int
    """HTTP status."""
    code: str
    """Stable; http_STATUS when the answer did not come from graddx itself (a proxy …)."""
    title: str = ""
    """The kind of problem in a few words."""
    detail: str = ""
    """This occurrence, in a sentence."""
    request_id: str | None = None
    """As in the server's log."""
    errors: tuple[Fault, ...] = ()
    """Every fault found in the request."""


class ApiError(GraddxError):
    """The server refused."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        told = dict.fromkeys(one for one in (problem.title, problem.detail) if one)
        super().__init__(": ".join(told))
        self.status = problem.status
        self.code = problem.code
        self.title = problem.title
        self.detail = problem.detail
        self.errors = problem.errors
        self.request_id = problem.request_id
        self.retry_after = retry_after
        """Seconds after which asking again makes sense, when the server said so."""


class InvalidRequest(ApiError):
    """The server cannot use the request; `errors` say what and where."""


class UnknownLayerType(InvalidRequest):
    """A layer's type is not in the catalogue."""


class ShapeMismatch(InvalidRequest):
    """Two layers do not fit together."""


class UnsupportedArtifact(InvalidRequest):
    """The file is not a model in a format that the server reads."""


class ArtifactRejected(InvalidRequest):
    """The file was refused before it was loaded."""


class NotFound(ApiError):
    """Nothing is there."""


class AnalysisNotFound(NotFound):
    """No analysis has this id."""


class ArtifactNotFound(NotFound):
    """No artifact has this id."""


class NoPrescription(NotFound):
    """There is nothing of this kind to take away; `detail` says why."""


class AnalysisUnfinished(ApiError):
    """What was asked for is there once the analysis has ended."""


class AccessDenied(ApiError):
    """The API key is missing, wrong or not allowed to do this."""


class Unauthorized(AccessDenied):
    """The call came without an API key, or with one that is unknown, expired or revoked."""


class Forbidden(AccessDenied):
    """The API key has not the scope that the call needs."""


class PayloadTooLarge(ApiError):
    """The body is larger than the server accepts."""


class Busy(ApiError):
    """Every retry was refused too; `retry_after` tells when to come again."""


class RateLimited(Busy):
    """Too many calls with this API key, or from this address."""


class QueueFull(Busy):
    """Too many analyses are waiting."""


class ServerError(ApiError):
    """The server cannot, whatever the request."""


class StorageFull(ServerError):
    """The server's disk is full; nothing of the call was stored."""


class NotFinished(GraddxError):
    """The time to wait is over; the analysis goes on."""

    def __init__(self, analysis: Analysis, seconds: float) -> None:
        doing = analysis.stage or analysis.status
        super().__init__(f"analysis {analysis.id} is not finished after {seconds:g} s ({doing})")
        self.analysis = analysis


class AnalysisFailed(GraddxError):
    """The analysis ended without a diagnosis."""

    def __init__(self, analysis: Analysis) -> None:
        failure = analysis.error
        self.analysis = analysis
        self.code = failure.code if failure else analysis.status
        self.title = failure.title if failure else f"The analysis was {analysis.status}"
        self.detail = failure.detail if failure else ""
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)


class AnalysisCancelled(AnalysisFailed):
    """Somebody cancelled the analysis."""


BY_CODE: dict[str, type[ApiError]] = {
    "invalid_request": InvalidRequest,
    "idempotency_conflict": InvalidRequest,
    "unknown_layer_type": UnknownLayerType,
    "shape_mismatch": ShapeMismatch,
    "unsupported_artifact": UnsupportedArtifact,
    "artifact_rejected": ArtifactRejected,
    "analysis_not_found": AnalysisNotFound,
    "artifact_not_found": ArtifactNotFound,
    "not_found": NotFound,
    "no_prescription": NoPrescription,
    "spec_only": NoPrescription,
    "weights_not_kept": NoPrescription,
    "analysis_unfinished": AnalysisUnfinished,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "payload_too_large": PayloadTooLarge,
    "idempotency_in_flight": Busy,
    "rate_limited": RateLimited,
    "queue_full": QueueFull,
    "sandbox_unavailable": ServerError,
    "storage_full": StorageFull,
    "internal_error": ServerError,
}
"""Code → exception; codes that are not here go by the status."""

BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Busy,
    413: PayloadTooLarge,
    422: InvalidRequest,
    429: RateLimited,
    507: StorageFull,
    503: Busy,
}


def api_error(problem: Problem, retry_after: float | None = None) -> ApiError:
    """The exception of a problem: by code, then by status."""
    fallback = ServerError if problem.status >= 500 else ApiError
    kind = BY_CODE.get(problem.code) or BY_STATUS.get(problem.status, fallback)
    return kind(problem, retry_after)
