"""A batch normalization that meets a signal of tiny scale, and the gradient it enlarges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.detectors.exploding_gradient import ExplodingGradient
from service.diagnosis.profile import rescaling

TABLE = {
    "gradient": [3e3, 3e3, 1.0, 1.0],
    "normalization": [None, None, "batch_norm", None],
}


def with_gain(case: Case, gain: float) -> Case:
    """What the normalization of the third layer passes."""
    layers = list(case.measured.layers)
    parts = {"weight": 1.0, "activation": 1.0, "normalization": gain, "residual": None}
    layers[2] = replace(layers[2], gradient=replace(layers[2].gradient, gain_parts=parts))
    return replace(case, measured=replace(case.measured, layers=tuple(layers)))


@pytest.mark.parametrize(("gain", "told"), [(2.0, 0.0), (9.0, 0.0), (1000.0, 3.0)])
def test_only_what_is_more_than_usual_counts(
    gain: float, told: float, case_of: Callable[[Mapping[str, Any]], Case]
) -> None:
    assert rescaling(with_gain(case_of(TABLE), gain).measured) == pytest.approx(told)


def test_growth_through_a_tiny_scale_is_no_chaos(
    case_of: Callable[[Mapping[str, Any]], Case],
) -> None:
    case = case_of(TABLE)
    assert ExplodingGradient().read(with_gain(case, 2.0)).error > 0.9
    assert ExplodingGradient().read(with_gain(case, 3e3)).error < 0.1
