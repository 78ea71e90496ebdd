"""Models that the statistics of step 0 cannot judge for sure are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.diagnosis import thresholds
from service.diagnosis.detector import Case
from service.diagnosis.doubt import Doubt, doubt
from service.domain.measurements import Measurements

Build = Callable[[dict[str, Any]], Case]
FLAT = {"gradient": [0.1] * 4}


@pytest.fixture
def plain(case_of: Build) -> Measurements:
    return case_of(FLAT).measured


def _wide(measured: Measurements, *widths: int) -> Measurements:
    layers = tuple(
        replace(layer, output_shape=(64, width))
        for layer, width in zip(measured.layers, widths, strict=True)
    )
    model = replace(measured.model, output_shape=(64, widths[-1]))
    return replace(measured, layers=layers, model=model)


def _zeros(measured: Measurements, *shares: float | None) -> Measurements:
    layers = tuple(
        replace(layer, activation=replace(layer.activation, zero_fraction=share))
        for layer, share in zip(measured.layers, shares, strict=True)
    )
    return replace(measured, layers=layers)


def test_usual_networks_are_not_doubted(plain: Measurements) -> None:
    assert doubt(plain) == Doubt()
    assert doubt(_wide(plain, 32, 8, 32, 10)) == Doubt()
    assert doubt(_zeros(plain, 0.5, 0.5, None, 0.0)) == Doubt()


def test_few_numbers_in_the_way_of_many_answers(plain: Measurements) -> None:
    assert doubt(_wide(plain, 32, 1, 32, 10)) == Doubt(*thresholds.NARROW_DOUBT)
    assert doubt(_wide(plain, 32, 3, 32, 10)) == Doubt(*thresholds.NARROW_DOUBT)


def test_two_numbers_are_enough_for_two_answers(plain: Measurements) -> None:
    assert doubt(_wide(plain, 32, 2, 32, 2)) == Doubt()


def test_a_way_around_the_narrow_layer_takes_the_doubt(plain: Measurements) -> None:
    narrow = _wide(plain, 32, 1, 32, 10)
    around = tuple(replace(layer, residual=layer.index == 2) for layer in narrow.layers)
    assert doubt(replace(narrow, layers=around)) == Doubt()


def test_mostly_zeros_are_doubted_but_not_in_the_answer(plain: Measurements) -> None:
    assert doubt(_zeros(plain, 0.9, 0.0, 0.0, 0.0)) == Doubt(*thresholds.SPARSE_DOUBT)
    assert doubt(_zeros(plain, 0.0, 0.0, 0.0, 0.9)) == Doubt()


def test_the_largest_doubt_counts(plain: Measurements) -> None:
    both = _zeros(_wide(plain, 32, 1, 32, 10), 0.9, 0.0, 0.0, 0.0)
    assert doubt(both) == Doubt(*thresholds.NARROW_DOUBT)
