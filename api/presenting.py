"""The domain's nouns → the wire types."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from api import VERSION
from api.links import docs_path
from api.schemas.responses import (
    AnalysesOut,
    AnalysisHeadOut,
    AnalysisOut,
    BaselineOut,
    CostOut,
    DiagnosisOut,
    EngineOut,
    FailureOut,
    FindingOut,
    LayerAfterOut,
    LayerOut,
    ModelDiagnosisOut,
    ModelOut,
    PrescriptionLinksOut,
    PrescriptionOut,
    RecommendationOut,
    SuppressedOut,
)
from service.domain.analysis import Analysis
from service.domain.findings import Finding
from service.domain.recommendations import Prescription
from service.domain.report import Report
from service.use_cases import Page


def analysis_out(analysis: Analysis) -> AnalysisOut:
    """The whole answer."""
    report = analysis.report
    return AnalysisOut(
        **dict(analysis_head_out(analysis)),
        engine=EngineOut(
            version=VERSION,
            torch=report.facts.torch if report else None,
            device=report.facts.device if report else None,
        ),
        cached=analysis.cached,
        notes=report.notes if report else (),
        baseline=BaselineOut(id=report.baseline) if report and report.baseline else None,
        probe=report.probe if report else None,
        cost=CostOut.model_validate(report.cost) if report else None,
        diagnosis=diagnosis_out(analysis.id, report) if report else None,
    )


def analysis_json(analysis: Analysis) -> bytes:
    """The whole answer as JSON, as `analysis_out` would be. Of layers, which may be thousands, one
    at a time is held as a wire type; they stand last."""
    report = analysis.report
    if report is None or not report.layers:
        return analysis_out(analysis).model_dump_json().encode()
    bare = analysis_out(replace(analysis, report=replace(report, layers=()))).model_dump_json()
    layers = (LayerOut.model_validate(one).model_dump_json().encode() for one in report.layers)
    first = next(layers)
    rest = (part for layer in layers for part in (b",", layer))
    return b"".join((bare.removesuffix(_NO_LAYERS).encode(), b'"layers":[', first, *rest, b"]}}"))


_NO_LAYERS = '"layers":[]}}'


def analysis_head_out(analysis: Analysis) -> AnalysisHeadOut:
    """The answer without the result."""
    return AnalysisHeadOut(
        id=analysis.id,
        status=analysis.status.value,
        stage=analysis.stage,
        percent=analysis.percent,
        queue_position=analysis.queue_position,
        created_at=analysis.created_at,
        started_at=analysis.started_at,
        finished_at=analysis.finished_at,
        labels=dict(analysis.labels),
        verdict=analysis.verdict,
        passed=analysis.passed,
        error=FailureOut.model_validate(analysis.error) if analysis.error else None,
        model=_model_out(analysis),
    )


def analyses_out(page: Page) -> AnalysesOut:
    """One page of a list."""
    heads = tuple(analysis_head_out(analysis) for analysis in page.items)
    return AnalysesOut(items=heads, next_cursor=page.next_cursor)


def diagnosis_out(analysis_id: str, report: Report) -> DiagnosisOut:
    """The answer to: will this train as it stands?"""
    diagnosis = report.diagnosis
    prescription = report.prescription
    return DiagnosisOut(
        verdict=diagnosis.verdict,
        confidence=diagnosis.confidence,
        decided_by=diagnosis.decided_by,
        summary=diagnosis.summary,
        suppressed=tuple(
            SuppressedOut(**_told(one.finding), reason=one.reason) for one in diagnosis.suppressed
        ),
        findings=findings_out(diagnosis.findings),
        recommendations=tuple(
            RecommendationOut.model_validate(one) for one in report.recommendations
        ),
        prescription=_prescription_out(analysis_id, prescription) if prescription else None,
        model=ModelDiagnosisOut.model_validate(report.model),
        layers=tuple(LayerOut.model_validate(layer) for layer in report.layers),
    )


def _prescription_out(analysis_id: str, prescription: Prescription) -> PrescriptionOut:
    folder = f"/v1/analyses/{analysis_id}/prescription"
    of_spec = prescription.patched_spec is not None
    return PrescriptionOut(
        recommendations=prescription.recommendations,
        verdict_after=prescription.verdict_after,
        trial=prescription.trial,
        patched_spec=prescription.patched_spec,
        layers_after=tuple(map(LayerAfterOut.model_validate, prescription.layers_after)),
        weights=prescription.weights,
        links=PrescriptionLinksOut(
            spec=f"{folder}/spec" if of_spec else None,
            patch=f"{folder}/spec?format=patch" if prescription.patch is not None else None,
            code=f"{folder}/code" if of_spec else None,
            state_dict=f"{folder}/state_dict" if prescription.weights else None,
        ),
    )


def findings_out(findings: tuple[Finding, ...]) -> tuple[FindingOut, ...]:
    """Findings, in the same order."""
    return tuple(FindingOut(**_told(finding)) for finding in findings)


def _told(finding: Finding) -> dict[str, Any]:
    """Its fields, and where it is explained."""
    return {**asdict(finding), "docs": docs_path(finding.code)}


def _model_out(analysis: Analysis) -> ModelOut:
    facts = analysis.report.facts if analysis.report else None
    return ModelOut(
        format=analysis.model_format,
        sha256=analysis.model_sha256,
        parameters=facts.parameters if facts else None,
        layers=facts.layers if facts else None,
    )
