"""The whole line on networks whose fate is known: model in, verdict and causes out."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.findings import Finding
from service.domain.model_source import ArtifactSource, SpecSource
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, IgnoreRule, ModelRequest
from service.pipeline import analyse
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from tests.probing.models import LastStepRNN, resnet, scripted, transformer


@pytest.fixture(scope="module")
def prober() -> Iterator[ZygoteProber]:
    """Artifacts are known by their path."""
    prober = ZygoteProber(
        Limits(), "service.probing.child:serve", "service.probing.child:warm_up", Path
    )
    yield prober
    prober.close()


def mlp_spec(
    depth: int, width: int, activation: str, init: dict[str, Any] | None = None
) -> dict[str, Any]:
    given = {"init": {"weight": init, "bias": {"name": "zeros_"}}} if init else {}
    layers: list[dict[str, Any]] = []
    for index in range(1, depth + 1):
        linear = {"name": f"fc{index}", "type": "Linear", "args": {"out_features": width}}
        layers += [{**linear, **given}, {"type": activation}]
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}, **given})
    return {"input": {"shape": [64]}, "layers": layers}


def spec_report(prober: ZygoteProber, spec: dict[str, Any], **plan: Any) -> Report:
    request = AnalysisRequest(ModelRequest("spec", spec), ProbePlan(**plan))
    return analyse(request, SpecSource(resolve(spec)), prober, lambda _: None)


def file_report(
    prober: ZygoteProber, folder: Path, model: nn.Module, *shape: int, **plan: Any
) -> Report:
    path = folder / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(scripted(model), path)
    request = AnalysisRequest(
        ModelRequest("artifact", artifact_id=str(path)),
        ProbePlan(inputs=(InputPlan(shape),), **plan),
    )
    return analyse(request, ArtifactSource(str(path), "torchscript"), prober, lambda _: None)


def finding(report: Report, code: str) -> Finding:
    found = [one for one in report.diagnosis.findings if one.code == code]
    assert found, [one.code for one in report.diagnosis.findings]
    return found[0]


def test_sigmoid_at_default_initialization_vanishes(prober: ZygoteProber) -> None:
    report = spec_report(prober, mlp_spec(20, 256, "Sigmoid"))
    assert report.diagnosis.verdict == "unhealthy"
    vanishing = finding(report, "vanishing_gradient")
    assert vanishing.severity == "error"
    assert any("sigmoid" in cause for cause in vanishing.causes)
    gains = [one.gradient.gain or 0.0 for one in report.layers[:20]]
    assert statistics.median(gains) == pytest.approx(0.141, rel=0.03)
    predicted = [one.gradient.predicted_gain for one in report.layers[:20]]
    assert predicted == pytest.approx(gains, rel=0.05)
    # 6ξ = 6/ln(1/.141²); the head is the 21st layer.
    assert "By theory this choice trains to about 2 layers" in vanishing.detail
    assert report.model.trainable_depth is not None
    assert report.model.trainable_depth["actual"] == 21
    kinds = {one.kind for one in report.recommendations}
    assert kinds >= {"activation", "normalization", "clipping"}


def test_relu_with_he_initialization_is_healthy(prober: ZygoteProber) -> None:
    he = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
    report = spec_report(prober, mlp_spec(20, 256, "ReLU", he))
    assert report.diagnosis.verdict == "healthy"
    assert report.passed
    assert report.probe["inputs"][0]["shape"] == (64,)
    assert (report.probe["batch_size"], report.probe["loss"]) == (64, "cross_entropy")
    assert [one.kind for one in report.recommendations] == ["clipping"]


def test_unit_normal_weights_explode(prober: ZygoteProber) -> None:
    report = spec_report(prober, mlp_spec(20, 256, "ReLU", {"name": "normal_"}))
    assert report.diagnosis.verdict in {"unhealthy", "at_risk"}
    assert finding(report, "exploding_gradient").layers


def test_zero_weights_are_symmetric(prober: ZygoteProber) -> None:
    report = spec_report(prober, mlp_spec(20, 256, "ReLU", {"name": "zeros_"}))
    assert report.diagnosis.verdict == "unhealthy"
    assert finding(report, "symmetric_initialization").severity == "error"


@pytest.mark.parametrize("softmax", [False, True])
def test_the_classic_mlp_trains_with_and_without_softmax(
    prober: ZygoteProber, softmax: bool
) -> None:
    layers: list[dict[str, Any]] = [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 256}},
        {"type": "ReLU"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 128}},
        {"type": "ReLU"},
        {"name": "fc3", "type": "Linear", "args": {"out_features": 10}},
    ]
    if softmax:
        layers.append({"type": "Softmax"})
    report = spec_report(prober, {"input": {"shape": [784]}, "layers": layers})
    assert report.model.loss == ("nll_of_softmax" if softmax else "cross_entropy")
    assert report.model.loss_at_start == pytest.approx(2.3026, rel=0.02)
    assert report.diagnosis.verdict != "unhealthy"


def test_usual_architectures_are_not_unhealthy(prober: ZygoteProber, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for model, shape in (
        (resnet(16, 8), (3, 32, 32)),
        (transformer(2), (16, 16)),
        (transformer(2, norm_first=True), (16, 16)),
        (LastStepRNN("LSTM"), (16, 8)),
    ):
        report = file_report(prober, tmp_path, model, *shape)
        assert report.diagnosis.verdict != "unhealthy", report.diagnosis.summary
        assert not [one for one in report.diagnosis.findings if one.severity == "error"]


def test_nan_weights_are_a_diagnosis_not_a_failure(prober: ZygoteProber, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        dict(model.named_parameters())["0.weight"][0, 0] = float("nan")
    report = file_report(prober, tmp_path, model, 8)
    assert report.diagnosis.verdict == "unhealthy"
    assert finding(report, "nonfinite_values").severity == "error"


def test_ignored_findings_are_echoed_and_count_for_nothing(prober: ZygoteProber) -> None:
    spec = mlp_spec(2, 16, "ReLU", {"name": "zeros_"})
    rules = (
        IgnoreRule("symmetric_initialization", reason="on purpose"),
        IgnoreRule("dead_units", "fc9*"),
    )
    request = AnalysisRequest(ModelRequest("spec", spec), ProbePlan(), ignore=rules)
    report = analyse(request, SpecSource(resolve(spec)), prober, lambda _: None)
    (suppressed,) = report.diagnosis.suppressed
    assert (suppressed.finding.code, suppressed.reason) == (
        "symmetric_initialization",
        "on purpose",
    )
    assert any(note.startswith("ignore: no finding 'dead_units'") for note in report.notes)


def test_same_request_same_answer(prober: ZygoteProber) -> None:
    first, second = (spec_report(prober, mlp_spec(5, 32, "Tanh"), seed=3) for _ in range(2))
    assert first.layers == second.layers
    assert first.model == second.model
    assert first.diagnosis == second.diagnosis
    other = spec_report(prober, mlp_spec(5, 32, "Tanh"), seed=4)
    assert other.layers != first.layers


def test_changes_cross_the_wall_and_a_refused_one_leaves_the_session_alive(
    prober: ZygoteProber,
) -> None:
    spec = mlp_spec(4, 32, "Sigmoid")
    layers = [f"fc{index}" for index in range(1, 5)]
    with prober.open(SpecSource(resolve(spec)), ProbePlan()) as session:
        before = session.measure()
        changed = session.measure(({"kind": "activation", "layers": layers, "activation": "ReLU"},))
        with pytest.raises(ChangeRefused, match="no layer 'fc9'"):
            session.measure(({"kind": "activation", "layers": ["fc9"], "activation": "ReLU"},))
        again = session.measure()
    assert again == before
    assert {one.nonlinearity for one in changed.layers[:4]} == {"relu"}
    assert (changed.model.total_gain or 0.0) > 10 * (before.model.total_gain or 1.0)


@pytest.mark.parametrize(
    ("optimizer", "verdicts"),
    [
        (OptimizerPlan("sgd", 0.05, momentum=0.9), {"healthy"}),
        (OptimizerPlan("adam", 1e-3), {"healthy"}),
        (OptimizerPlan("adam", 2e-4), {"healthy"}),
        (OptimizerPlan("sgd", 100.0), {"unhealthy"}),
        (OptimizerPlan("sgd", 1e-9), {"at_risk", "unhealthy"}),
        (OptimizerPlan("sgd", 0.1, clip_norm=1e-9), {"at_risk", "unhealthy"}),
        (OptimizerPlan("sgd", 0.1, weight_decay=5.0), {"at_risk", "unhealthy"}),
    ],
)
def test_the_verdict_is_for_the_optimizer_that_was_named(
    prober: ZygoteProber, optimizer: OptimizerPlan, verdicts: set[str]
) -> None:
    report = spec_report(prober, mlp_spec(3, 64, "ReLU"), optimizer=optimizer)
    assert report.diagnosis.verdict in verdicts, report.diagnosis.summary


@pytest.mark.parametrize("trial_steps", [0, 100])
@pytest.mark.parametrize(
    ("activation", "zero", "verdict"),
    [
        # By really training them on the digits: one layer of zeros moves at the first step where
        # the activation is not flat at zero; two in a row see no gradient, and stay symmetric.
        ("Tanh", {1}, "healthy"),
        ("Tanh", {2}, "healthy"),
        ("Tanh", {2, 3}, "unhealthy"),
        ("GELU", {1}, "healthy"),
        ("GELU", {2}, "healthy"),
        ("GELU", {2, 3}, "unhealthy"),
        ("ReLU", {1}, "unhealthy"),
        ("ReLU", {2}, "unhealthy"),
    ],
)
def test_layers_of_zeros(
    prober: ZygoteProber, activation: str, zero: set[int], verdict: str, trial_steps: int
) -> None:
    he = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
    spec = mlp_spec(4, 64, activation, he)
    for layer in spec["layers"]:
        if layer.get("name") in {f"fc{number}" for number in zero}:
            layer["init"] = {**layer["init"], "weight": {"name": "zeros_"}}
    assert spec_report(prober, spec, trial_steps=trial_steps).diagnosis.verdict == verdict
