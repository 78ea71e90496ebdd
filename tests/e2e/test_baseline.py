"""A regression from one commit to the next, found against the baseline by the real server."""

from __future__ import annotations

from typing import Any

import pytest

from graddx import Client

HE = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}


def network(worse: int | None = None) -> dict[str, Any]:
    """Six layers; one of them with a tenth of the weights it should have."""
    tenth = {"weight": {"name": "normal_", "args": {"std": 0.1 * (2 / 64) ** 0.5}}}
    layers: list[dict[str, Any]] = []
    for number in range(6):
        init = tenth if number == worse else HE
        layers.append(
            {"name": f"fc{number}", "type": "Linear", "args": {"out_features": 64}, "init": init}
        )
        layers.append({"name": f"act{number}", "type": "ReLU"})
    head = {"name": "head", "type": "Linear", "args": {"out_features": 10}}
    return {"input": {"shape": [64]}, "layers": [*layers, head]}


def codes(analysis: Any) -> list[str]:
    return [one.code for one in analysis.diagnosis.findings]


@pytest.fixture
def client(server: str) -> Any:
    with Client(server) as client:
        yield client


def test_a_layer_that_loses_nine_tenths_is_found(client: Client) -> None:
    probe = {"trial_steps": 0}
    baseline = {"label": "suite:regression"}

    def analyze(spec: dict[str, Any], seed: int, **more: Any) -> Any:
        return client.analyze(spec, probe={**probe, "seed": seed}, baseline=baseline, **more)

    first = analyze(network(), 0, labels={"suite": "regression"})
    assert first.baseline is None
    assert any(note.startswith("baseline: no analysis") for note in first.notes)
    unchanged = analyze(network(), 1)
    assert unchanged.baseline is not None
    assert unchanged.baseline.id == first.id
    assert "gradient_regression" not in codes(unchanged)

    worse = analyze(network(worse=3), 2)
    (found,) = [one for one in worse.diagnosis.findings if one.code == "gradient_regression"]
    assert found.severity == "warning"
    assert found.evidence["baseline"] == first.id
    assert "fc3" in found.layers
    assert found.detail.startswith("fc3 passes ")
    assert any(cause.startswith("The weights of fc3 are 0.") for cause in found.causes)
    assert worse.passed is (worse.diagnosis.verdict != "unhealthy")
    rule = {"code": "gradient_regression", "reason": "on purpose"}
    ignored = analyze(network(worse=3), 2, ignore=[rule], fail_on="warning")
    assert "gradient_regression" not in codes(ignored)
    assert [one.code for one in ignored.diagnosis.suppressed] == ["gradient_regression"]

    change = client.compare(first.id, worse.id)
    (layer,) = [one for one in change.layers if one.name == "fc3"]
    (gain,) = [one for one in layer.statistics if one.statistic == "gradient.gain"]
    assert gain.changed
    assert gain.ratio == pytest.approx(0.1, rel=0.3)
    points = list(client.layer_history("fc3", "gradient.gain", labels={"suite": "regression"}))
    assert [one.analysis for one in points] == [first.id]
    assert points[0].value == pytest.approx(gain.before)
