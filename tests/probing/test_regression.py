"""gradient_regression on real probes: 200 repeated runs of an unchanged model with new seeds raise
none, and a tenfold drop in one layer always does."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.detectors.gradient_regression import GradientRegression
from service.domain.architecture import resolve
from service.domain.baseline import Baseline
from service.domain.findings import Finding
from service.domain.measurements import LayerMeasurements, Measurements, SeedProfile
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session

SEEDS = 3
RUNS = 200
POOL = 40
"""Initializations that are really probed; a run is three of them."""


def _stack(depth: int, width: int, act: str, *more: str) -> dict[str, Any]:
    he = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
    block = [
        {"name": "fc", "type": "Linear", "args": {"out_features": width}, "init": {"weight": he}},
        *({"type": kind} for kind in (*more, act)),
    ]
    head = {"name": "head", "type": "Linear", "args": {"out_features": 10}}
    body = {"name": "body", "repeat": depth, "layers": block}
    return {"input": {"shape": [32]}, "layers": [body, head]}


MODELS = {
    "relu": _stack(12, 32, "ReLU"),
    "narrow": _stack(6, 12, "ReLU"),
    "normalized": _stack(8, 24, "Tanh", "BatchNorm1d"),
}


@cache
def _probed(name: str) -> Measurements:
    plan = ProbePlan(seeds=POOL, batches=2, batch_size=16, trial_steps=0)
    return Session.open(plan, resolve(MODELS[name]), None).measure()


def _mean(values: Iterable[float | None]) -> float:
    logs = [math.log(value) for value in values if value]
    return math.exp(sum(logs) / len(logs))


def _run(name: str, chosen: Iterable[int], sick: int | None = None) -> Measurements:
    """What a probe of these initializations would have given; `sick`: a layer that passes a tenth,
    as all before it feel."""
    measured = _probed(name)
    seeds = tuple(measured.seeds[one] for one in chosen)
    layers = tuple(_layer(one, seeds, sick) for one in measured.layers)
    return replace(measured, layers=layers, seeds=seeds)


def _layer(
    layer: LayerMeasurements, seeds: tuple[SeedProfile, ...], sick: int | None
) -> LayerMeasurements:
    at = layer.index
    norms = [seed.gradient_norm[at] or 0.0 for seed in seeds]
    gains = [seed.gradient_gain[at] or 0.0 for seed in seeds]
    if sick is not None and at < sick:
        norms = [norm / 10 for norm in norms]
    if sick == at:
        gains = [gain / 10 for gain in gains]
    gradient = replace(layer.gradient, norm=_mean(norms), gain=_mean(gains))
    spread = {
        "gradient.norm": (min(norms), max(norms)),
        "gradient.gain": (min(gains), max(gains)),
    }
    return replace(layer, gradient=gradient, spread=spread)


def _found(before: Measurements, after: Measurements) -> Finding | None:
    baseline = Baseline("b", before.layers, frozenset(), SEEDS, before.model.loss)
    case = Case(after, ProbePlan(), baseline=baseline)
    return GradientRegression().read(case).finding


def _pairs(name: str) -> Iterable[tuple[list[int], list[int]]]:
    """Two runs without an initialization in common."""
    draw = random.Random(name)
    for _ in range(RUNS):
        both = draw.sample(range(POOL), 2 * SEEDS)
        yield both[:SEEDS], both[SEEDS:]


@pytest.mark.parametrize("name", MODELS)
def test_an_unchanged_model_raises_none(name: str) -> None:
    alarms = [
        (before, after)
        for before, after in _pairs(name)
        if _found(_run(name, before), _run(name, after)) is not None
    ]
    assert alarms == []


@pytest.mark.parametrize("name", MODELS)
def test_a_tenfold_drop_in_any_layer_always_does(name: str) -> None:
    layers = _probed(name).layers
    for number, (before, after) in enumerate(_pairs(name)):
        sick = number % len(layers)
        found = _found(_run(name, before), _run(name, after, sick))
        assert found is not None, (before, after, sick)
        assert layers[sick].name in found.layers
        dropped = {one["layer"]: one["decades"] for one in found.evidence["drops"]}
        assert dropped[layers[sick].name] == pytest.approx(1.0, abs=0.6)
