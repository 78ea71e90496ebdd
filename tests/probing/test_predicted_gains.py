"""Theory beside the measurement: they agree within the error bars of finite width."""

from __future__ import annotations

import math
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.detectors.gain_off_theory import GainOffTheory
from service.domain.architecture import resolve
from service.domain.measurements import Measurements
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session
from service.theory.prediction import predict, with_predictions

PLAN = ProbePlan(seeds=3, batches=2)


def measured(layers: list[dict[str, Any]], shape: list[int]) -> Measurements:
    spec = {"input": {"shape": shape}, "layers": layers}
    return with_predictions(Session.open(PLAN, resolve(spec), None).measure())


def mlp(depth: int, *follows: dict[str, Any], width: int = 128) -> list[dict[str, Any]]:
    body = {
        "name": "body",
        "repeat": depth,
        "layers": [
            {"name": "fc", "type": "Linear", "args": {"out_features": width}},
            *({"name": f"after{i}", **one} for i, one in enumerate(follows)),
        ],
    }
    return [body, {"name": "head", "type": "Linear", "args": {"out_features": 10}}]


def conv(norm: str | None, activation: str) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    for index in range(4):
        args = {"out_channels": 32, "kernel_size": 3, "padding": 1, "stride": 1 + index % 2}
        layers.append({"name": f"conv{index}", "type": "Conv2d", "args": args})
        if norm:
            layers.append({"name": f"norm{index}", "type": norm})
        layers.append({"name": f"act{index}", "type": activation})
    return [
        *layers,
        {"name": "flat", "type": "Flatten"},
        {"name": "head", "type": "Linear", "args": {"out_features": 10}},
    ]


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        *[
            pytest.param(mlp(6, {"type": name, "args": args}), [64], id=name)
            for name, args in (
                ("ReLU", {}),
                ("LeakyReLU", {"negative_slope": 0.3}),
                ("PReLU", {}),
                ("RReLU", {}),
                ("ELU", {"alpha": 2.0}),
                ("CELU", {"alpha": 0.5}),
                ("Hardtanh", {"min_val": -0.5, "max_val": 0.2}),
                ("Softplus", {"beta": 3.0}),
                ("Softshrink", {"lambd": 0.02}),
                ("Sigmoid", {}),
                ("GELU", {"approximate": "tanh"}),
                ("Mish", {}),
            )
        ],
        pytest.param(mlp(6, {"type": "BatchNorm1d"}, {"type": "ReLU"}), [64], id="BatchNorm1d"),
        pytest.param(mlp(6, {"type": "LayerNorm"}, {"type": "GELU"}), [64], id="LayerNorm"),
        pytest.param(mlp(6, {"type": "RMSNorm"}, {"type": "Tanh"}), [64], id="RMSNorm"),
        pytest.param(conv(None, "Tanh"), [3, 16, 16], id="Conv2d"),
        pytest.param(conv("BatchNorm2d", "ReLU"), [3, 16, 16], id="BatchNorm2d"),
    ],
)
def test_measured_and_predicted_gains_agree(layers: list[dict[str, Any]], shape: list[int]) -> None:
    found = measured(layers, shape)
    for layer in found.layers:
        prediction = predict(layer)
        assert prediction is not None
        assert layer.gradient.predicted_gain == prediction.gain
        assert layer.gradient.gain is not None
        off = abs(math.log(layer.gradient.gain / prediction.gain))
        assert off < 1.5 * prediction.log_std
        assert off < 0.15
    assert GainOffTheory().read(Case(found, PLAN)).finding is None


def test_the_depth_that_the_default_initialization_trains_to() -> None:
    """6ξ with σ_w² = 1/3: χ = 1/6 for ReLU."""
    found = measured(mlp(29, {"type": "ReLU"}), [64]).model.trainable_depth
    assert found is not None
    assert found["predicted"] == pytest.approx(6 / math.log(6), rel=0.02)
    assert found["actual"] == 30.0
    convolutions = measured(conv(None, "Tanh"), [3, 16, 16]).model.trainable_depth
    assert convolutions is not None
    assert convolutions["predicted"] == pytest.approx(6 / math.log(3), rel=0.2)
    assert measured(mlp(5, {"type": "LayerNorm"}), [64]).model.trainable_depth is None


def test_structured_weights_part_from_theory() -> None:
    layers = mlp(4, {"type": "Tanh"})
    layers[0]["layers"][0]["init"] = {"weight": {"name": "constant_", "args": {"val": 0.02}}}
    finding = GainOffTheory().read(Case(measured(layers, [64]), PLAN)).finding
    assert finding is not None
    assert finding.severity == "info"
    assert finding.evidence["part"] == "weight"
