"""The client's types against the server's, and against servers older and newer than it."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

import graddx
from api.error_handlers import STATUS
from api.schemas import problems, responses
from graddx import Client, ServerError, catalog, comparison, errors, results, statistics
from graddx.errors import ApiError, GraddxError, Problem, api_error
from tests.unit.client.scripted_server import Reply, ScriptedServer

PAIRS: list[tuple[type, Any]] = [
    (results.Analysis, responses.AnalysisOut),
    (results.Succeeded, responses.AnalysisOut),
    (results.AnalysisHead, responses.AnalysisHeadOut),
    (results.Artifact, responses.ArtifactOut),
    (results.Baseline, responses.BaselineOut),
    (results.Cost, responses.CostOut),
    (results.Diagnosis, responses.DiagnosisOut),
    (results.Effect, responses.EffectOut),
    (results.Engine, responses.EngineOut),
    (results.Failure, responses.FailureOut),
    (results.Finding, responses.SuppressedOut),
    (results.LayerAfter, responses.LayerAfterOut),
    (results.ModelFacts, responses.ModelOut),
    (results.Prescription, responses.PrescriptionOut),
    (results.PrescriptionLinks, responses.PrescriptionLinksOut),
    (results.Progress, responses.ProgressOut),
    (results.Recommendation, responses.RecommendationOut),
    (statistics.Activation, responses.ActivationOut),
    (statistics.Gradient, responses.GradientOut),
    (statistics.GradientCheck, responses.GradientCheckOut),
    (statistics.Layer, responses.LayerOut),
    (statistics.ModelDiagnosis, responses.ModelDiagnosisOut),
    (statistics.Parameter, responses.ParameterOut),
    (statistics.Quantiles, responses.QuantilesOut),
    (statistics.TimeSteps, responses.TimeStepsOut),
    (statistics.PrecisionLoss, responses.PrecisionLossOut),
    (catalog.Argument, responses.ArgumentOut),
    (catalog.Catalog, responses.CatalogOut),
    (catalog.Detector, responses.DetectorOut),
    (catalog.Initializer, responses.InitializerOut),
    (catalog.LayerType, responses.LayerTypeOut),
    (catalog.Remedy, responses.RemedyOut),
    (comparison.Comparison, responses.ComparisonOut),
    (comparison.FindingChange, responses.FindingChangeOut),
    (comparison.History, responses.HistoryOut),
    (comparison.HistoryPoint, responses.HistoryPointOut),
    (comparison.LayerChange, responses.LayerChangeOut),
    (comparison.Side, responses.SideOut),
    (comparison.StatisticChange, responses.StatisticChangeOut),
    (errors.Fault, problems.ProblemFault),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda one: one.__name__)
def test_every_field_the_server_sends_has_its_place(ours: Any, theirs: Any) -> None:
    names = {one.name for one in fields(ours)} - {"raw"}
    assert names == set(theirs.model_fields)


def test_every_type_is_compared() -> None:
    compared = {ours for ours, _ in PAIRS}
    for module in (results, statistics, catalog, comparison):
        declared = {one for one in vars(module).values() if is_dataclass(one)}
        assert {one for one in declared if isinstance(one, type)} <= compared


@pytest.mark.parametrize("code", sorted(set(STATUS) - {"gate_failed", "analysis_failed"}))
def test_every_code_of_the_server_has_an_exception(code: str) -> None:
    error = api_error(Problem(STATUS[code], code))
    gates_only = {"not_finished", "not_acceptable", "method_not_allowed", "unsupported_media_type"}
    assert (type(error) is not ApiError) or code in gates_only


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)", line)
        if found and (found[1] or found[2] == "GraddxError"):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    declared = {
        name: one.__bases__[0].__name__
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, GraddxError)
    }
    assert drawn == declared
    assert set(declared) <= set(graddx.__all__)


def test_a_newer_server_is_understood(server: ScriptedServer, client: Client) -> None:
    finding = {"code": "new_code", "severity": "catastrophe", "newer": {"a": 1}}
    diagnosis = {"verdict": "transcendent", "findings": [finding], "layers": []}
    server.replies = [
        Reply(200, {"id": "a1", "status": "archived", "diagnosis": diagnosis, "newer": [1]})
    ]
    analysis = client.get("a1")
    assert analysis.raw["newer"] == [1]
    assert analysis.diagnosis is not None
    assert analysis.diagnosis.verdict == "transcendent"
    assert analysis.diagnosis.findings[0].severity == "catastrophe"
    assert not analysis.final


def test_an_older_server_is_understood(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(200, {"id": "a1", "status": "succeeded"})]
    analysis = client.get("a1")
    assert (analysis.passed, analysis.diagnosis, analysis.notes) == (None, None, ())


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"id": 3, "status": "queued"}', b"{}", b""])
def test_another_server_is_not(server: ScriptedServer, client: Client, body: bytes) -> None:
    server.replies = [Reply(200, body)]
    with pytest.raises(ServerError) as raised:
        client.get("a1")
    assert raised.value.code == "not_understood"
    assert server.url in str(raised.value)


def test_an_error_of_a_proxy_is_told_in_its_words(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(403, b"<html>who\n are you?</html>", {"Content-Type": "text/html"})]
    with pytest.raises(graddx.AccessDenied, match="<html>who are you") as raised:
        client.get("a1")
    assert raised.value.code == "http_403"
