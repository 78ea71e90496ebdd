"""A repaired spec, and the patch that leads to it, against the same change on the flat network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.domain.architecture import Architecture, InitCall, LayerNode, resolve
from service.recommendation.repaired import Repaired, repaired
from tests.unit.domain.random_specs import REPEATABLE, Network, Spec, networks
from tests.unit.domain.test_expanded import meaning
from tests.unit.recommendation.random_changes import initializations, normalizations

LINEAR = {"type": "Linear", "args": {"out_features": 4}}


@hypothesis_settings(REPEATABLE, max_examples=150)
@given(network=networks(), data=st.data())
def test_patch_spec_and_flat_network_agree(network: Network, data: st.DataObject) -> None:
    before = resolve(network.spec)
    changes = [data.draw(normalizations(before)), data.draw(initializations(before))]
    done = repaired(before, changes)
    assert done is not None
    after = resolve(jsonpatch.apply_patch(network.spec, list(done.patch)))
    assert meaning(after) == meaning(resolve(done.spec))
    assert meaning(after) == meaning(_changed(before, changes))
    _written_out_for_torch_alone(done, before)


def _written_out_for_torch_alone(done: Repaired, before: Architecture) -> None:
    names = [layer["name"] for layer in done.spec["layers"]]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and not name.startswith("_") for name in names)
    assert not any("layers" in layer for layer in done.spec["layers"])
    assert len(set(done.names.values())) == len(done.names)
    types = {layer["name"]: layer.get("type") for layer in done.spec["layers"]}
    for node in before.layers:
        if node.parameters:
            assert types[done.names[node.name]] == node.type


def _changed(before: Architecture, changes: list[dict[str, Any]]) -> Architecture:
    """The same on the list of nodes, where nothing is in the way."""
    normalized, initialized = changes
    nodes: list[LayerNode] = []
    now: dict[str, str] = {}
    added = {one["after"]: one for one in normalized["layers"]}
    calls = {one["parameter"]: one for one in initialized["parameters"]}
    for node in before.layers:
        init = {
            key: InitCall(new["initializer"], dict(new["args"]))
            if (new := calls.get(f"{node.name}.{key}"))
            else node.init[key]
            for key in node.parameters
            if key in node.init or f"{node.name}.{key}" in calls
        }
        inputs = tuple(now.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs, init=init))
        if node.name in added:
            now[node.name] = f"{node.name}.norm"
            width = added[node.name]["args"]["normalized_shape"]
            nodes.append(
                replace(
                    node,
                    name=now[node.name],
                    type="LayerNorm",
                    args=added[node.name]["args"],
                    inputs=(node.name,),
                    init={},
                    parameters={"weight": (width,), "bias": (width,)},
                    forward={},
                    parametrizations={},
                    shares=None,
                )
            )
    return replace(before, layers=tuple(nodes))


def test_repetitions_that_differ_are_written_out() -> None:
    spec: Spec = {
        "input": {"shape": [4]},
        "layers": [{"name": "body", "repeat": 3, "layers": [LINEAR | {"name": "fc"}]}],
    }
    done = repaired(resolve(spec), [_zeros("body.1.fc.weight")])
    assert done is not None
    first, *rest = done.patch
    assert (first["op"], first["path"]) == ("replace", "/layers/0")
    assert [one["name"] for one in first["value"]["layers"]] == ["0", "1", "2"]
    assert [one["path"] for one in rest] == ["/layers/0/layers/1/layers/0/init"]
    assert ["init" in layer for layer in done.spec["layers"]] == [False, True, False]


def test_repetitions_that_agree_stay_together() -> None:
    spec: Spec = {
        "input": {"shape": [4]},
        "layers": [{"name": "body", "repeat": 3, "layers": [LINEAR | {"name": "fc"}]}],
    }
    change = _zeros(*(f"body.{turn}.fc.weight" for turn in range(3)))
    done = repaired(resolve(spec), [change])
    assert done is not None
    assert [one["path"] for one in done.patch] == ["/layers/0/layers/0/init"]


def test_a_group_that_cannot_be_written_out_in_place_is_in_the_whole_network() -> None:
    """The layer 0 outside would be hidden by the repetition 0."""
    inside = [LINEAR | {"name": "fc"}, {"name": "sum", "type": "Add", "inputs": ["fc", "0"]}]
    spec: Spec = {
        "input": {"shape": [4]},
        "layers": [LINEAR | {"name": "0"}, {"name": "body", "repeat": 2, "layers": inside}],
    }
    done = repaired(resolve(spec), [_zeros("body.1.fc.weight")])
    assert done is not None
    assert done.patch[0]["path"] == "/layers"
    after = resolve(jsonpatch.apply_patch(spec, list(done.patch)))
    assert meaning(after) == meaning(resolve(done.spec))
    assert done.names["body.1.fc"] == "body_1_fc"


def test_readers_by_name_read_what_was_inserted() -> None:
    spec: Spec = {
        "input": {"shape": [4]},
        "layers": [
            {"name": "a", "layers": [LINEAR | {"name": "fc"}, {"name": "act", "type": "Tanh"}]},
            {"name": "sum", "type": "Add", "inputs": ["a", "a.fc"]},
        ],
    }
    norm = {"after": "a.fc", "type": "LayerNorm", "args": {"normalized_shape": 4}}
    done = repaired(resolve(spec), [{"kind": "normalization", "layers": [norm]}])
    assert done is not None
    *_, total = done.spec["layers"]
    assert total["inputs"] == ["a_act", "a_fc_norm"]
    assert done.names["a_fc_norm"] == "a_fc_norm"


def test_default_names_of_layers_with_parameters_stay() -> None:
    spec: Spec = {"input": {"shape": [4]}, "layers": [LINEAR, {"type": "ReLU"}, LINEAR]}
    norm = {"after": "layer0", "type": "LayerNorm", "args": {"normalized_shape": 4}}
    change = {"kind": "normalization", "layers": [norm]}
    done = repaired(resolve(spec), [change, _zeros("layer2.weight")])
    assert done is not None
    names = [layer["name"] for layer in done.spec["layers"]]
    assert names == ["layer0", "layer0_norm", "layer1", "layer2"]
    assert "init" in done.spec["layers"][3]


def test_only_activations_of_the_named_layers_are_exchanged() -> None:
    spec: Spec = {
        "input": {"shape": [4]},
        "layers": [
            {"name": "first", "type": "Tanh"},
            {"name": "body", "repeat": 2, "layers": [LINEAR, {"name": "act", "type": "Tanh"}]},
            LINEAR | {"name": "out"},
            {"name": "last", "type": "Tanh"},
        ],
    }
    layers = ["body.0.layer0", "body.1.layer0"]
    change = {"kind": "activation", "layers": layers, "activation": "ReLU", "replaces": "Tanh"}
    done = repaired(resolve(spec), [change])
    assert done is not None
    kinds = [layer["type"] for layer in done.spec["layers"]]
    assert kinds == ["Tanh", "Linear", "ReLU", "Linear", "ReLU", "Linear", "Tanh"]
    assert [one["path"] for one in done.patch] == ["/layers/1/layers/1/type"]
    one = repaired(resolve(spec), [change | {"layers": layers[1:]}])
    assert one is not None
    kinds = [layer["type"] for layer in one.spec["layers"]]
    assert kinds == ["Tanh", "Linear", "Tanh", "Linear", "ReLU", "Linear", "Tanh"]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "clipping"},
        {
            "kind": "initializer",
            "parameters": [{"parameter": "no.weight", "initializer": "zeros_"}],
        },
        {"kind": "normalization", "layers": [{"after": "no", "type": "LayerNorm"}]},
        {"kind": "activation", "layers": ["fc"], "activation": "ReLU", "replaces": "Tanh"},
    ],
    ids=lambda change: str(change["kind"]),
)
def test_what_cannot_be_said_is_not(change: dict[str, Any]) -> None:
    spec: Spec = {"input": {"shape": [4]}, "layers": [LINEAR | {"name": "fc"}]}
    assert repaired(resolve(spec), [change]) is None


def _zeros(*parameters: str) -> dict[str, Any]:
    draws = [{"parameter": name, "initializer": "zeros_", "args": {}} for name in parameters]
    return {"kind": "initializer", "parameters": draws}
