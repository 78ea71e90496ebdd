"""Models that the statistics of step 0 cannot judge for sure are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.doubt import MOST, WORDS, doubt, doubted_for, oddities
from service.diagnosis.fitted import FITTED
from service.domain.measurements import Measurements

Build = Callable[[dict[str, Any]], Case]
FLAT = {"gradient": [0.1] * 4}


@pytest.fixture
def plain(case_of: Build) -> Measurements:
    return case_of(FLAT).measured


def test_usual_networks_are_hardly_doubted(plain: Measurements) -> None:
    assert set(oddities(plain).values()) == {0.0}
    found = doubt(plain)
    assert 0.0 < found.error < found.warning < 0.1
    assert doubted_for(plain) == ""


ODD: dict[str, dict[str, Any]] = {
    "noise": {"signal": [0.9, 0.6, 0.5, 0.5]},
    "thin": {"width": [64, 4, 64, 10]},
    "small_state": {
        "op": ["lstm", "linear", "linear", "linear"],
        "width": [8, 64, 64, 10],
        "steps": 8,
        "memory": 0.99,
    },
    "long_sequence": {
        "op": ["lstm", "linear", "linear", "linear"],
        "steps": 64,
        "memory": 0.99,
        "output_shape": [64, 32],
    },
    "unknown_steps": {"op": ["lstm", "linear", "linear", "linear"]},
    "deep": {"gradient": [0.1] * 50},
    "fall": {"gradient": [0.001, 0.01, 0.1, 0.1]},
    "blur": {"correlation": [0.0, 0.99, 0.9999, 0.9999]},
    "seeds_differ": {"gradient": [0.05, 0.05, 0.1, 0.1], "seeds": [0.0, 1.0, 3.0]},
    "saturated": {"nonlinearity": "tanh", "saturated": [0.7, 0.7, 0.7, None]},
    "large_output": {"rms": [1.0, 1.0, 1.0, 1000.0]},
    "bounded_output": {"model": {"output_op": "relu"}},
}


@pytest.mark.parametrize("name", list(ODD))
def test_each_oddity_adds_to_the_doubt_and_is_named(
    case_of: Build, plain: Measurements, name: str
) -> None:
    odd = case_of({**FLAT, **ODD[name]}).measured
    assert oddities(odd)[name] > 0.0
    assert doubt(odd).warning > doubt(plain).warning
    assert WORDS[name] in doubted_for(odd)


def test_everything_that_is_fitted_can_be_said() -> None:
    assert set(WORDS) == set(FITTED.oddities)
    assert min(FITTED.oddities.values()) >= 0.0


def test_a_doubt_alone_never_says_that_training_is_at_risk(case_of: Build) -> None:
    worst = case_of({**FLAT, **ODD["thin"], **ODD["noise"], **ODD["large_output"]})
    assert doubt(worst.measured).warning == MOST
