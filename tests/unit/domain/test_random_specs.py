"""The grammar on specs nobody wrote: right ones resolve, wrong ones are told where."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings

from service.domain.architecture import (
    Architecture,
    InitCall,
    LayerNode,
    Parametrization,
    resolve,
)
from service.domain.errors import Fault, InvalidRequest
from tests.unit.domain.random_specs import (
    REPEATABLE,
    Network,
    Spec,
    leads_somewhere,
    networks,
    spoiled,
)


@settings(REPEATABLE, max_examples=200)
@given(networks())
def test_a_right_spec_resolves_to_what_it_says(network: Network) -> None:
    found = resolve(network.spec)
    assert len(found.layers) == network.layers
    assert found.layers[-1].output_shape == network.output.shape
    assert found.layers[-1].output_dtype == network.output.dtype
    inputs = [sample.name for sample in found.inputs]
    names = [*inputs, *(layer.name for layer in found.layers)]
    assert len({*names}) == len(names)
    for position, layer in enumerate(found.layers, start=len(inputs)):
        assert {*layer.inputs} <= {*names[:position]}
        assert layer.shares is None or layer.shares in names[:position]
        assert layer.init.keys() <= layer.parameters.keys()


@settings(REPEATABLE, max_examples=100)
@given(networks())
def test_the_expanded_network_written_out_means_the_same(network: Network) -> None:
    found = resolve(network.spec)
    again = resolve(_written_out(found))
    assert [_meaning(layer) for layer in again.layers] == [
        _meaning(layer) for layer in found.layers
    ]


@settings(REPEATABLE, max_examples=400)
@given(spoiled(networks().map(lambda network: network.spec)))
def test_a_wrong_spec_is_told_where(spec: Spec) -> None:
    for fault in _faults(spec):
        assert leads_somewhere(spec, fault.pointer), fault
        assert fault.detail


@pytest.mark.parametrize(
    ("spec", "pointers"),
    [
        (
            {"input": {"shape": [3]}, "layers": [{"type": "Linear", "args": None}]},
            ["/layers/0/args"],
        ),
        (
            {
                "input": {"shape": [3]},
                "layers": [
                    {
                        "type": "PReLU",
                        "init": {"weight": {"name": "constant_", "args": []}},
                    }
                ],
            },
            ["/layers/0/init/weight/args"],
        ),
        ({"input": {"shape": [3], "dtype": "int64"}}, ["/layers"]),
    ],
)
def test_what_is_no_object_or_missing_is_told_once(spec: Spec, pointers: list[str]) -> None:
    assert [fault.pointer for fault in _faults(spec)] == pointers


def _faults(spec: Spec) -> tuple[Fault, ...]:
    """None where the spec is right all the same."""
    try:
        resolve(spec)
    except InvalidRequest as error:
        return error.faults
    return ()


def _written_out(architecture: Architecture) -> Spec:
    """Every layer by itself, arguments filled in, dots gone from the names."""
    samples = [
        {"name": one.name, "shape": [*one.shape], "dtype": one.dtype} for one in architecture.inputs
    ]
    if len(samples) == 1:
        del samples[0]["name"]
    return {
        "input": samples if len(samples) > 1 else samples[0],
        "layers": [_entry(layer) for layer in architecture.layers],
    }


def _entry(layer: LayerNode) -> Spec:
    entry: Spec = {"name": _flat(layer.name), "inputs": [*map(_flat, layer.inputs)]}
    if layer.shares is not None:
        return entry | {"shares": _flat(layer.shares)}
    return entry | {
        "type": layer.type,
        "args": layer.args,
        "init": _calls(layer.init),
        "forward": layer.forward,
        "parametrizations": _calls(layer.parametrizations),
    }


def _calls(of: Mapping[str, InitCall] | Mapping[str, Parametrization]) -> Spec:
    return {name: {"name": call.name, "args": call.args} for name, call in of.items()}


def _meaning(layer: LayerNode) -> tuple[object, ...]:
    sources = tuple(map(_flat, layer.inputs))
    parameters = tuple(layer.parameters.items())
    calls = tuple(layer.init.items())
    told = (layer.forward, layer.parametrizations, _flat(layer.shares or ""))
    return layer.type, layer.args, sources, layer.output_shape, parameters, calls, *told


def _flat(name: str) -> str:
    return name.replace(".", "--")
