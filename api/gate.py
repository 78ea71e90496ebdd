"""The gate: an analysis as one HTTP status that `curl --fail-with-body` understands."""

from __future__ import annotations

from starlette.responses import Response

from api.error_handlers import problem, respond
from api.presenting import findings_out
from api.schemas.problems import GateAnalysisFailed, GateFailed, GateNotFinished
from api.schemas.responses import FailureOut
from service.domain.analysis import Analysis, Status

DEFAULT_WAIT = 300
"""Seconds a gate waits when the caller does not say."""


def reason_to_refuse(analysis: Analysis) -> str | None:
    """The code of the refusal; None: finished and passed."""
    if not analysis.status.final:
        return "not_finished"
    if analysis.status is not Status.SUCCEEDED or analysis.report is None:
        return "analysis_failed"
    return None if analysis.passed else "gate_failed"


def refusal(analysis: Analysis, address: str) -> Response | None:
    """Why the gate stays shut; None: finished and passed."""
    match reason_to_refuse(analysis):
        case "not_finished":
            return respond(_not_finished(analysis, address), {"Location": address})
        case "analysis_failed":
            return respond(_failed(analysis, address))
        case "gate_failed":
            return respond(_not_passed(analysis, address))
    return None


def _not_finished(analysis: Analysis, address: str) -> GateNotFinished:
    detail = f"The analysis is still {analysis.status}; it goes on, ask again at {address}"
    about = problem("not_finished", "Not finished", detail)
    return GateNotFinished(**dict(about), id=analysis.id, report=address)


def _failed(analysis: Analysis, address: str) -> GateAnalysisFailed:
    failure = FailureOut.model_validate(analysis.error) if analysis.error else None
    detail = f"{failure.title}: {failure.detail}" if failure else "The analysis was cancelled."
    about = problem("analysis_failed", "Analysis failed", detail)
    return GateAnalysisFailed(**dict(about), id=analysis.id, failure=failure, report=address)


def _not_passed(analysis: Analysis, address: str) -> GateFailed:
    assert analysis.report is not None
    diagnosis = analysis.report.diagnosis
    about = problem("gate_failed", "Gate failed", diagnosis.summary)
    return GateFailed(
        **dict(about),
        id=analysis.id,
        verdict=diagnosis.verdict,
        summary=diagnosis.summary,
        findings=findings_out(diagnosis.findings),
        report=address,
    )
