"""What the exit code of `graddx check` says. Only 0 means that the model passed."""

from __future__ import annotations

from graddx.errors import (
    AccessDenied,
    AnalysisFailed,
    AnalysisUnfinished,
    ArtifactNotFound,
    GraddxError,
    InvalidInput,
    InvalidRequest,
    NoPrescription,
    NotFinished,
    PayloadTooLarge,
)
from graddx.results import Analysis

PASSED = 0
"""Finished, and nothing at or above `--fail-on`."""
NOT_PASSED = 1
"""A finding at or above `--fail-on`, or a verdict that is inconclusive."""
NOTHING = 1
"""Of `graddx apply`: there is no such repair to take away."""
USAGE = 2
"""An option, a file or a request that cannot be used."""
SERVER = 3
"""No server, or one that cannot."""
TIMEOUT = 4
"""Not finished within `--timeout`; the analysis goes on."""
FAILED = 5
"""The analysis failed or was cancelled: nothing is known about the model."""
BROKEN = 70
"""graddx itself is broken (EX_SOFTWARE): not to be taken for a finding."""

OF_ERROR: tuple[tuple[type[GraddxError], int], ...] = (
    (InvalidInput, USAGE),
    (InvalidRequest, USAGE),
    (ArtifactNotFound, USAGE),
    (PayloadTooLarge, USAGE),
    (AccessDenied, USAGE),
    (NoPrescription, NOTHING),
    (AnalysisUnfinished, TIMEOUT),
    (NotFinished, TIMEOUT),
    (AnalysisFailed, FAILED),
    (GraddxError, SERVER),
)
"""First match."""


def of_error(error: GraddxError) -> int:
    """Why there is no diagnosis."""
    return next(code for kind, code in OF_ERROR if isinstance(error, kind))


def of_analysis(analysis: Analysis) -> int:
    """Of one that finished; only the server's own `true` passes."""
    if analysis.status != "succeeded":
        return FAILED
    return PASSED if analysis.passed is True else NOT_PASSED
