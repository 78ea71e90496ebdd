"""Errors on the wire: RFC 9457 problem details with a stable `code`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.responses import FailureOut, FindingOut

MEDIA_TYPE = "application/problem+json"


class ProblemFault(BaseModel):
    """One thing wrong with the request."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    pointer: str | None = Field(default=None, examples=["/model/layers/3/args/out_features"])
    """JSON pointer (RFC 6901) into the body; "" is the whole body; null: not in the body."""
    parameter: str | None = None
    """Name of the query parameter or header, when it is that."""
    detail: str
    """What is wrong and what was expected."""


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str = Field(examples=["urn:graddx:problem:invalid_request"])
    """urn:graddx:problem: and the code."""
    title: str
    """The kind of problem in a few words."""
    status: int
    """The HTTP status."""
    code: str
    """Stable; what programs should look at."""
    detail: str
    """This occurrence, in a sentence."""
    request_id: str | None
    """As in the response header X-Request-ID and the server's log."""
    errors: tuple[ProblemFault, ...] = ()
    """Every fault found in the request."""


class GateFailed(Problem):
    """The analysis finished and did not pass."""

    id: str
    """Of the analysis."""
    verdict: str
    """at_risk, unhealthy, inconclusive, or healthy with a finding at or above `fail_on`."""
    summary: str
    """The diagnosis in a sentence."""
    findings: tuple[FindingOut, ...]
    """Worst first."""
    report: str
    """Address of the whole analysis."""


class GateNotFinished(Problem):
    """The analysis goes on."""

    id: str
    """Of the analysis."""
    report: str
    """Address of the analysis."""


class GateAnalysisFailed(Problem):
    """The analysis failed or was cancelled."""

    id: str
    """Of the analysis."""
    failure: FailureOut | None
    """Why; null when it was cancelled."""
    report: str
    """Address of the analysis."""
