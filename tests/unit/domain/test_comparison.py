"""What counts as a change between two analyses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.comparison import COMPARED, changed, compare
from service.domain.findings import Severity
from service.domain.layer_statistics import OF_LAYERS, is_statistic, value_of
from service.domain.measurements import LayerMeasurements
from tests.integration.stored_examples import START, queued, report

LAYER = report().layers[0]


def analysis(*layers: LayerMeasurements, **findings: Severity):  # type: ignore[no-untyped-def]
    """Succeeded, with these layers, and findings of these codes."""
    made = report()
    told = tuple(
        replace(made.diagnosis.findings[0], code=code, severity=severity)
        for code, severity in findings.items()
    )
    diagnosis = replace(made.diagnosis, findings=told)
    return replace(queued(START), report=replace(made, layers=layers, diagnosis=diagnosis))


def layer(name: str, gain: float | None, low: float = 0.0, high: float = 0.0) -> LayerMeasurements:
    spread = {"gradient.gain": (low, high)} if high else {}
    return replace(LAYER, name=name, gradient=replace(LAYER.gradient, gain=gain), spread=spread)


@pytest.mark.parametrize(
    ("before", "after", "ranges", "is_changed"),
    [
        (1.0, 0.1, ((0.9, 1.1), (0.08, 0.12)), True),
        (1.0, 0.8, ((0.9, 1.1), (0.7, 0.89)), False),  # apart, but by less than their width
        (1.0, 1.05, ((0.9, 1.1), (0.95, 1.2)), False),
        (0.1, 1.0, ((0.08, 0.12), (0.9, 1.1)), True),
        (1.0, 1.0, (None, None), False),
        (1.0, 1.1, (None, None), True),
        (None, 1.0, (None, (0.9, 1.1)), True),
        (None, None, (None, None), False),
        (0.0, 0.0, ((0.0, 0.0), (0.0, 0.0)), False),
        (0.0, 0.5, ((0.0, 0.0), (0.5, 0.5)), True),
    ],
)
def test_a_change_is_more_than_the_spread(
    before: float | None,
    after: float | None,
    ranges: tuple[tuple[float, float] | None, ...],
    is_changed: bool,
) -> None:
    assert changed(before, after, *ranges) is is_changed
    assert changed(after, before, *ranges[::-1]) is is_changed


def test_layers_go_by_name() -> None:
    before = analysis(layer("a", 1.0, 0.9, 1.1), layer("b", 1.0), layer("c", 1.0))
    after = analysis(layer("c", 1.0), layer("new", 1.0), layer("a", 0.1, 0.08, 0.12))
    found = compare(before, after)
    told = [(one.name, one.presence, one.changed) for one in found.layers]
    assert told == [
        ("c", "both", False), ("new", "added", True), ("a", "both", True), ("b", "removed", True),
    ]  # fmt: skip
    gain = next(one for one in found.layers[2].statistics if one.statistic == "gradient.gain")
    assert (gain.before, gain.after, gain.ratio, gain.changed) == (1.0, 0.1, 0.1, True)
    assert (gain.before_range, gain.after_range) == ((0.9, 1.1), (0.08, 0.12))


def test_findings_appear_go_and_stay() -> None:
    before = analysis(stays=Severity.WARNING, goes=Severity.ERROR)
    after = analysis(comes=Severity.INFO, stays=Severity.ERROR)
    found = compare(before, after)
    assert [one.code for one in found.appeared] == ["comes"]
    assert [one.code for one in found.gone] == ["goes"]
    (kept,) = found.kept
    assert (kept.code, kept.before, kept.after) == ("stays", "warning", "error")


def test_the_same_twice_has_no_change() -> None:
    one = analysis(LAYER, code=Severity.ERROR)
    found = compare(one, one)
    assert found.same_model
    assert not any(change.changed for change in found.layers)
    assert (found.appeared, found.gone, found.probe_differs) == ((), (), ())


def test_one_that_failed_has_nothing_to_compare() -> None:
    found = compare(replace(queued(START)), analysis(LAYER, code=Severity.ERROR))
    assert [one.presence for one in found.layers] == ["added"]
    assert [one.code for one in found.appeared] == ["code"]


def test_other_probes_are_told() -> None:
    one = analysis(LAYER)
    assert one.report is not None
    probe = {**one.report.probe, "batch_size": 8}
    other = replace(one, report=replace(one.report, probe=probe))
    assert compare(one, other).probe_differs == ("batch_size",)


def test_statistics_by_their_names() -> None:
    assert set(COMPARED) - set(OF_LAYERS) == {
        "weight.rms", "weight.grad_norm", "weight.grad_to_weight",
    }  # fmt: skip
    for name in COMPARED:
        assert is_statistic(name)
        value_of(LAYER, name)
    parameter = LAYER.parameters[0]
    own = parameter.name.rpartition(".")[2]
    assert value_of(LAYER, f"{own}.rms") == parameter.rms
    assert value_of(LAYER, "none.rms") is None
    assert is_statistic("weight_ih_l0.grad_norm")
    for wrong in ("gain", "gradient", "gradient.shape", "activation.gain", "weight.shape", "", "."):
        assert not is_statistic(wrong)
    gain = replace(LAYER.gradient, gain_parts={"weight": 0.5, "activation": None})
    assert value_of(replace(LAYER, gradient=gain), "gradient.gain_parts.weight") == 0.5
    assert value_of(LAYER, "gradient.gain_parts.residual") is None
