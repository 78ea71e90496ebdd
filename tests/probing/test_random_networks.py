"""The probe on networks nobody wrote: every number is finite, or counted as not finite."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Set
from typing import Any

from hypothesis import given, settings

from service.domain.architecture import resolve
from service.domain.errors import NotDifferentiable
from service.domain.measurements import LayerMeasurements, Measurements
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session
from tests.unit.domain.random_specs import REPEATABLE, Network, networks

PLAN = ProbePlan(batch_size=4, batches=1, seeds=1)


@settings(REPEATABLE, max_examples=120)
@given(networks())
def test_a_random_network_is_measured(network: Network) -> None:
    measured = _measured(network)
    if measured is None:
        return
    assert [path for path, number in _numbers(measured) if not math.isfinite(number)] == []
    uses = Counter(one.name for layer in measured.layers for one in layer.parameters)
    for layer in measured.layers:
        _check(layer, shared={name for name, count in uses.items() if count > 1})


def _measured(network: Network) -> Measurements | None:
    """None where nothing can be learnt: the network has no parameters, or none that matters."""
    architecture = resolve(network.spec)
    with warnings.catch_warnings():
        # torch warns of arguments without effect: dropout in a recurrent net of one layer.
        warnings.simplefilter("ignore")
        try:
            return Session.open(PLAN, architecture, None).measure()
        except NotDifferentiable:
            return None


def _check(layer: LayerMeasurements, shared: Set[str]) -> None:
    """What is not told was not finite, and was counted. A parameter that several uses of a layer
    share is reached although the gradient does not come by this one."""
    shown = layer.activation
    told = (shown.mean, shown.std, shown.rms, shown.abs_max)
    assert (None in told) == (shown.nonfinite_count > 0), layer
    assert layer.output_shape, layer
    for parameter in layer.parameters:
        assert (parameter.rms is None) == (parameter.nonfinite_count > 0), parameter
        reached = parameter.grad_norm is not None or parameter.grad_nonfinite_count > 0
        assert parameter.connected == reached, parameter
    gradient = layer.gradient
    assert gradient.gain is None or gradient.gain >= 0
    own = [parameter for parameter in layer.parameters if parameter.name not in shared]
    if any(parameter.grad_norm is not None for parameter in own):
        came = (gradient.rms, gradient.norm, gradient.abs_max)
        assert (None in came) == (gradient.nonfinite_count > 0), layer


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every float in the measurements."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict | tuple | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _numbers(item, f"{path}.{name}")
    elif isinstance(value, float):
        yield path, value
