"""Advice comes with its measured effect, and the prescription trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.errors import StorageFull
from service.domain.model_source import SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.domain.state_dict import tensor_names
from service.pipeline import analyse
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.safetensors_header import check_safetensors


@pytest.fixture(scope="module")
def prober() -> Iterator[ZygoteProber]:
    prober = ZygoteProber(
        Limits(), "service.probing.child:serve", "service.probing.child:warm_up", Path
    )
    yield prober
    prober.close()


def mlp(
    depth: int, activation: str, init: dict[str, Any] | None = None, dropout: float | None = None
) -> dict[str, Any]:
    hidden = [] if dropout is None else [{"type": "Dropout", "args": {"p": dropout}}]
    given = {"init": {"weight": init, "bias": {"name": "zeros_"}}} if init else {}
    layers: list[dict[str, Any]] = []
    for index in range(depth):
        linear = {"name": f"fc{index}", "type": "Linear", "args": {"out_features": 64}}
        layers += [{**linear, **given}, {"name": f"act{index}", "type": activation}, *hidden]
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}, **given})
    return {"input": {"shape": [64]}, "layers": layers}


def sequence(cell: str, std: float, steps: int = 64) -> dict[str, Any]:
    init = {"weight": {"name": "normal_", "args": {"std": std}}}
    return {
        "input": {"shape": [steps, 1]},
        "layers": [
            {"name": "rnn", "type": cell, "args": {"hidden_size": 32}, "init": init},
            {"name": "last", "type": "LastStep"},
            {"name": "head", "type": "Linear", "args": {"out_features": 10}},
        ],
    }


def report_on(prober: ZygoteProber, spec: dict[str, Any], **options: Any) -> Report:
    plan = ProbePlan(**options.pop("plan", {}))
    request = AnalysisRequest(ModelRequest("spec", spec), plan, **options)
    return analyse(request, SpecSource(resolve(spec)), prober, lambda _: None)


SICK = {
    "tanh, weights far too small": mlp(16, "Tanh", {"name": "normal_", "args": {"std": 0.01}}),
    "sigmoid at its default": mlp(12, "Sigmoid"),
    "a recurrent layer that explodes in time": sequence("RNN", 0.5),
    "a dropout that hides nearly everything": mlp(
        4, "ReLU", {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}, dropout=0.95
    ),
    "all zeros": mlp(4, "ReLU", {"name": "zeros_"}),
}


@pytest.mark.parametrize("name", SICK)
def test_the_prescription_makes_a_sick_model_healthy(prober: ZygoteProber, name: str) -> None:
    report = report_on(prober, SICK[name])
    assert report.diagnosis.verdict == "unhealthy"
    prescription = report.prescription
    assert prescription is not None
    assert prescription.verdict_after == "healthy"
    assert prescription.trial is not None
    assert prescription.trial["before"]["learned"] is False
    assert prescription.trial["after"]["learned"] is True
    assert prescription.trial["after"]["loss"][-1] < prescription.trial["after"]["loss"][0]
    repaired = prescription.layers_after
    assert [layer.name for layer in repaired] == [layer.name for layer in report.layers]
    for layer in repaired:
        assert layer.gradient_norm is not None
        assert layer.gradient_norm_range is not None
        low, high = layer.gradient_norm_range
        assert 0 <= low * (1 - 1e-9) <= layer.gradient_norm <= high * (1 + 1e-9)
    assert sum(layer.gradient_norm or 0.0 for layer in repaired) > 0
    chosen = [one for one in report.recommendations if one.id in prescription.recommendations]
    assert len(chosen) == len(prescription.recommendations)
    for one in chosen:
        assert one.effect is not None
        assert one.effect.verified
        assert one.effect.resolved or one.effect.after["verdict"] != one.effect.before["verdict"]
    assert prescription.patched_spec is not None
    again = report_on(prober, prescription.patched_spec)
    assert again.diagnosis.verdict == "healthy"
    assert again.prescription is None


def test_a_bottleneck_before_the_classes_is_led_around(prober: ZygoteProber) -> None:
    spec = mlp(6, "SiLU")
    for layer in spec["layers"][2::4]:
        layer["args"] = {"out_features": 1}
    report = report_on(prober, spec)
    assert report.diagnosis.verdict == "unhealthy"
    prescription = report.prescription
    assert prescription is not None
    assert prescription.verdict_after == "healthy"
    chosen = [one for one in report.recommendations if one.id in prescription.recommendations]
    (cure,) = (one for one in chosen if one.kind == "residual")
    assert cure.change["projections"].keys() == {"head"}
    assert "narrow_layer" in cure.resolves
    assert prescription.patched_spec is not None
    sizes = [
        (layer["args"]["in_features"], layer["args"]["out_features"])
        for layer in prescription.patched_spec["layers"]
        if layer["name"].endswith("_projection")
    ]
    assert sizes == [(64, 10)]
    assert report_on(prober, prescription.patched_spec).diagnosis.verdict == "healthy"


def test_dropout_alone_is_lowered_where_it_alone_is_too_much(prober: ZygoteProber) -> None:
    report = report_on(prober, SICK["a dropout that hides nearly everything"])
    assert report.prescription is not None
    chosen = {one.id: one for one in report.recommendations}
    (cure,) = (chosen[each] for each in report.prescription.recommendations)
    assert (cure.kind, cure.change["dropout"]) == ("regularization", 0.15)
    assert cure.effect is not None
    assert "drowned_signal" in cure.effect.resolved
    assert report.prescription.patched_spec is not None
    layers = report.prescription.patched_spec["layers"]
    assert {layer["args"]["p"] for layer in layers if layer["type"] == "Dropout"} == {0.15}


def test_repaired_weights_are_kept_under_the_names_of_the_repaired_spec(
    prober: ZygoteProber,
) -> None:
    body = {"name": "body", "repeat": 12, "layers": mlp(1, "Sigmoid")["layers"][:2]}
    head = {"name": "head", "type": "Linear", "args": {"out_features": 10}}
    spec = {"input": {"shape": [64]}, "layers": [body, head]}
    kept: list[bytes] = []

    def keep(content: bytes) -> str:
        kept.append(content)
        return "sha256:1"

    request = AnalysisRequest(ModelRequest("spec", spec), ProbePlan())
    report = analyse(request, SpecSource(resolve(spec)), prober, lambda _: None, keep)
    prescription = report.prescription
    assert prescription is not None
    assert prescription.weights == "sha256:1"
    assert prescription.patched_spec is not None
    wanted = {
        f"{node.name}.{parameter}"
        for node in resolve(prescription.patched_spec).layers
        for parameter in node.parameters
    }
    (content,) = kept
    check_safetensors(content)
    assert wanted <= tensor_names(content)
    assert {name.partition(".")[0] for name in tensor_names(content)} == {
        name.partition(".")[0] for name in wanted
    }
    kept.clear()
    sparing = replace(request, retain="statistics")
    report = analyse(sparing, SpecSource(resolve(spec)), prober, lambda _: None, keep)
    assert report.prescription is not None
    assert (report.prescription.weights, kept) == (None, [])


def test_weights_that_cannot_be_kept_cost_a_note(prober: ZygoteProber) -> None:
    def full(_content: bytes) -> str:
        raise StorageFull("the disk of this server is full")

    spec = SICK["tanh, weights far too small"]
    request = AnalysisRequest(ModelRequest("spec", spec), ProbePlan())
    report = analyse(request, SpecSource(resolve(spec)), prober, lambda _: None, full)
    assert report.prescription is not None
    assert report.prescription.weights is None
    assert any("not kept: the disk" in note for note in report.notes)


def test_what_was_measured_stands_beside_the_advice(prober: ZygoteProber) -> None:
    report = report_on(prober, SICK["tanh, weights far too small"])
    first = report.recommendations[0]
    assert (first.kind, first.id) == ("initializer", "r1")
    assert first.effect is not None
    assert "vanishing_gradient" in first.effect.resolved
    assert first.effect.after["median_gain"] > 5 * first.effect.before["median_gain"]
    assert [one.id for one in report.recommendations] == [
        f"r{number}" for number in range(1, len(report.recommendations) + 1)
    ]
    assert report.prescription is not None
    assert report.prescription.recommendations == ("r1",)


def test_only_permitted_changes_are_prescribed(prober: ZygoteProber) -> None:
    report = report_on(prober, SICK["sigmoid at its default"], allowed_changes=("normalization",))
    assert {one.kind for one in report.recommendations} == {"normalization"}
    assert report.prescription is not None


def test_where_nothing_permitted_cures_it_says_so(prober: ZygoteProber) -> None:
    report = report_on(prober, SICK["sigmoid at its default"], allowed_changes=("clipping",))
    assert report.prescription is None
    assert any("no permitted change" in note for note in report.notes)


def test_a_healthy_model_gets_no_prescription(prober: ZygoteProber) -> None:
    he = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
    report = report_on(prober, mlp(3, "ReLU", he))
    assert report.prescription is None
    assert [one.kind for one in report.recommendations] == ["clipping"]


def test_without_training_the_statistics_alone_prescribe(prober: ZygoteProber) -> None:
    report = report_on(prober, SICK["tanh, weights far too small"], plan={"trial_steps": 0})
    assert report.prescription is not None
    assert report.prescription.trial is None


def test_the_search_ends_with_the_budget(prober: ZygoteProber) -> None:
    report = report_on(prober, mlp(30, "Sigmoid"), plan={"budget_seconds": 0.001})
    assert report.prescription is None
    assert any(note.startswith("budget: budget_seconds ended") for note in report.notes)
    assert all(one.effect is None for one in report.recommendations)
