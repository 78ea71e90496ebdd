"""Layers stacked within a recurrent one are followed to the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.detectors.vanishing_gradient import VanishingGradient
from service.diagnosis.profile import gradient_fall, stacked_fall
from service.domain.measurements import LayerMeasurements, ParameterStatistics

Build = Callable[[dict[str, Any]], Case]


def _parameter(name: str, norm: float | None) -> ParameterStatistics:
    return ParameterStatistics(name, (8, 8), 0.1, norm, None, None, None)


def _recurrent(build: Build, **norms: float | None) -> Case:
    case = build({"gradient": [0.1, 0.1], "op": ["lstm", "linear"]})
    parameters = tuple(_parameter(f"rnn.{name}", norm) for name, norm in norms.items())
    layers = (replace(case.measured.layers[0], parameters=parameters), *case.measured.layers[1:])
    return replace(case, measured=replace(case.measured, layers=layers))


def first(case: Case) -> LayerMeasurements:
    return case.measured.layers[0]


def test_biases_tell_before_weights(case_of: Build) -> None:
    case = _recurrent(case_of, weight_ih_l0=1.0, weight_ih_l1=1.0, bias_ih_l0=1e-4, bias_ih_l1=0.1)
    assert stacked_fall(first(case)) == pytest.approx(3.0)


def test_weights_tell_where_there_are_no_biases(case_of: Build) -> None:
    case = _recurrent(case_of, weight_ih_l0=1e-3, weight_ih_l1=0.1, weight_hh_l0=1e-9)
    assert stacked_fall(first(case)) == pytest.approx(2.0)


def test_the_better_fed_direction_counts(case_of: Build) -> None:
    norms = {"bias_ih_l0": 1e-5, "bias_ih_l0_reverse": 1e-2, "bias_ih_l1": 0.1}
    assert stacked_fall(first(_recurrent(case_of, **norms))) == pytest.approx(1.0)


def test_one_layer_and_unknown_gradients_say_nothing(case_of: Build) -> None:
    assert stacked_fall(first(_recurrent(case_of, bias_ih_l0=1e-9))) == 0.0
    assert stacked_fall(first(_recurrent(case_of, bias_ih_l0=None, bias_ih_l1=0.1))) == 0.0
    assert stacked_fall(case_of({"gradient": [0.1]}).measured.layers[0]) == 0.0


def test_it_adds_to_the_fall_over_depth_and_is_named(case_of: Build) -> None:
    case = _recurrent(case_of, bias_ih_l0=1e-8, bias_ih_l1=1e-5, bias_ih_l2=0.1)
    fall = gradient_fall(case.measured)
    assert fall is not None
    assert fall.median == pytest.approx(7.0)
    found = VanishingGradient().read(case).finding
    assert found is not None
    assert found.layers == ("fc1",)
    assert found.evidence["stacked_decades"] == pytest.approx(7.0)
    assert "loses 7.0 decades of it from the last of its stacked layers" in found.detail
