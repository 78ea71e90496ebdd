"""What can be taken away from an analysis, or why there is nothing."""

from __future__ import annotations

from typing import Any

from service.domain.analysis import Analysis, Status
from service.domain.errors import AnalysisUnfinished, NoPrescription, SpecOnly, WeightsNotKept
from service.domain.findings import Verdict
from service.domain.recommendations import Prescription


def prescription_of(analysis: Analysis) -> Prescription:
    """Raises AnalysisUnfinished, NoPrescription."""
    if not analysis.status.final:
        raise AnalysisUnfinished(f"the analysis is still {analysis.status}; it goes on")
    if analysis.report is None:
        raise NoPrescription(_why_no_report(analysis))
    prescription = analysis.report.prescription
    if prescription is None:
        raise NoPrescription(_why_none(analysis))
    return prescription


def spec_of(analysis: Analysis) -> dict[str, Any]:
    """The repaired spec, expanded. Raises AnalysisUnfinished, NoPrescription, SpecOnly."""
    spec = _of_a_spec(analysis).patched_spec
    if spec is None:
        raise NoPrescription(NOT_SAID)
    return spec


def patch_of(analysis: Analysis) -> tuple[dict[str, Any], ...]:
    """RFC 6902 operations on the submitted spec. Raises what `spec_of` does."""
    patch = _of_a_spec(analysis).patch
    if patch is None:
        raise NoPrescription(NOT_SAID)
    return patch


def weights_of(analysis: Analysis) -> str:
    """Artifact id of the repaired weights. Raises AnalysisUnfinished, NoPrescription,
    WeightsNotKept."""
    weights = prescription_of(analysis).weights
    if analysis.request.retain != "all":
        raise WeightsNotKept(f"the request says `retain`: {analysis.request.retain!r}")
    if weights is None:
        raise WeightsNotKept("they could not be kept when they were made; the notes tell why")
    return weights


NOT_SAID = "what was prescribed cannot be said on the submitted spec; each change has its own code"


def _of_a_spec(analysis: Analysis) -> Prescription:
    prescription = prescription_of(analysis)
    if analysis.model_format not in ("spec", "keras"):
        raise SpecOnly(
            f"the model was a {analysis.model_format} file, there is no spec to repair; take the "
            "weights from prescription/state_dict, and the code of each recommendation"
        )
    return prescription


def _why_no_report(analysis: Analysis) -> str:
    if analysis.status is Status.CANCELLED:
        return "the analysis was cancelled"
    told = f": {analysis.error.title}: {analysis.error.detail}" if analysis.error else ""
    return f"the analysis failed{told}"


def _why_none(analysis: Analysis) -> str:
    if analysis.verdict == Verdict.HEALTHY:
        return "the model is healthy as it stands"
    if analysis.verdict == Verdict.INCONCLUSIVE:
        return "the diagnosis is inconclusive, so that no change could be proven"
    return "no permitted change was found that makes the model train; the notes tell what was tried"
